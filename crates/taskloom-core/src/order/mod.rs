//! The order in which the tasks of a graph should run.
//!
//! Any topological order gives the right results; a good one keeps few of them alive at a time.
//! [`order`] finishes what was started before it opens new branches, and runs a task early when
//! that lets a result go. It needs the dependencies only: no key, no type of task, no size.
//!
//! Time is `O((nodes + edges) log nodes)`; nothing recurses, so chains may be of any length.

mod graph;
mod search;

pub use graph::Dependencies;

/// A graph that cannot run: each task of `path` needs the next, and the last needs the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    pub path: Vec<u32>,
}

/// Gives each node its position: 0 runs first. Positions are a permutation of the nodes, and
/// every node comes after all of its dependencies.
///
/// Nodes that are equally good keep the order in which they were added.
///
/// # Errors
///
/// [`Cycle`] names the shortest found circle of nodes that wait for each other.
pub fn order(dependencies: &Dependencies) -> Result<Vec<u32>, Cycle> {
    let topological = graph::topological(dependencies)?;
    Ok(search::Search::new(dependencies, &topological).run())
}

#[cfg(test)]
mod tests;
