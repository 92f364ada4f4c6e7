//! `python -m taskloom …`: the command line inside a Python process.

use crate::worker::CoreWorker;
use pyo3::intern;
use pyo3::prelude::*;
use taskloom_cli::{PythonHost, WorkerOptions};
use taskloom_runtime::worker::WorkerConfig;

/// What the command line may ask of this interpreter.
struct Host {
    executable: String,
}

impl PythonHost for Host {
    fn python_executable(&self) -> String {
        self.executable.clone()
    }

    fn run_worker(&self, options: WorkerOptions) -> i32 {
        Python::attach(|py| run_worker(py, options).unwrap_or_else(|error| report(py, &error)))
    }
}

fn run_worker(py: Python<'_>, options: WorkerOptions) -> PyResult<i32> {
    let supervised = options.supervised;
    let directory = options.local_directory.map(|path| path.to_string_lossy().into_owned());
    let core = CoreWorker::new(WorkerConfig {
        name: options.name,
        nthreads: options.nthreads as usize,
        memory_limit: options.memory_limit,
        memory: options.memory,
        resources: options.resources,
        local_directory: directory.unwrap_or_default(),
        listen: options.listen,
        allow_insecure_network: options.allow_insecure_network,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        supervised,
        version: env!("CARGO_PKG_VERSION").into(),
    })?;
    let main = py.import(intern!(py, "taskloom._worker_main"))?;
    let code = main.call_method1(intern!(py, "run"), (core, options.scheduler, supervised))?;
    code.extract()
}

/// An error that is nobody's mistake in using the program.
fn report(py: Python<'_>, error: &PyErr) -> i32 {
    error.print(py);
    1
}

/// Run the command line with these arguments, the first of which is the program's name. Returns
/// the exit code.
#[pyfunction]
fn main(py: Python<'_>, argv: Vec<String>) -> PyResult<i32> {
    let sys = py.import(intern!(py, "sys"))?;
    let host = Host { executable: sys.getattr(intern!(py, "executable"))?.extract()? };
    Ok(py.detach(|| taskloom_cli::run(argv, &host)))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(main, module)?)
}
