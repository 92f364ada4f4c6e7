//! Parts that several kinds of messages use.

use crate::policy::TaskPolicy;
use crate::wire::{DecodeError, Reader, Wire};
use crate::wire_record;
use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;
use taskloom_types::{Key, Resources};

/// A task's serialized call: opaque to the scheduler. Short ones are stored in place.
pub type Body = SmallVec<[u8; 24]>;

wire_record! {
    /// What a submission asks for beyond the call itself (Dask: the keywords of `submit`).
    pub struct TaskOptions {
        /// Addresses, names or host names of workers that may run the task; empty means any.
        pub workers: Vec<String>,
        /// Whether other workers may run it when none of `workers` is there.
        pub allow_other_workers: bool,
        /// Resources that the task occupies while it runs.
        pub resources: Resources,
        /// Further attempts after the task raised. The loss of a worker does not count.
        pub retries: u32,
        /// Larger runs earlier.
        pub priority: i32,
        /// What few tasks ask for.
        pub policy: Option<Box<TaskPolicy>>,
    }

    /// A task's exception, as bytes that only clients and workers open, and as text for people.
    pub struct ErrorInfo {
        /// The pickled exception; empty when it could not be pickled.
        pub exception: Bytes,
        /// The pickled traceback; empty when there is none.
        pub traceback: Bytes,
        /// The exception's type name.
        pub type_name: String,
        /// The exception's message, cut to a bound.
        pub message: String,
        /// The formatted traceback, cut to a bound.
        pub traceback_text: String,
        /// The key whose run failed first.
        pub origin: Option<Key>,
        /// Address of the worker where it failed.
        pub worker: String,
        /// The exception's type and its bases, with their modules, such as `builtins.OSError`.
        /// Workers tell the scheduler; it does not pass them on.
        pub types: Vec<String>,
    }
}

/// How a worker process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExitKind {
    /// Nobody saw it end (no supervisor, or it is on an unreachable machine).
    #[default]
    Unknown,
    /// It returned this exit code.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
    /// The kernel, or the supervisor, ended it since it used too much memory.
    OutOfMemory,
    /// It was asked to stop.
    Requested,
}

impl Wire for ExitKind {
    fn write(&self, out: &mut Vec<u8>) {
        let (tag, number) = match *self {
            Self::Unknown => (0u8, 0),
            Self::Exited(code) => (1, code),
            Self::Signalled(signal) => (2, signal),
            Self::OutOfMemory => (3, 0),
            Self::Requested => (4, 0),
        };
        tag.write(out);
        number.write(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = u8::read(reader)?;
        let number = i32::read(reader)?;
        Ok(match tag {
            1 => Self::Exited(number),
            2 => Self::Signalled(number),
            3 => Self::OutOfMemory,
            4 => Self::Requested,
            _ => Self::Unknown,
        })
    }
}

wire_record! {
    /// How a worker process ended, and its last words.
    pub struct ExitReason {
        pub kind: ExitKind,
        /// The last lines that the process wrote to its standard error.
        pub stderr_tail: String,
        /// More about why, for people; may be empty.
        pub detail: String,
    }
}

/// The common signals by name: what people search for.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => "signal",
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ExitKind::Unknown => f.write_str("its connection was lost"),
            ExitKind::Exited(code) => write!(f, "the process exited with code {code}"),
            ExitKind::Signalled(signal) => {
                write!(f, "the process was ended by {} ({signal})", signal_name(signal))
            }
            ExitKind::OutOfMemory => f.write_str("the process ran out of memory"),
            ExitKind::Requested => f.write_str("the process was asked to stop"),
        }?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}
