//! Running a graph in the calling thread, with the conversion that workers see.

use super::lower::{Lowered, Lowering, Session};
use super::nodes::{Collector, Input};
use crate::codec::{Work, decode_body};
use hashbrown::HashMap;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use taskloom_types::{FunctionId, Handle};

/// Functions by address: nothing leaves the process.
#[derive(Default)]
struct Local {
    functions: Vec<Py<PyAny>>,
    ids: HashMap<usize, FunctionId>,
}

impl<'py> Session<'py> for Local {
    fn function(&mut self, function: &Bound<'py, PyAny>) -> PyResult<FunctionId> {
        Ok(*self.ids.entry(function.as_ptr() as usize).or_insert_with(|| {
            self.functions.push(function.clone().unbind());
            FunctionId(self.functions.len() as u128 - 1)
        }))
    }

    fn future(&self, _object: &Bound<'_, PyAny>) -> PyResult<Option<Handle>> {
        Ok(None)
    }

    fn is_future(&self, _object: &Bound<'_, PyAny>) -> bool {
        false
    }

    fn scatter(&mut self, _object: &Bound<'py, PyAny>) -> PyResult<Option<Handle>> {
        Ok(None)
    }
}

/// Runs a graph of nodes here and gives the values of `keys`: for finding out, with a debugger,
/// what a task does when it runs in a worker.
#[pyfunction]
pub fn run_graph_locally<'py>(
    graph: &Bound<'py, PyDict>,
    keys: &Bound<'py, PyList>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = graph.py();
    let nothing_known = |_: &Bound<'py, PyAny>| Ok(None);
    let mut collector = Collector::new(graph, &nothing_known)?;
    for key in keys.iter() {
        collector.want(&key)?;
    }
    let nodes = collector.finish()?;
    let positions = nodes.order()?;
    let mut sequence: Vec<u32> = (0..positions.len() as u32).collect();
    sequence.sort_unstable_by_key(|&node| positions[node as usize]);
    let users = nodes.dependencies.reversed();
    let mut waiting: Vec<usize> = (0..positions.len() as u32).map(|n| users.of(n).len()).collect();
    let mut values: Vec<Option<Py<PyAny>>> = positions.iter().map(|_| None).collect();
    let mut lowering = Lowering::new(py, &nodes, Local::default())?;
    for node in sequence {
        let lowered = lowering.task(node)?;
        let value = run(py, &lowered, &lowering.session.functions, &values)?;
        values[node as usize] = Some(value);
        for &input in nodes.dependencies.of(node) {
            waiting[input as usize] -= 1;
            if waiting[input as usize] == 0 && !nodes.nodes[input as usize].wanted {
                values[input as usize] = None;
            }
        }
    }
    let value = |key: Bound<'py, PyAny>| -> PyResult<_> {
        Ok(match nodes.input(&key)? {
            Some(Input::Node(node)) => values[node as usize].as_ref().map(|v| v.bind(py).clone()),
            _ => None,
        })
    };
    keys.iter().map(|key| Ok(value(key)?.unwrap_or_else(|| py.None().into_bound(py)))).collect()
}

fn run(
    py: Python<'_>,
    task: &Lowered,
    functions: &[Py<PyAny>],
    values: &[Option<Py<PyAny>>],
) -> PyResult<Py<PyAny>> {
    let functions: Vec<_> =
        task.functions.iter().map(|id| functions[id.0 as usize].clone_ref(py)).collect();
    let value_of = |input: &Input| {
        let value = match input {
            Input::Node(node) => values[*node as usize].as_ref(),
            Input::Known(_) => None,
        };
        value.map_or_else(|| py.None(), |value| value.clone_ref(py))
    };
    let inputs: Vec<_> = task.inputs.iter().map(value_of).collect();
    match decode_body(py, &task.body, &functions, &inputs)? {
        Work::Call { function, args, kwargs } => Ok(function.call(args, kwargs.as_ref())?.unbind()),
        Work::Value(value) => Ok(value.unbind()),
    }
}
