//! Builds submitted tasks: `future("y").needs(&["x"]).retries(2)`.

use taskloom_proto::TaskOptions;
use taskloom_proto::client::TaskSpec;
use taskloom_proto::policy::TaskPolicy;
use taskloom_types::{Amount, Nanos, Resources};

/// A task to be submitted, with its inputs by name.
#[derive(Debug, Clone)]
pub struct Task {
    pub key: String,
    pub inputs: Vec<String>,
    pub flags: u8,
    pub options: TaskOptions,
    pub order: Option<u64>,
    pub prefix: String,
    pub function: Option<&'static str>,
    pub arguments: u64,
}

/// A task that a future of the client waits for.
pub fn future(key: &str) -> Task {
    Task { flags: TaskSpec::WANTED, ..step(key) }
}

/// A task of a graph that nobody asked for by itself.
pub fn step(key: &str) -> Task {
    Task {
        key: key.into(),
        inputs: Vec::new(),
        flags: 0,
        options: TaskOptions::default(),
        order: None,
        prefix: "p".into(),
        function: None,
        arguments: 0,
    }
}

/// `gpu(1.0)`: what a task occupies, or what a worker has.
pub fn gpu(amount: f64) -> Resources {
    Resources::new(vec![("GPU".into(), Amount::from_f64(amount).unwrap())])
}

impl Task {
    pub fn needs(mut self, inputs: &[&str]) -> Self {
        self.inputs.extend(inputs.iter().map(ToString::to_string));
        self
    }

    pub fn priority(mut self, priority: i32) -> Self {
        self.options.priority = priority;
        self
    }

    pub fn order(mut self, order: u64) -> Self {
        self.order = Some(order);
        self
    }

    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// Retries with pauses of these lengths in ms; the last one is that of all further ones.
    pub fn pauses_ms(mut self, pauses: &[u64]) -> Self {
        let retries = self.options.retries;
        let retry = &mut self.policy().retry;
        retry.retries = retries;
        retry.delays_ns = pauses.iter().map(|ms| ms * Nanos::MILLISECOND).collect();
        self
    }

    /// Retries after these exceptions only, and not after those.
    pub fn retries_on(mut self, on: &[&str], not_on: &[&str]) -> Self {
        let retry = &mut self.policy().retry;
        retry.on = on.iter().map(ToString::to_string).collect();
        retry.not_on = not_on.iter().map(ToString::to_string).collect();
        self
    }

    pub fn limits_ms(mut self, timeout: u64, hard_timeout: u64) -> Self {
        self.policy().timeout_ns = timeout * Nanos::MILLISECOND;
        self.policy().hard_timeout_ns = hard_timeout * Nanos::MILLISECOND;
        self
    }

    pub fn cancel_grace_ms(mut self, grace: u64) -> Self {
        self.policy().cancel_grace_ns = Some(grace * Nanos::MILLISECOND);
        self
    }

    fn policy(&mut self) -> &mut TaskPolicy {
        self.options.policy.get_or_insert_default()
    }

    pub fn only_on(mut self, workers: &[&str]) -> Self {
        self.options.workers = workers.iter().map(ToString::to_string).collect();
        self
    }

    pub fn rather_on(mut self, workers: &[&str]) -> Self {
        self.options.allow_other_workers = true;
        self.only_on(workers)
    }

    pub fn gpu(mut self, amount: f64) -> Self {
        self.options.resources = gpu(amount);
        self
    }

    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What it does: a function that the client registers first.
    pub fn calls(mut self, function: &'static str) -> Self {
        self.function = Some(function);
        self
    }

    /// Tells it from other tasks of the same function.
    pub fn arguments(mut self, arguments: u64) -> Self {
        self.arguments = arguments;
        self
    }

    /// Its result is an actor.
    pub fn actor(mut self) -> Self {
        self.flags |= TaskSpec::ACTOR;
        self
    }

    /// Its result names what only its worker has.
    pub fn local(mut self) -> Self {
        self.flags |= TaskSpec::LOCAL;
        self
    }

    /// Its result names the results of its inputs.
    pub fn keeps_inputs(mut self) -> Self {
        self.flags |= TaskSpec::KEEPS_INPUTS;
        self
    }

    /// Part of a dask graph.
    pub fn graph(mut self) -> Self {
        self.flags |= TaskSpec::GRAPH;
        self
    }
}
