//! Newtypes that every other crate shares: ids, keys, priorities, resources.
//!
//! Nothing here does IO, reads a clock or knows a message format.
#![forbid(unsafe_code)]

mod ids;
mod key;
mod priority;
mod resources;

pub use ids::{Attempt, ClientId, ConnId, FunctionId, FunctionNo, Handle, Nanos, TaskId, WorkerNo};
pub use key::{Key, key_split};
pub use priority::{Generation, Priority};
pub use resources::{Amount, Resources};
