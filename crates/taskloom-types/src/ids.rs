//! Integer identities. Strings are interned once, at the edge; behind it only these travel.

use std::fmt;

/// Monotonic nanoseconds since an origin that the caller chose. Never wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    pub const MICROSECOND: u64 = 1_000;
    pub const MILLISECOND: u64 = 1_000_000;
    pub const SECOND: u64 = 1_000_000_000;

    #[must_use]
    pub fn after(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A task in the scheduler's arena. The generation makes a reused slot a different task,
/// so that a late message about the old one is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TaskId {
    pub index: u32,
    pub generation: u32,
}

impl TaskId {
    #[must_use]
    pub fn to_u64(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    #[must_use]
    pub fn from_u64(raw: u64) -> Self {
        Self { index: raw as u32, generation: (raw >> 32) as u32 }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// One numbered try at a task. Grows with each assignment to a worker; 0 means never assigned.
pub type Attempt = u32;

macro_rules! id_newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id_newtype! {
    /// A worker's session with the scheduler. Never reused within one scheduler epoch:
    /// a worker that reconnects gets a new number, so the number is the session fence.
    WorkerNo(u32)
}
id_newtype! {
    /// A client's session with the scheduler. Never reused within one scheduler epoch.
    ClientId(u32)
}
id_newtype! {
    /// Any connection of the IO shell. Never reused within one process.
    ConnId(u64)
}
id_newtype! {
    /// A client's own number for a key that it submitted or asked for.
    /// Grows monotonically in one client session; 0 is never used.
    Handle(u64)
}
id_newtype! {
    /// The scheduler's number for a registered function, the same on all workers.
    FunctionNo(u32)
}

/// Hash of a serialized function: equal functions have equal ids in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FunctionId(pub u128);

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
