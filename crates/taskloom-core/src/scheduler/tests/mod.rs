//! The scheduler's rules as a specification: a script of named clients, workers and tasks, and
//! after each step everything that is sent, in words.

mod script;
mod task;
mod tied;
mod words;

mod actor_moves;
mod actors;
mod adaptive;
mod attempts;
mod cancel;
mod collisions;
mod control;
mod coordination;
mod departures;
mod deposits;
mod errors;
mod functions;
mod history;
mod hostile;
mod interrupts;
mod keys;
mod liveness;
mod loss;
mod memory;
mod naming;
mod partings;
mod placement;
mod prefetch;
mod priorities;
mod questions;
mod replicas;
mod restrictions;
mod scatter;
mod sessions;
mod sharing;
mod stealing;
mod suspects;
mod transitions;

use super::*;
use script::{Outcome, Script, worker};
use task::{future, gpu, step};

/// The lines that a test expects.
fn lines(expected: &[&str]) -> Vec<String> {
    expected.iter().map(ToString::to_string).collect()
}

/// Compares all that was sent with what was to be sent.
#[track_caller]
fn assert_sent(sent: &[String], expected: &[&str]) {
    assert_eq!(sent, lines(expected));
}
