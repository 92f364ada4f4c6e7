//! What a submission asks for beyond the call.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use taskloom_proto::TaskOptions;
use taskloom_types::{Amount, Resources};

/// The keywords of ``submit`` that concern placement, order and retries.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct CoreOptions {
    pub options: TaskOptions,
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
    #[pyo3(signature = (workers, allow_other_workers, resources, retries, priority))]
    fn new(
        workers: Vec<String>,
        allow_other_workers: bool,
        resources: Vec<(String, f64)>,
        retries: u32,
        priority: i32,
    ) -> PyResult<Self> {
        let resources = self::resources(resources)?;
        let options = TaskOptions { workers, allow_other_workers, resources, retries, priority };
        Ok(Self { options })
    }
}
