//! Messages about events, plugins and logs, and the questions of those who operate a cluster.
//! They travel inside the connections of clients and workers, under numbers from 60 on.

use crate::value::Value;
use crate::wire::{DecodeError, Reader, Wire};
use crate::wire_record;
use bytes::Bytes;
use taskloom_types::{Attempt, Key, TaskId};

wire_record! {
    /// Somebody records an event under one or more topics.
    pub struct LogEvent {
        pub topics: Vec<String>,
        /// Opaque to the scheduler.
        pub payload: Bytes,
    }

    /// One event, for a client that subscribed to its topic.
    pub struct EventNews {
        pub topic: String,
        /// Bytes are somebody's payload; anything else is an event of the scheduler itself.
        pub payload: Value,
    }

    /// What runs of a task wrote.
    pub struct TaskLog {
        pub task: TaskId,
        pub attempt: Attempt,
        pub records: Vec<LogRecord>,
    }

    /// A piece of a stream, or a record of the language's logging.
    pub struct LogRecord {
        /// Of [`LogRecord::STDOUT`] and its like.
        pub stream: u8,
        /// When it was written, in seconds since 1970 by the worker's clock.
        pub time_s: f64,
        /// Of log records: their level; 0 otherwise.
        pub level: i32,
        /// Of log records: their logger; empty otherwise.
        pub logger: String,
        pub text: String,
        /// Bytes before this record that were dropped since too much was written at once.
        pub dropped_bytes: u64,
    }

    /// A worker does not have the copy that it was ordered to get, and will not.
    pub struct NotAcquired {
        pub task: TaskId,
        /// For people.
        pub reason: String,
    }

    /// Copies of results on several workers.
    pub struct Replicate {
        pub keys: Vec<Key>,
        /// How many of the workers shall hold each; 0 means all.
        pub n: u32,
        /// As [`crate::shared::TaskOptions::workers`]; empty means all.
        pub workers: Vec<String>,
    }

    /// Moves results from workers that hold much to those that hold little.
    pub struct Rebalance {
        /// Which; all when empty.
        pub keys: Vec<Key>,
        /// As [`crate::shared::TaskOptions::workers`]; empty means all.
        pub workers: Vec<String>,
    }

    /// A call that every worker makes before its first task.
    pub struct Setup {
        /// Another call of the same name takes its place.
        pub name: String,
        /// As [`crate::client::RunEverywhere::payload`].
        pub payload: Bytes,
    }

    /// No further worker makes the call of this name.
    pub struct EndSetup {
        pub name: String,
        /// Called on all present workers; as [`crate::client::RunEverywhere::payload`].
        pub payload: Bytes,
    }
}

impl LogRecord {
    pub const STDOUT: u8 = 0;
    pub const STDERR: u8 = 1;
    /// A record of the language's logging.
    pub const LOG: u8 = 2;
}

/// What a client may ask about control. The answer's shape is named in brackets.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlQuestion {
    /// `{topic: [[age_s, payload]]}` of one topic, or of all.
    Events(Option<String>),
    /// Registers a call for all workers: `{address: [ok, payload]}` of the present ones.
    Setup(Setup),
    /// The same, of the call that undoes it.
    EndSetup(EndSetup),
    /// The names of the registered calls, in their order.
    Setups,
    /// `{key: [{stream, time, level, logger, text, worker, attempt, dropped_bytes}]}`
    TaskLogs(Vec<Key>),
    /// `[[age_s, level, text]]` of what the scheduler noted.
    SchedulerLog,
    /// `{tasks: {key: {…}}, workers: …, counters: …}`: all that the scheduler knows.
    Dump,
    /// `{made: n, failed: {key: why}}` once all copies are there or have failed.
    Replicate(Replicate),
    /// The same.
    Rebalance(Rebalance),
}

impl Wire for ControlQuestion {
    fn write(&self, out: &mut Vec<u8>) {
        macro_rules! put {
            ($tag:literal $(, $payload:expr)?) => {{
                out.push($tag);
                $( $payload.write(out); )?
            }};
        }
        match self {
            Self::Events(p) => put!(0, p),
            Self::Setup(p) => put!(1, p),
            Self::EndSetup(p) => put!(2, p),
            Self::Setups => put!(3),
            Self::TaskLogs(p) => put!(4, p),
            Self::SchedulerLog => put!(5),
            Self::Dump => put!(6),
            Self::Replicate(p) => put!(7, p),
            Self::Rebalance(p) => put!(8, p),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::read(reader)? {
            0 => Self::Events(Wire::read(reader)?),
            1 => Self::Setup(Wire::read(reader)?),
            2 => Self::EndSetup(Wire::read(reader)?),
            3 => Self::Setups,
            4 => Self::TaskLogs(Wire::read(reader)?),
            5 => Self::SchedulerLog,
            6 => Self::Dump,
            7 => Self::Replicate(Wire::read(reader)?),
            8 => Self::Rebalance(Wire::read(reader)?),
            tag => return Err(DecodeError::UnknownTag { what: "control question", tag }),
        })
    }
}
