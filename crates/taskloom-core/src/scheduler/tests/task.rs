//! Builds submitted tasks: `future("y").needs(&["x"]).retries(2)`.

use taskloom_proto::TaskOptions;
use taskloom_proto::client::TaskSpec;
use taskloom_types::{Amount, Resources};

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

    /// Part of a dask graph.
    pub fn graph(mut self) -> Self {
        self.flags |= TaskSpec::GRAPH;
        self
    }
}
