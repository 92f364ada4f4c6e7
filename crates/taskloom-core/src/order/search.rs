//! The search: pull what a result needs, depth first, and take every chance to let results go.
//!
//! Three rules, from the strongest:
//! 1. A task that can run and is the last user of some live result runs at once.
//! 2. A task that is the last user of a live result but misses other inputs is a *goal*. It is
//!    preferred to the branch under way when what it misses is at most half as much work.
//! 3. Otherwise the missing inputs of the branch under way are computed, those first that need
//!    the most live results themselves (as Sethi and Ullman number the registers of a tree).
//!
//! The factor of two in rule 2 also bounds the nesting of goals by the logarithm of the work, so
//! that walking down to what is missing stays near-linear in total.

use super::graph::Dependencies;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

const UNPLACED: u32 = u32::MAX;

pub(super) struct Search<'a> {
    dependencies: &'a Dependencies,
    users: Dependencies,
    /// As `dependencies`, in the order in which rule 3 pulls them.
    pulls: Dependencies,
    /// About how many tasks a node's result takes when nothing is computed yet.
    work: Vec<f32>,
    /// Sum of `work` over the inputs that are not computed.
    missing_work: Vec<f32>,
    /// Number of inputs that are not computed.
    missing: Vec<u32>,
    /// Number of users that have not run, and their ids combined by exclusive or: when one is
    /// left, that is its id.
    waiting_users: Vec<u32>,
    waiting_xor: Vec<u32>,
    is_goal: Vec<bool>,
    position: Vec<u32>,
    placed: u32,
    /// Tasks for rule 1.
    runnable: Vec<u32>,
    goals: BinaryHeap<Goal>,
    /// The branch under way: a node, and how many of its `pulls` are known to be computed.
    frames: Vec<(u32, u32)>,
}

/// An entry of the queue of goals; stale when the node's missing work is not what it was.
#[derive(PartialEq)]
struct Goal {
    missing_work: f32,
    /// When it was queued: of equal ones the latest is first, since its inputs are the freshest.
    stamp: u32,
    node: u32,
}

impl Eq for Goal {}

impl PartialOrd for Goal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Goal {
    /// The heap's greatest is the best goal.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_work = other.missing_work.total_cmp(&self.missing_work);
        by_work.then(self.stamp.cmp(&other.stamp)).then(other.node.cmp(&self.node))
    }
}

impl<'a> Search<'a> {
    /// `topological`: all nodes, dependencies first.
    pub(super) fn new(dependencies: &'a Dependencies, topological: &[u32]) -> Self {
        let users = dependencies.reversed();
        let work = estimate_work(dependencies, &users, topological);
        let sum = |node| dependencies.of(node).iter().map(|&d| work[d as usize]).sum();
        let xor = |node| users.of(node).iter().fold(0, |all, &user| all ^ user);
        let count = |node: u32, of: &Dependencies| of.of(node).len() as u32;
        let nodes = || dependencies.nodes();
        Self {
            pulls: pull_order(dependencies, topological),
            missing_work: nodes().map(sum).collect(),
            missing: nodes().map(|node| count(node, dependencies)).collect(),
            waiting_users: nodes().map(|node| count(node, &users)).collect(),
            waiting_xor: nodes().map(xor).collect(),
            is_goal: vec![false; dependencies.len()],
            position: vec![UNPLACED; dependencies.len()],
            placed: 0,
            runnable: Vec::new(),
            goals: BinaryHeap::new(),
            frames: Vec::new(),
            dependencies,
            users,
            work,
        }
    }

    pub(super) fn run(mut self) -> Vec<u32> {
        for target in self.dependencies.nodes() {
            if self.users.of(target).is_empty() {
                self.finish(target);
                // What shares inputs with this target comes before the next one.
                while let Some(goal) = self.take_goal(f32::INFINITY) {
                    self.finish(goal);
                }
            }
        }
        self.position
    }

    fn is_placed(&self, node: u32) -> bool {
        self.position[node as usize] != UNPLACED
    }

    /// Places `node` and all that it needs.
    fn finish(&mut self, node: u32) {
        self.frames.push((node, 0));
        while let Some(&(node, known)) = self.frames.last() {
            if self.is_placed(node) {
                self.frames.pop();
            } else if self.missing[node as usize] == 0 {
                self.frames.pop();
                self.place_all(node);
            } else if let Some(goal) = self.take_goal(self.missing_work[node as usize] / 2.0) {
                self.frames.push((goal, 0));
            } else {
                self.pull(node, known);
            }
        }
    }

    /// Rule 3: goes down to the next missing input of the branch's top.
    fn pull(&mut self, node: u32, mut known: u32) {
        let pulls = self.pulls.of(node);
        while self.position[pulls[known as usize] as usize] != UNPLACED {
            known += 1;
        }
        let input = pulls[known as usize];
        if let Some(top) = self.frames.last_mut() {
            top.1 = known;
        }
        self.frames.push((input, 0));
    }

    /// Places `node`, then all that rule 1 allows.
    fn place_all(&mut self, node: u32) {
        self.runnable.push(node);
        while let Some(node) = self.runnable.pop() {
            if !self.is_placed(node) {
                self.place(node);
            }
        }
    }

    fn place(&mut self, node: u32) {
        self.position[node as usize] = self.placed;
        self.placed += 1;
        let dependencies = self.dependencies;
        for &input in dependencies.of(node) {
            let slot = input as usize;
            self.waiting_users[slot] -= 1;
            self.waiting_xor[slot] ^= node;
            if self.waiting_users[slot] == 1 {
                self.on_last_user(self.waiting_xor[slot]);
            }
        }
        let users = std::mem::take(&mut self.users);
        // From the last: the stack of runnable tasks then gives them in their own order.
        for &user in users.of(node).iter().rev() {
            self.on_input_placed(user, node);
        }
        self.users = users;
    }

    /// `user` became the only one that still needs some live result.
    fn on_last_user(&mut self, user: u32) {
        if self.missing[user as usize] == 0 {
            self.runnable.push(user);
        } else {
            self.is_goal[user as usize] = true;
            self.push_goal(user);
        }
    }

    fn on_input_placed(&mut self, user: u32, input: u32) {
        let slot = user as usize;
        self.missing[slot] -= 1;
        self.missing_work[slot] -= self.work[input as usize];
        self.is_goal[slot] |= self.waiting_users[input as usize] == 1;
        if !self.is_goal[slot] {
            return;
        }
        if self.missing[slot] == 0 {
            self.runnable.push(user);
        } else {
            self.push_goal(user);
        }
    }

    fn push_goal(&mut self, node: u32) {
        let missing_work = self.missing_work[node as usize];
        self.goals.push(Goal { missing_work, stamp: self.placed, node });
    }

    /// Rule 2: the goal that misses the least work, when that is at most `limit`.
    fn take_goal(&mut self, limit: f32) -> Option<u32> {
        while let Some(best) = self.goals.peek() {
            let stale = self.is_placed(best.node)
                || best.missing_work != self.missing_work[best.node as usize];
            if !stale && best.missing_work > limit {
                return None;
            }
            let node = self.goals.pop()?.node;
            if !stale {
                return Some(node);
            }
        }
        None
    }
}

/// About how many tasks each node's result takes. Shared inputs are split among their users,
/// else the estimate would grow exponentially in a lattice; but a node takes never less than
/// its most laborious input.
fn estimate_work(
    dependencies: &Dependencies,
    users: &Dependencies,
    topological: &[u32],
) -> Vec<f32> {
    let mut work = vec![0f32; dependencies.len()];
    for &node in topological {
        let (mut shares, mut largest) = (0f32, 0f32);
        for &input in dependencies.of(node) {
            let input_work = work[input as usize];
            shares += input_work / users.of(input).len() as f32;
            largest = largest.max(input_work);
        }
        work[node as usize] = 1.0 + shares.max(largest);
    }
    work
}

/// Each node's inputs, those first that need the most live results at a time.
fn pull_order(dependencies: &Dependencies, topological: &[u32]) -> Dependencies {
    let mut pulls = dependencies.clone();
    let mut live = vec![1u32; dependencies.len()];
    for &node in topological {
        let inputs = pulls.of_mut(node);
        inputs.sort_by_key(|&input| std::cmp::Reverse(live[input as usize]));
        let need = inputs.iter().zip(0u32..).map(|(&input, held)| live[input as usize] + held);
        live[node as usize] = need.max().unwrap_or(1);
    }
    pulls
}
