//! Development only: the real scheduler and worker rules under a fake clock and a faulty network.
//!
//! One seed decides everything: the graphs, how long each message and each task takes, which
//! tasks fail, which workers die and when. After each event the invariants are recounted from
//! scratch; at the end all is healed, and every future must have ended with the right value or
//! with an error that something planted. A failure names its seed; running that seed again gives
//! the same run, event by event:
//!
//! ```text
//! cargo run --release -p taskloom-sim --bin simulate -- --seed 4711 --trace
//! ```
#![forbid(unsafe_code)]

mod agenda;
mod client;
mod control;
mod ending;
mod people;
mod processes;
mod rng;
mod sharing;
mod worker;
mod workload;
mod world;

pub use world::{Failure, Report, Settings, run};
