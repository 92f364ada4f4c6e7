//! The rules of task scheduling: pure state machines that take `(now, event)` and give actions.
//!
//! No clock, no randomness, no files, no sockets, no threads, no Python. The same code runs in
//! production, in unit tests and in the simulator.
#![forbid(unsafe_code)]

pub mod order;
pub mod planted;
pub mod scheduler;
pub mod worker;
