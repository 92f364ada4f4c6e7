//! What workers and clients say when they begin a new session with something left of an earlier one:
//! the scheduler was started again, or has given them up.

use crate::small::SmallBytes;
use crate::wire_record;
use taskloom_types::{Handle, Key, TaskId};

wire_record! {
    /// A result that a worker holds from an earlier session.
    pub struct Offered {
        /// The worker's number for it.
        pub number: u64,
        pub key: Key,
        /// As in the task's spec: the same key with another hash is other work.
        pub spec_hash: u64,
        pub size_bytes: u64,
    }

    /// An offered result is this task's from now on.
    pub struct Adopted {
        pub number: u64,
        pub task: TaskId,
    }

    /// A scattered value, and what to offer it as.
    pub struct Named {
        pub task: TaskId,
        pub key: Key,
        pub spec_hash: u64,
    }

    /// A result that a client held in an earlier session.
    pub struct Claim {
        pub handle: Handle,
        pub key: Key,
        pub spec_hash: u64,
        /// The encoded value, when the client has it.
        pub value: Option<SmallBytes>,
    }
}
