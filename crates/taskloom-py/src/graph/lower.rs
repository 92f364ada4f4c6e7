//! From a dask node to the body of a task: nested nodes become nested items, fused tasks become
//! steps, so that a worker needs no dask to run them and orders nothing at run time.

use super::constants::Constants;
use super::legacy::Part;
use super::nodes::{Input, Node, NodeTypes, Nodes, is_exactly};
use crate::codec::{Dependencies, NoDependencies, Writer};
use hashbrown::HashMap;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};
use smallvec::SmallVec;
use taskloom_proto::Body;
use taskloom_types::{FunctionId, Handle};

/// Nodes nested deeper than this are pickled whole, and run by dask's own code in the worker.
const MAX_NESTING: usize = 24;

/// What the graph needs from the client.
pub(super) trait Session<'py> {
    /// The id by which workers know a function (or any object that is sent once).
    fn function(&mut self, function: &Bound<'py, PyAny>) -> PyResult<FunctionId>;

    /// The handle behind a future of this client; `None` when `object` is no future.
    fn future(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<Handle>>;

    fn is_future(&self, object: &Bound<'_, PyAny>) -> bool;

    /// Puts data that is too large for a task on a worker; `None` when that is not offered.
    fn scatter(&mut self, object: &Bound<'py, PyAny>) -> PyResult<Option<Handle>>;
}

/// A converted node.
pub(super) struct Lowered {
    pub functions: SmallVec<[FunctionId; 2]>,
    /// What the body refers to, by position.
    pub inputs: SmallVec<[Input; 2]>,
    pub body: Body,
    /// The function that gives the result, when it is one of `functions`.
    pub root_function: Option<FunctionId>,
}

/// Converts the nodes of one graph, one by one.
pub(super) struct Lowering<'a, 'py, S> {
    nodes: &'a Nodes<'py>,
    types: &'static NodeTypes,
    pub session: S,
    constants: Constants<'py>,
    /// Large data by address; holding the object keeps the address its own.
    scattered: HashMap<usize, (Bound<'py, PyAny>, Handle)>,
    writer: Writer,
    task: Inputs,
    scopes: Vec<Scope<'py>>,
    /// Per step of the task: where the writer's last reference to it is.
    steps: Vec<Option<usize>>,
}

/// Functions and dependencies of the task that is being written.
#[derive(Default)]
struct Inputs {
    functions: SmallVec<[FunctionId; 2]>,
    inputs: SmallVec<[Input; 2]>,
    /// Filled once `inputs` is too long to be searched.
    positions: HashMap<Input, u32>,
    root_function: Option<FunctionId>,
}

impl Inputs {
    const SEARCHED: usize = 8;

    fn dependency(&mut self, input: Input) -> u32 {
        if self.inputs.len() <= Self::SEARCHED {
            if let Some(position) = self.inputs.iter().position(|&known| known == input) {
                return position as u32;
            }
        } else {
            if self.positions.is_empty() {
                self.positions.extend(self.inputs.iter().copied().zip(0..));
            }
            if let Some(&position) = self.positions.get(&input) {
                return position;
            }
            self.positions.insert(input, self.inputs.len() as u32);
        }
        self.inputs.push(input);
        self.inputs.len() as u32 - 1
    }

    fn function(&mut self, id: FunctionId) -> u32 {
        if let Some(position) = self.functions.iter().position(|&known| known == id) {
            return position as u32;
        }
        self.functions.push(id);
        self.functions.len() as u32 - 1
    }
}

/// Futures inside arguments, as the codec asks for them.
struct Futures<'a, S> {
    session: &'a S,
    task: &'a mut Inputs,
    met_one: bool,
}

impl<'py, S: Session<'py>> Dependencies for Futures<'_, S> {
    fn is_dependency(&self, object: &Bound<'_, PyAny>) -> bool {
        self.session.is_future(object)
    }

    fn position(&mut self, object: &Bound<'_, PyAny>) -> PyResult<u32> {
        self.met_one = true;
        let handle = self.session.future(object)?;
        let handle = handle.ok_or_else(|| PyTypeError::new_err("not a future of this client"))?;
        Ok(self.task.dependency(Input::Known(handle)))
    }
}

/// What a name means inside a task.
#[derive(Clone, Copy)]
enum Meaning {
    Input(Input),
    /// The result of an earlier step of the same task.
    Step(u32),
}

/// The names inside a fused task.
struct Scope<'py> {
    /// Key to position in `meanings`.
    names: Bound<'py, PyDict>,
    meanings: Vec<Meaning>,
}

impl<'py> Scope<'py> {
    fn set(&mut self, name: &Bound<'py, PyAny>, meaning: Meaning) -> PyResult<()> {
        self.names.set_item(name, self.meanings.len())?;
        self.meanings.push(meaning);
        Ok(())
    }

    fn get(&self, name: &Bound<'py, PyAny>) -> PyResult<Option<Meaning>> {
        let Some(position) = self.names.get_item(name)? else { return Ok(None) };
        Ok(self.meanings.get(position.extract::<usize>()?).copied())
    }
}

/// The arguments of a fused task.
struct Subgraph<'py> {
    inner: Bound<'py, PyDict>,
    output: Bound<'py, PyAny>,
    names: Bound<'py, PyTuple>,
    inputs: Vec<Bound<'py, PyAny>>,
}

impl<'py> Subgraph<'py> {
    /// `None` when the task does not look as dask makes them.
    fn of(args: &Bound<'py, PyTuple>) -> Option<Self> {
        Some(Self {
            inner: args.get_item(0).ok()?.cast_into_exact().ok()?,
            output: args.get_item(1).ok()?,
            names: args.get_item(2).ok()?.cast_into_exact().ok()?,
            inputs: args.iter().skip(3).collect(),
        })
    }
}

fn nested_circle(key: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("the fused task around {key} depends on itself"))
}

impl<'a, 'py, S: Session<'py>> Lowering<'a, 'py, S> {
    pub fn new(py: Python<'py>, nodes: &'a Nodes<'py>, session: S) -> PyResult<Self> {
        Ok(Self {
            nodes,
            types: NodeTypes::get(py)?,
            session,
            constants: Constants::default(),
            scattered: HashMap::new(),
            writer: Writer::contiguous(),
            task: Inputs::default(),
            scopes: Vec::new(),
            steps: Vec::new(),
        })
    }

    pub fn node(&self, number: u32) -> &'a Node<'py> {
        &self.nodes.nodes[number as usize]
    }

    /// Converts one node.
    pub fn task(&mut self, number: u32) -> PyResult<Lowered> {
        let node = self.node(number);
        self.writer.clear();
        self.scopes.clear();
        self.steps.clear();
        self.task = Inputs::default();
        match node.is_node {
            true => self.expression(&node.spec, 0)?,
            false => self.tuples(&node.spec)?,
        }
        Ok(Lowered {
            functions: std::mem::take(&mut self.task.functions),
            inputs: std::mem::take(&mut self.task.inputs),
            root_function: self.task.root_function,
            body: Body::from_slice(self.writer.as_slice()),
        })
    }

    /// Writes what a node, a reference or a plain argument evaluates to.
    fn expression(&mut self, object: &Bound<'py, PyAny>, nesting: usize) -> PyResult<()> {
        let py = object.py();
        let types = self.types;
        if is_exactly(object, &types.task_ref) {
            return self.reference(&object.getattr(intern!(py, "key"))?);
        }
        if is_exactly(object, &types.task) {
            return self.nested(object, nesting, Self::call);
        }
        if is_exactly(object, &types.alias) {
            return self.reference(&object.getattr(intern!(py, "target"))?);
        }
        if is_exactly(object, &types.data_node) {
            // dask's own client has its futures be references, which never end up in data.
            return self.value(&object.getattr(intern!(py, "value"))?);
        }
        if is_exactly(object, &types.list) {
            return self.nested(object, nesting, |this, node, nesting| {
                let items = arguments(node)?;
                this.writer.start_list(items.len())?;
                this.all(&items, nesting)
            });
        }
        if is_exactly(object, &types.dict) {
            return self.nested(object, nesting, |this, node, nesting| {
                let items = arguments(node)?;
                this.writer.start_dict(items.len() / 2)?;
                this.all(&items, nesting)
            });
        }
        if is_exactly(object, &types.tuple) {
            return self.nested(object, nesting, |this, node, nesting| {
                let items = arguments(node)?;
                this.writer.start_tuple(items.len())?;
                this.all(&items, nesting)
            });
        }
        if is_exactly(object, &types.set) {
            return self.nested(object, nesting, |this, node, nesting| {
                let items = arguments(node)?;
                this.writer.start_set(items.len())?;
                this.all(&items, nesting)
            });
        }
        if is_scalar(object) {
            return self.writer.object(object, &mut NoDependencies);
        }
        if object.is_instance(types.graph_node.bind(py).as_any())? {
            return self.foreign(object);
        }
        if object.is_instance(types.task_ref.bind(py).as_any())? && !self.session.is_future(object)
        {
            return self.reference(&object.getattr(intern!(py, "key"))?);
        }
        self.value(object)
    }

    /// Writes a part of a task of tuples.
    fn tuples(&mut self, object: &Bound<'py, PyAny>) -> PyResult<()> {
        match self.nodes.keys().part(object)? {
            Part::Key => self.reference(object),
            Part::List(items) => {
                self.writer.start_list(items.len())?;
                items.iter().try_for_each(|item| self.tuples(&item))
            }
            Part::Tuple(items) => {
                self.writer.start_tuple(items.len())?;
                items.iter().try_for_each(|item| self.tuples(&item))
            }
            Part::Call(call) => {
                self.start_call(&call.get_item(0)?, call.len() - 1)?;
                call.iter().skip(1).try_for_each(|item| self.tuples(&item))?;
                self.writer.start_keywords(0)
            }
            Part::Literal if is_scalar(object) => self.writer.object(object, &mut NoDependencies),
            Part::Literal | Part::Unusual => self.value(object),
        }
    }

    /// Writes a node by its parts, unless it is nested too deep.
    fn nested(
        &mut self,
        node: &Bound<'py, PyAny>,
        nesting: usize,
        write: impl FnOnce(&mut Self, &Bound<'py, PyAny>, usize) -> PyResult<()>,
    ) -> PyResult<()> {
        if nesting >= MAX_NESTING {
            return self.foreign(node);
        }
        write(self, node, nesting + 1)
    }

    fn all(&mut self, items: &Bound<'py, PyTuple>, nesting: usize) -> PyResult<()> {
        items.iter().try_for_each(|item| self.expression(&item, nesting))
    }

    /// Writes the value of the task with this key.
    fn reference(&mut self, key: &Bound<'py, PyAny>) -> PyResult<()> {
        match self.meaning(key)? {
            Meaning::Input(input) => {
                let position = self.task.dependency(input);
                self.writer.dependency(position);
            }
            Meaning::Step(step) => {
                let place = self.writer.step(step);
                self.steps[step as usize] = Some(place);
            }
        }
        Ok(())
    }

    fn meaning(&self, key: &Bound<'py, PyAny>) -> PyResult<Meaning> {
        let meaning = match self.scopes.last() {
            Some(scope) => scope.get(key)?,
            None => self.nodes.input(key)?.map(Meaning::Input),
        };
        meaning.ok_or_else(|| {
            PyValueError::new_err(format!("a task uses {key}, which is not its dependency"))
        })
    }

    /// Writes an argument that is no node. Futures inside it become dependencies.
    fn value(&mut self, object: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Some(function) = self.constants.shared(object, &mut self.session)? {
            let position = self.task.function(function);
            self.writer.function(position);
            return Ok(());
        }
        if let Some(encoded) = self.constants.encoded(object) {
            self.writer.raw(encoded);
            return Ok(());
        }
        let start = self.writer.as_slice().len();
        if self.refer_to_scattered(object) {
            return Ok(());
        }
        let mut futures = Futures { session: &self.session, task: &mut self.task, met_one: false };
        if let Err(error) = self.writer.object(object, &mut futures) {
            let is_plain = !futures.met_one;
            return self.scatter(object, start, is_plain, error);
        }
        if !futures.met_one {
            self.constants.remember(object, &self.writer.as_slice()[start..]);
        }
        Ok(())
    }

    fn refer_to_scattered(&mut self, object: &Bound<'py, PyAny>) -> bool {
        let Some((_, handle)) = self.scattered.get(&(object.as_ptr() as usize)) else {
            return false;
        };
        let position = self.task.dependency(Input::Known(*handle));
        self.writer.dependency(position);
        true
    }

    /// After writing `object` failed: when it is too large for a task, it becomes an input.
    fn scatter(
        &mut self,
        object: &Bound<'py, PyAny>,
        start: usize,
        is_plain: bool,
        error: PyErr,
    ) -> PyResult<()> {
        if !self.writer.take_back(start) || !is_plain {
            return Err(error);
        }
        let Some(handle) = self.session.scatter(object)? else { return Err(error) };
        self.scattered.insert(object.as_ptr() as usize, (object.clone(), handle));
        self.refer_to_scattered(object);
        Ok(())
    }

    fn call(&mut self, node: &Bound<'py, PyAny>, nesting: usize) -> PyResult<()> {
        let py = node.py();
        let function = node.getattr(intern!(py, "func"))?;
        let args = arguments(node)?;
        let kwargs = node.getattr(intern!(py, "kwargs"))?.cast_into::<PyDict>()?;
        if function.is(&self.types.identity_cast) && self.cast(&args, &kwargs, nesting)? {
            return Ok(());
        }
        if function.is(&self.types.execute_subgraph)
            && kwargs.is_empty()
            && let Some(subgraph) = Subgraph::of(&args)
        {
            return self.subgraph(&subgraph, nesting);
        }
        self.start_call(&function, args.len())?;
        self.all(&args, nesting)?;
        self.writer.start_keywords(kwargs.len())?;
        for (name, value) in kwargs.iter() {
            self.writer.keyword(name.cast::<PyString>()?.to_str()?)?;
            self.expression(&value, nesting)?;
        }
        Ok(())
    }

    /// Begins a call with this many positional arguments.
    fn start_call(&mut self, function: &Bound<'py, PyAny>, arguments: usize) -> PyResult<()> {
        if let Some(id) = self.constants.function(function, &mut self.session)? {
            if self.writer.as_slice().is_empty() {
                self.task.root_function = Some(id);
            }
            let position = self.task.function(id);
            return self.writer.start_call(position, arguments);
        }
        self.writer.start_apply();
        self.value(function)?;
        self.writer.start_arguments(arguments)
    }

    /// Writes the container that a nested task makes of its arguments; false when it is none
    /// that the codec knows.
    fn cast(
        &mut self,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        nesting: usize,
    ) -> PyResult<bool> {
        let py = args.py();
        let Some(class) = kwargs.get_item(intern!(py, "typ"))? else { return Ok(false) };
        if class.is(py.get_type::<PyList>()) {
            self.writer.start_list(args.len())?;
        } else if class.is(py.get_type::<PyTuple>()) {
            self.writer.start_tuple(args.len())?;
        } else if class.is(py.get_type::<PySet>()) {
            self.writer.start_set(args.len())?;
        } else if class.is(py.get_type::<PyFrozenSet>()) {
            self.writer.start_frozen_set(args.len())?;
        } else {
            return Ok(false);
        }
        self.all(args, nesting)?;
        Ok(true)
    }

    /// Writes a fused task: each inner task that the output needs is a step, the output is last.
    fn subgraph(&mut self, subgraph: &Subgraph<'py>, nesting: usize) -> PyResult<()> {
        let py = subgraph.inner.py();
        let mut scope = Scope { names: PyDict::new(py), meanings: Vec::new() };
        let mut computed = Vec::new();
        for (name, input) in subgraph.names.iter().zip(&subgraph.inputs) {
            // A reference needs no step: the inner name is one more name of what it refers to.
            if is_exactly(input, &self.types.task_ref) {
                scope.set(&name, self.meaning(&input.getattr(intern!(py, "key"))?)?)?;
            } else {
                computed.push((name, input));
            }
        }
        let skip = |key: &Bound<'py, PyAny>| -> PyResult<bool> { subgraph.names.contains(key) };
        let order = inner_order(&subgraph.inner, &subgraph.output, skip)?;
        let Some(((_, last), before)) = order.split_last() else {
            return Err(nested_circle(&subgraph.output));
        };
        let first_step = self.steps.len();
        if computed.len() + before.len() > 0 {
            self.writer.start_steps(computed.len() + before.len())?;
        }
        for (name, input) in computed {
            self.expression(input, nesting)?;
            scope.set(&name, self.new_step())?;
        }
        self.scopes.push(scope);
        for (name, node) in before {
            self.expression(node, nesting)?;
            let step = self.new_step();
            if let Some(scope) = self.scopes.last_mut() {
                scope.set(name, step)?;
            }
        }
        self.expression(last, nesting)?;
        self.scopes.pop();
        for place in self.steps[first_step..].iter_mut().filter_map(Option::take) {
            // The last use of a step takes its result along, so that memory goes early.
            self.writer.mark_last_use(place);
        }
        Ok(())
    }

    fn new_step(&mut self) -> Meaning {
        self.steps.push(None);
        Meaning::Step(self.steps.len() as u32 - 1)
    }

    /// Writes a node that only dask knows how to run.
    fn foreign(&mut self, node: &Bound<'py, PyAny>) -> PyResult<()> {
        static RUN_NODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = node.py();
        let run_node = RUN_NODE.get_or_try_init(py, || {
            PyResult::Ok(py.import("taskloom._graph")?.getattr("run_node")?.unbind())
        })?;
        let id = self.session.function(run_node.bind(py))?;
        let keys = node.getattr(intern!(py, "dependencies"))?.try_iter()?;
        let keys = keys.collect::<PyResult<Vec<_>>>()?;
        let position = self.task.function(id);
        self.writer.start_call(position, 2 + keys.len())?;
        self.writer.object(node, &mut NoDependencies)?;
        self.writer.object(PyTuple::new(py, &keys)?.as_any(), &mut NoDependencies)?;
        for key in &keys {
            self.reference(key)?;
        }
        self.writer.start_keywords(0)
    }
}

/// Whether looking `object` up would cost more than writing it.
fn is_scalar(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_none()
}

fn arguments<'py>(node: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    Ok(node.getattr(intern!(node.py(), "args"))?.cast_into::<PyTuple>()?)
}

type InnerTask<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The inner tasks that `output` needs, dependencies first; `output` is the last.
fn inner_order<'py>(
    inner: &Bound<'py, PyDict>,
    output: &Bound<'py, PyAny>,
    is_input: impl Fn(&Bound<'py, PyAny>) -> PyResult<bool>,
) -> PyResult<Vec<InnerTask<'py>>> {
    // True once the task is placed; false while it waits on the stack for its inputs.
    let placed = PyDict::new(inner.py());
    let mut order = Vec::with_capacity(inner.len());
    let mut stack = vec![(output.clone(), false)];
    while let Some((key, inputs_done)) = stack.pop() {
        let Some(node) = inner.get_item(&key)? else { continue };
        if inputs_done {
            placed.set_item(&key, true)?;
            order.push((key, node));
            continue;
        }
        match placed.get_item(&key)? {
            Some(done) if done.is_truthy()? => continue,
            Some(_) => return Err(nested_circle(&key)),
            None => placed.set_item(&key, false)?,
        }
        let needed = node.getattr(intern!(inner.py(), "dependencies"))?;
        stack.push((key, true));
        for input in needed.try_iter()? {
            let input = input?;
            let done = placed.get_item(&input)?.map(|done| done.is_truthy()).transpose()?;
            if done != Some(true) && !is_input(&input)? {
                stack.push((input, false));
            }
        }
    }
    Ok(order)
}
