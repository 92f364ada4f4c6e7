//! What workers say of their memory, beside the figures in their heartbeats. The messages travel
//! inside the connections of workers, under numbers from 80 on.

use crate::wire_record;

wire_record! {
    /// A worker's memory has run short, or no longer is.
    pub struct MemoryState {
        /// Of [`MemoryState::RUNNING`] and its like.
        pub state: u8,
        /// For people.
        pub reason: String,
    }
}

impl MemoryState {
    /// It takes tasks.
    pub const RUNNING: u8 = 0;
    /// It starts nothing, and has given back what had not started.
    pub const PAUSED: u8 = 1;
    /// As `PAUSED`, and no end is in sight: nothing runs there, nothing can go to disk, and what
    /// fills the memory are no results. Only a new process helps.
    pub const EXHAUSTED: u8 = 2;
}
