//! The extension module `taskloom._taskloom`: convert, call, convert back.
use pyo3::prelude::*;

mod actors;
mod aio;
mod allocator;
mod cli;
mod client;
mod cluster;
mod codec;
mod control;
mod coordination;
mod ending;
mod errors;
mod executor;
mod forked;
mod functions;
mod future;
mod gather;
mod graph;
mod interrupt;
mod keys;
mod neighbours;
mod numpy_memory;
mod objects;
mod options;
mod plain;
mod questions;
mod replay;
mod running;
mod scatter;
mod serializer;
mod spill;
mod submit;
mod submit_many;
mod tokens;
mod turn;
mod values;
mod waiting;
mod worker;

#[pymodule]
fn _taskloom(module: &Bound<'_, PyModule>) -> PyResult<()> {
    allocator::tune();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    client::register(module)?;
    graph::register(module)?;
    replay::register(module)?;
    cli::register(module)?;
    control::register(module)?;
    actors::register(module)?;
    worker::register(module)?;
    module.add_function(wrap_pyfunction!(ending::keep_threads_out, module)?)
}
