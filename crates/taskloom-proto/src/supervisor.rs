//! Messages between a supervisor (which starts worker processes and sees them end) and the
//! scheduler.

use crate::client::Closing;
use crate::shared::ExitReason;
use crate::{wire_messages, wire_record};
use taskloom_types::{Attempt, TaskId};

wire_messages! {
    pub enum SupervisorToScheduler {
        /// First message of a session.
        1 => Register(RegisterSupervisor),
        2 => WorkerExited(WorkerExited),
        /// These workers are about to be asked to end: none of them takes over from another.
        120 => Stopping(Vec<String>),
    }
}

wire_messages! {
    pub enum SchedulerToSupervisor {
        /// End this worker's process at once and start a new one.
        1 => RestartWorker(WorkerName),
        /// End this worker's process and start no other.
        2 => StopWorker(WorkerName),
        /// End all worker processes and the supervisor.
        3 => Close(Closing),
    }
}

wire_record! {
    pub struct RegisterSupervisor {
        pub name: String,
        pub host: String,
    }

    pub struct WorkerName {
        pub name: String,
    }

    pub struct WorkerExited {
        /// The name that the worker registered with.
        pub name: String,
        pub pid: u32,
        pub reason: ExitReason,
        /// The tasks that its executor threads were in when it ended. Read from memory that the
        /// dead process shared with its supervisor, so it is right even after a segmentation fault.
        pub executing: Vec<(TaskId, Attempt)>,
        /// Whether a new process is being started in its place.
        pub restarting: bool,
    }
}
