//! From a dict of dask nodes to numbered nodes: culled, aliases resolved, inputs as numbers.

use super::legacy::{Keys, Part, convert};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use taskloom_core::order::{Cycle, Dependencies, order};
use taskloom_types::Handle;

/// The classes and functions of `dask._task_spec` that are converted natively.
pub(super) struct NodeTypes {
    pub graph_node: Py<PyType>,
    pub task_ref: Py<PyType>,
    pub alias: Py<PyType>,
    pub data_node: Py<PyType>,
    pub task: Py<PyType>,
    pub list: Py<PyType>,
    pub tuple: Py<PyType>,
    pub set: Py<PyType>,
    pub dict: Py<PyType>,
    /// `func` of a task that several tasks were fused into.
    pub execute_subgraph: Py<PyAny>,
    /// `func` of a nested task that makes a list, tuple or set of its arguments.
    pub identity_cast: Py<PyAny>,
}

impl NodeTypes {
    pub fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static TYPES: PyOnceLock<NodeTypes> = PyOnceLock::new();
        TYPES.get_or_try_init(py, || {
            let module = py.import("dask._task_spec")?;
            let class = |name: &str| -> PyResult<Py<PyType>> {
                Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            Ok(Self {
                graph_node: class("GraphNode")?,
                task_ref: class("TaskRef")?,
                alias: class("Alias")?,
                data_node: class("DataNode")?,
                task: class("Task")?,
                list: class("List")?,
                tuple: class("Tuple")?,
                set: class("Set")?,
                dict: class("Dict")?,
                execute_subgraph: module.getattr("_execute_subgraph")?.unbind(),
                identity_cast: module.getattr("_identity_cast")?.unbind(),
            })
        })
    }
}

/// Whether `object` is exactly of this class: subclasses may behave differently.
pub(super) fn is_exactly(object: &Bound<'_, PyAny>, class: &Py<PyType>) -> bool {
    object.get_type().as_ptr() == class.as_ptr()
}

/// What a key stands for where a task refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Input {
    /// A task of this graph.
    Node(u32),
    /// A task that the client submitted before.
    Known(Handle),
}

/// A graph that is ready to be converted.
pub(super) struct Nodes<'py> {
    /// Key to raw number, of all nodes of the dict and of all known keys that were met.
    index: Bound<'py, PyDict>,
    /// Raw number to what it stands for.
    inputs: Vec<Input>,
    /// Keys of the dict have smaller raw numbers.
    key_count: usize,
    /// The nodes that shall run, in the order of the dict.
    pub nodes: Vec<Node<'py>>,
    pub dependencies: Dependencies,
}

/// One node that shall run.
pub(super) struct Node<'py> {
    pub key: Bound<'py, PyAny>,
    pub spec: Bound<'py, PyAny>,
    /// Whether `spec` is a dask node; else it is a task of tuples.
    pub is_node: bool,
    /// The key that `spec` had before it took the place of an alias.
    pub origin: Bound<'py, PyAny>,
    pub wanted: bool,
}

impl<'py> Nodes<'py> {
    /// What `key` stands for; `None` when no task of the graph depends on it.
    pub fn input(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Input>> {
        let Some(number) = self.index.get_item(key)? else { return Ok(None) };
        Ok(self.inputs.get(number.extract::<usize>()?).copied())
    }

    /// The keys that mean a value in tasks of tuples.
    pub fn keys(&self) -> Keys<'_, 'py> {
        Keys { index: &self.index, count: self.key_count }
    }

    /// The positions at which the nodes should run.
    pub fn order(&self) -> PyResult<Vec<u32>> {
        order(&self.dependencies).map_err(|Cycle { path }| {
            cycle_error(path.iter().map(|&node| &self.nodes[node as usize].key))
        })
    }
}

fn cycle_error<'a, 'py: 'a>(keys: impl Iterator<Item = &'a Bound<'py, PyAny>>) -> PyErr {
    let mut names: Vec<String> = keys.map(|key| name_of(key)).collect();
    names.extend(names.first().cloned());
    PyRuntimeError::new_err(format!("cycle in the graph: {}", names.join(" -> ")))
}

/// A key as people should read it.
fn name_of(key: &Bound<'_, PyAny>) -> String {
    key.repr().map_or_else(|_| "<key>".into(), |text| text.to_string_lossy().into_owned())
}

/// What collecting found out about a node of the dict.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Unseen,
    /// Its edges are `edges[start..end]`.
    Needed {
        start: u32,
        end: u32,
    },
    Known(Handle),
}

/// Walks from the wanted keys to all that they need.
pub(super) struct Collector<'a, 'py> {
    types: &'static NodeTypes,
    /// The handle of a key that the client already has.
    known: &'a dyn Fn(&Bound<'py, PyAny>) -> PyResult<Option<Handle>>,
    graph: Bound<'py, PyDict>,
    index: Bound<'py, PyDict>,
    keys: Vec<Bound<'py, PyAny>>,
    specs: Vec<Bound<'py, PyAny>>,
    found: Vec<Found>,
    wanted: Vec<bool>,
    is_node: Vec<bool>,
    is_alias: Vec<bool>,
    edges: Vec<u32>,
}

impl<'a, 'py> Collector<'a, 'py> {
    /// `known`: the handle of a key that the client already holds.
    pub fn new(
        graph: &Bound<'py, PyDict>,
        known: &'a dyn Fn(&Bound<'py, PyAny>) -> PyResult<Option<Handle>>,
    ) -> PyResult<Self> {
        let py = graph.py();
        let index = PyDict::new(py);
        let (mut keys, mut specs) = (Vec::with_capacity(graph.len()), Vec::new());
        specs.reserve(graph.len());
        for (number, (key, spec)) in graph.iter().enumerate() {
            index.set_item(&key, number)?;
            keys.push(key);
            specs.push(spec);
        }
        Ok(Self {
            types: NodeTypes::get(py)?,
            known,
            index,
            found: vec![Found::Unseen; keys.len()],
            wanted: vec![false; keys.len()],
            is_node: vec![false; keys.len()],
            is_alias: vec![false; keys.len()],
            graph: graph.clone(),
            keys,
            specs,
            edges: Vec::new(),
        })
    }

    /// The raw number of a key of the graph or of the client.
    fn number(&mut self, key: &Bound<'py, PyAny>) -> PyResult<Option<u32>> {
        if let Some(number) = self.index.get_item(key)? {
            return Ok(Some(number.extract()?));
        }
        let Some(handle) = (self.known)(key)? else { return Ok(None) };
        let number = self.found.len() as u32;
        self.index.set_item(key, number)?;
        self.found.push(Found::Known(handle));
        Ok(Some(number))
    }

    /// Marks `key` and all that it needs.
    ///
    /// # Errors
    ///
    /// `ValueError` names a key that is neither in the graph nor known, and who needs it.
    pub fn want(&mut self, key: &Bound<'py, PyAny>) -> PyResult<()> {
        let Some(number) = self.number(key)? else {
            let message = format!("the key {} is not in the graph", name_of(key));
            return Err(PyValueError::new_err(message));
        };
        if let Some(wanted) = self.wanted.get_mut(number as usize) {
            *wanted = true;
        }
        let mut stack = vec![number];
        while let Some(number) = stack.pop() {
            if self.found[number as usize] == Found::Unseen {
                let start = self.edges.len();
                self.visit(number)?;
                stack.extend_from_slice(&self.edges[start..]);
            }
        }
        Ok(())
    }

    fn visit(&mut self, number: u32) -> PyResult<()> {
        let slot = number as usize;
        if let Some(handle) = (self.known)(&self.keys[slot])? {
            self.found[slot] = Found::Known(handle);
            return Ok(());
        }
        let start = self.edges.len() as u32;
        let is_node = self.specs[slot].is_instance(self.types.graph_node.bind(self.graph.py()))?;
        if is_node || !self.visit_tuples(number)? {
            self.is_node[slot] = true;
            self.visit_node(number)?;
        }
        self.found[slot] = Found::Needed { start, end: self.edges.len() as u32 };
        Ok(())
    }

    /// Finds what a task of tuples needs; false when it became a node.
    fn visit_tuples(&mut self, number: u32) -> PyResult<bool> {
        let slot = number as usize;
        let keys = Keys { index: &self.index, count: self.keys.len() };
        let start = self.edges.len();
        if keys.inputs(&self.specs[slot], &mut self.edges, 0)? {
            self.is_alias[slot] = matches!(keys.part(&self.specs[slot])?, Part::Key);
            return Ok(true);
        }
        self.edges.truncate(start);
        self.specs[slot] = convert(&self.keys[slot], &self.specs[slot], &self.graph)?;
        Ok(false)
    }

    fn visit_node(&mut self, number: u32) -> PyResult<()> {
        let slot = number as usize;
        let spec = self.specs[slot].clone();
        let is_alias = is_exactly(&spec, &self.types.alias);
        self.is_alias[slot] = is_alias;
        let needed = spec.getattr(intern!(spec.py(), "dependencies"))?;
        for key in needed.try_iter()? {
            let key = key?;
            match self.number(&key)? {
                // A name for itself stands for a future that is gone.
                Some(input) if input != number => self.edges.push(input),
                Some(_) if !is_alias => self.edges.push(number),
                _ => return Err(missing_error(&key, &self.keys[slot])),
            }
        }
        Ok(())
    }

    fn edges_of(&self, number: u32) -> &[u32] {
        match self.found[number as usize] {
            Found::Needed { start, end } => &self.edges[start as usize..end as usize],
            _ => &[],
        }
    }

    fn is_alias(&self, number: u32) -> bool {
        let slot = number as usize;
        matches!(self.found[slot], Found::Needed { .. }) && self.is_alias[slot]
    }

    /// For each raw number the one that it stands for: an alias that nobody asked for is the
    /// same as its target.
    fn resolve_aliases(&self) -> PyResult<Vec<u32>> {
        let mut resolved: Vec<u32> = (0..self.found.len() as u32).collect();
        let mut chain = Vec::new();
        for first in 0..self.keys.len() as u32 {
            let mut number = first;
            while self.is_alias(number)
                && !self.wanted[number as usize]
                && resolved[number as usize] == number
            {
                chain.push(number);
                number = self.edges_of(number)[0];
                if chain.len() > self.keys.len() || chain.first() == Some(&number) {
                    return Err(cycle_error(
                        self.alias_circle(number).iter().map(|&n| &self.keys[n as usize]),
                    ));
                }
            }
            let target = resolved[number as usize];
            chain.drain(..).for_each(|alias| resolved[alias as usize] = target);
        }
        Ok(resolved)
    }

    /// The aliases of a circle that can be reached from `number`.
    fn alias_circle(&self, number: u32) -> Vec<u32> {
        let mut path: Vec<u32> = Vec::new();
        let mut next = number;
        loop {
            if let Some(start) = path.iter().position(|&seen| seen == next) {
                return path.split_off(start);
            }
            path.push(next);
            next = self.edges_of(next)[0];
        }
    }

    /// Numbers what is needed.
    pub fn finish(mut self) -> PyResult<Nodes<'py>> {
        let resolved = self.resolve_aliases()?;
        let origins = self.move_into_aliases(&resolved);
        let mut inputs = Vec::with_capacity(self.found.len());
        let mut kept = Vec::new();
        for number in 0..self.found.len() as u32 {
            let slot = number as usize;
            inputs.push(match self.found[slot] {
                Found::Known(handle) => Input::Known(handle),
                Found::Unseen => Input::Node(u32::MAX),
                Found::Needed { .. } if resolved[slot] != number => Input::Node(u32::MAX),
                Found::Needed { .. } => {
                    kept.push(number);
                    Input::Node(kept.len() as u32 - 1)
                }
            });
        }
        for (slot, &target) in resolved.iter().enumerate() {
            inputs[slot] = inputs[target as usize];
        }
        let mut dependencies = Dependencies::with_capacity(kept.len(), self.edges.len());
        for &number in &kept {
            let edges = self.edges_of(number).iter();
            dependencies.push(edges.filter_map(|&edge| match inputs[edge as usize] {
                Input::Node(node) => Some(node),
                Input::Known(_) => None,
            }));
        }
        let node = |&number: &u32| {
            let slot = number as usize;
            let origin = origins.get(&number).map_or(slot, |&origin| origin as usize);
            Node {
                key: self.keys[slot].clone(),
                spec: self.specs[slot].clone(),
                origin: self.keys[origin].clone(),
                is_node: self.is_node[slot],
                wanted: self.wanted[slot],
            }
        };
        let nodes = kept.iter().map(node).collect();
        let key_count = self.keys.len();
        Ok(Nodes { index: self.index, inputs, key_count, nodes, dependencies })
    }

    /// Where a wanted alias is the only user of a task that nobody asked for, the task takes the
    /// alias's place, so that no result is kept twice. Gives the numbers these tasks had.
    fn move_into_aliases(&mut self, resolved: &[u32]) -> hashbrown::HashMap<u32, u32> {
        let mut origins = hashbrown::HashMap::new();
        let wanted_aliases: Vec<u32> = (0..self.keys.len() as u32)
            .filter(|&number| self.wanted[number as usize] && self.is_alias(number))
            .collect();
        if wanted_aliases.is_empty() {
            return origins;
        }
        let mut users = vec![0u32; self.found.len()];
        for number in 0..self.keys.len() as u32 {
            if resolved[number as usize] == number {
                for &edge in self.edges_of(number) {
                    users[resolved[edge as usize] as usize] += 1;
                }
            }
        }
        for alias in wanted_aliases {
            let target = resolved[self.edges_of(alias)[0] as usize];
            let slot = target as usize;
            let movable = matches!(self.found[slot], Found::Needed { .. })
                && !self.wanted[slot]
                && users[slot] == 1
                && target != alias;
            if movable {
                self.found[alias as usize] = self.found[slot];
                self.found[slot] = Found::Unseen;
                self.specs[alias as usize] = self.specs[slot].clone();
                self.is_node[alias as usize] = self.is_node[slot];
                self.is_alias[alias as usize] = self.is_alias[slot];
                origins.insert(alias, target);
            }
        }
        origins
    }
}

fn missing_error(needed: &Bound<'_, PyAny>, by: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!(
        "the task {} depends on {}, which is neither in the graph nor a live future",
        name_of(by),
        name_of(needed)
    ))
}
