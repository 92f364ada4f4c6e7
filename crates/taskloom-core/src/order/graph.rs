//! Adjacency of a graph over small integers.

use super::Cycle;

/// For each node the nodes that it needs, in one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Node `i` needs `items[ends[i - 1]..ends[i]]`.
    ends: Vec<u32>,
    items: Vec<u32>,
}

impl Dependencies {
    #[must_use]
    pub fn with_capacity(nodes: usize, edges: usize) -> Self {
        Self { ends: Vec::with_capacity(nodes), items: Vec::with_capacity(edges) }
    }

    /// Adds the next node. Its dependencies may be nodes that are added later. They are kept
    /// sorted, and named once.
    ///
    /// # Panics
    ///
    /// When the graph has more than `u32::MAX` edges.
    pub fn push(&mut self, dependencies: impl IntoIterator<Item = u32>) {
        let start = self.items.len();
        self.items.extend(dependencies);
        self.items[start..].sort_unstable();
        let mut kept = start;
        for i in start..self.items.len() {
            if i == start || self.items[i] != self.items[kept - 1] {
                self.items[kept] = self.items[i];
                kept += 1;
            }
        }
        self.items.truncate(kept);
        self.ends.push(u32::try_from(kept).expect("fewer than 2^32 edges"));
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What `node` needs, sorted.
    #[must_use]
    pub fn of(&self, node: u32) -> &[u32] {
        &self.items[self.range(node)]
    }

    fn range(&self, node: u32) -> std::ops::Range<usize> {
        let node = node as usize;
        let start = if node == 0 { 0 } else { self.ends[node - 1] as usize };
        start..self.ends[node] as usize
    }

    pub(super) fn of_mut(&mut self, node: u32) -> &mut [u32] {
        let range = self.range(node);
        &mut self.items[range]
    }

    pub(super) fn nodes(&self) -> std::ops::Range<u32> {
        0..self.ends.len() as u32
    }

    /// The same edges in the other direction: for each node those that need it, sorted.
    #[must_use]
    pub fn reversed(&self) -> Self {
        // Count, turn the counts into starts, then fill: each start moves up to its end.
        let mut ends = vec![0u32; self.len() + 1];
        for &item in &self.items {
            ends[item as usize + 1] += 1;
        }
        for i in 1..ends.len() {
            ends[i] += ends[i - 1];
        }
        let mut items = vec![0; self.items.len()];
        for node in self.nodes() {
            for &dependency in self.of(node) {
                let slot = &mut ends[dependency as usize];
                items[*slot as usize] = node;
                *slot += 1;
            }
        }
        ends.pop();
        Self { ends, items }
    }
}

/// All nodes, dependencies first.
pub(super) fn topological(dependencies: &Dependencies) -> Result<Vec<u32>, Cycle> {
    let users = dependencies.reversed();
    let mut missing: Vec<u32> =
        dependencies.nodes().map(|node| dependencies.of(node).len() as u32).collect();
    let mut sorted: Vec<u32> =
        dependencies.nodes().filter(|&node| missing[node as usize] == 0).collect();
    let mut next = 0;
    while next < sorted.len() {
        for &user in users.of(sorted[next]) {
            missing[user as usize] -= 1;
            if missing[user as usize] == 0 {
                sorted.push(user);
            }
        }
        next += 1;
    }
    if sorted.len() == dependencies.len() {
        return Ok(sorted);
    }
    Err(find_cycle(dependencies, &missing))
}

/// A circle among the nodes that still miss something: each of them needs another such node,
/// so that a walk along these must come back to where it was.
fn find_cycle(dependencies: &Dependencies, missing: &[u32]) -> Cycle {
    const UNSEEN: u32 = u32::MAX;
    let is_stuck = |node: &u32| missing[*node as usize] > 0;
    let mut seen_at = vec![UNSEEN; missing.len()];
    let mut path = Vec::new();
    let mut node = dependencies.nodes().find(is_stuck);
    while let Some(current) = node {
        if seen_at[current as usize] != UNSEEN {
            path.drain(..seen_at[current as usize] as usize);
            break;
        }
        seen_at[current as usize] = path.len() as u32;
        path.push(current);
        node = dependencies.of(current).iter().copied().find(is_stuck);
    }
    Cycle { path }
}
