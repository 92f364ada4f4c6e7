//! Dask graphs: numbering, ordering, conversion, and sending in pieces.
//!
//! - [`nodes`]: from a dict to numbered nodes; [`legacy`]: tasks of tuples in it.
//! - [`lower`]: from a node to a task's body; [`constants`]: what many tasks have in common.
//! - [`send`]: to the scheduler; [`local`]: or run here.

mod constants;
mod legacy;
mod local;
mod lower;
mod nodes;
mod send;

use crate::client::CoreClient;
use crate::options::CoreOptions;
use local::run_graph_locally;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use send::GraphSubmission;
use taskloom_core::order::{self, Dependencies};

/// Adds this part's functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(order_graph, module)?)?;
    module.add_function(wrap_pyfunction!(run_graph_locally, module)?)?;
    module.add_function(wrap_pyfunction!(submit_graph, module)?)
}

/// The position at which each node should run; `inputs` names the nodes that each one needs.
#[pyfunction]
#[pyo3(name = "order")]
fn order_graph(inputs: Vec<Vec<u32>>) -> PyResult<Vec<u32>> {
    let mut graph = Dependencies::with_capacity(inputs.len(), inputs.len());
    let nodes = inputs.len() as u32;
    for needed in inputs {
        if let Some(stranger) = needed.iter().find(|&&node| node >= nodes) {
            return Err(PyValueError::new_err(format!("there is no node {stranger}")));
        }
        graph.push(needed);
    }
    order::order(&graph)
        .map_err(|cycle| PyRuntimeError::new_err(format!("cycle of nodes: {:?}", cycle.path)))
}

/// Sends what the wanted keys of a graph need. Returns a future for each wanted key, and how
/// many bytes the tasks take that carry large objects.
///
/// `options` are all that occur; `option_of` names their positions by key, where it is not the
/// first.
#[pyfunction]
#[pyo3(signature = (client, graph, wanted, options, option_of, fifo_us))]
fn submit_graph<'py>(
    client: &Bound<'py, CoreClient>,
    graph: &Bound<'py, PyDict>,
    wanted: &Bound<'py, PyList>,
    options: Vec<Bound<'py, CoreOptions>>,
    option_of: &Bound<'py, PyDict>,
    fifo_us: u64,
) -> PyResult<(Vec<Bound<'py, PyAny>>, usize)> {
    let py = client.py();
    let core = client.get();
    core.check_open(py)?;
    let flags = options.iter().map(|options| options.get().flags).collect();
    let options = options.iter().map(|options| options.get().options.clone()).collect();
    let submission = GraphSubmission { graph, wanted, options, flags, option_of, fifo_us };
    let submitted = send::submit_graph(client, submission)?;
    let futures = submitted.futures.into_iter().map(|held| core.future(py, held));
    Ok((futures.collect::<PyResult<_>>()?, submitted.large_bytes))
}
