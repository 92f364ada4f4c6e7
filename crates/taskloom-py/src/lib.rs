//! The extension module `taskloom._taskloom`: convert, call, convert back.
use pyo3::prelude::*;

mod codec;
mod aio;
mod client;
mod cluster;
mod errors;
mod future;
mod gather;
mod graph;
mod options;
mod questions;
mod scatter;
mod submit;
mod submit_many;
mod tokens;
mod values;
mod waiting;
mod worker;
mod serializer;
mod running;
mod objects;
mod keys;
mod functions;
mod executor;
mod cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
fn _taskloom(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    client::register(module)?;
    graph::register(module)?;
    cli::register(module)?;
    worker::register(module)
}
