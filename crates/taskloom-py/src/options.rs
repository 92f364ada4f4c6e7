//! What a submission asks for beyond the call.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use taskloom_proto::TaskOptions;
use taskloom_proto::client::TaskSpec;
use taskloom_proto::policy::{RetryPolicy, TaskPolicy};
use taskloom_types::{Amount, Resources};

/// The keywords of ``submit`` that concern placement, order and retries.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct CoreOptions {
    pub options: TaskOptions,
    /// What kind of result it is: [`TaskSpec::ACTOR`] and its like.
    pub flags: u8,
}

/// The rarely used options of a task. Times are in seconds; 0 means none.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct CorePolicy {
    policy: TaskPolicy,
}

#[pymethods]
impl CorePolicy {
    #[new]
    #[pyo3(signature = (*, retries, delays, factor, max_delay, jitter, on, not_on, timeout,
                        hard_timeout, cancel_grace))]
    fn new(
        retries: u32,
        delays: Vec<f64>,
        factor: f64,
        max_delay: f64,
        jitter: f64,
        on: Vec<String>,
        not_on: Vec<String>,
        timeout: f64,
        hard_timeout: f64,
        cancel_grace: Option<f64>,
    ) -> Self {
        let retry = RetryPolicy {
            retries,
            delays_ns: delays.into_iter().map(nanos).collect(),
            factor_permille: permille(factor),
            max_delay_ns: nanos(max_delay),
            jitter_permille: permille(jitter),
            on,
            not_on,
        };
        let policy = TaskPolicy {
            retry,
            timeout_ns: nanos(timeout),
            hard_timeout_ns: nanos(hard_timeout),
            cancel_grace_ns: cancel_grace.map(nanos),
        };
        Self { policy }
    }
}

/// Seconds in ns; what is no number or below 0 becomes 0, what is too large the largest integer.
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn permille(share: f64) -> u32 {
    (share * 1000.0).round() as u32
}

/// Named amounts.
///
/// # Errors
/// `ValueError` for an amount that is negative or no number.
pub fn resources(entries: Vec<(String, f64)>) -> PyResult<Resources> {
    let amounts = entries.into_iter().map(|(name, amount)| {
        let value = Amount::from_f64(amount).ok_or_else(|| {
            PyValueError::new_err(format!("resource {name}: {amount} is no amount"))
        })?;
        Ok((name, value))
    });
    Ok(Resources::new(amounts.collect::<PyResult<_>>()?))
}

#[pymethods]
impl CoreOptions {
    #[new]
    #[pyo3(signature = (workers, allow_other_workers, resources, retries, priority, policy=None,
                        is_actor=false, role=""))]
    fn new(
        workers: Vec<String>,
        allow_other_workers: bool,
        resources: Vec<(String, f64)>,
        retries: u32,
        priority: i32,
        policy: Option<&Bound<'_, CorePolicy>>,
        is_actor: bool,
        role: &str,
    ) -> PyResult<Self> {
        let resources = self::resources(resources)?;
        let policy = policy.map(|policy| Box::new(policy.get().policy.clone()));
        let options =
            TaskOptions { workers, allow_other_workers, resources, retries, priority, policy };
        let flags = if is_actor { TaskSpec::ACTOR } else { 0 } | flags_of_role(role)?;
        Ok(Self { options, flags })
    }
}

/// What a task of a shuffle is to the scheduler.
fn flags_of_role(role: &str) -> PyResult<u8> {
    match role {
        "" => Ok(0),
        "shards" => Ok(TaskSpec::LOCAL),
        "barrier" => Ok(TaskSpec::KEEPS_INPUTS),
        other => Err(PyValueError::new_err(format!("a task has no role {other:?}"))),
    }
}
