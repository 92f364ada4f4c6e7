//! Development only: the real rules of scheduler and workers, and the real client, under a fake clock and a faulty network.
//!
//! One seed decides everything: the graphs, how long each message and each task takes, which
//! tasks fail, which workers die and when. After each event the invariants are recounted from
//! scratch; at the end all is healed, and every future must have ended with the right value or
//! with an error that something planted. A failure names its seed and the invariant; running that
//! seed again gives the same run, event by event, and a failing run is made smaller by leaving out
//! steps of its plan:
//!
//! ```text
//! cargo run --release -p taskloom-sim --bin simulate -- --seed 4711 --shrink
//! ```
//!
//! - `plan`, `workload`: what a seed has in store; `shrink`: less of it that still fails.
//! - `world`, `agenda`: time and what happens; `network`: links, clocks and stopped processes;
//!   `memory`: processes that grow, and disks.
//! - `lines`, `sessions`: connections that break, and sessions that begin anew; `restarts`: of the
//!   scheduler.
//! - `processes`, `worker`, `people`, `sharing`, `control`: who is there; `real`: the real client,
//!   `client`: what must be so of it.
//! - `ending`, `ledger`, `broken`: what must hold; `many`: many seeds on all cores.
#![forbid(unsafe_code)]

mod agenda;
mod broken;
mod client;
mod control;
mod ending;
mod ledger;
mod lines;
mod many;
mod memory;
mod network;
mod people;
mod plan;
mod processes;
mod real;
mod report;
mod restarts;
mod rng;
mod sessions;
mod sharing;
mod shrink;
mod worker;
mod workload;
mod world;

pub use broken::Broken;
pub use many::{Progress, first_failure, run_many};
pub use plan::Part;
pub use shrink::{Shrunk, shrink};
pub use world::{Failure, Report, Settings, run, run_part};
