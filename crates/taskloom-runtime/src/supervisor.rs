//! Starts worker processes, sees them end, says why, and starts new ones.
//!
//! One thread, `taskloom-supervisor`, owns all children and decides ([`watch`]); per child, one
//! thread waits for its end and one passes its standard error on ([`process`]).

mod memory;
mod oom;
mod process;
mod watch;

use crate::executing::{ExecutingTable, Progress};
use crate::link::{Link, NewSession, Sink};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use taskloom_proto::ExitReason;
use taskloom_proto::supervisor::{SchedulerToSupervisor, SupervisorToScheduler};
use watch::{Command, Watch};

/// What a supervisor starts.
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// Shown to people.
    pub name: String,
    pub host: String,
    /// Program and arguments of a worker; the argument `{name}` becomes the worker's name.
    pub command: Vec<String>,
    /// Additions to, and replacements in, the environment.
    pub env: Vec<(String, String)>,
    /// Put before the numbers that [`Supervisor::scale`] gives as names.
    pub name_prefix: String,
    /// How long a worker may take to end after SIGTERM before SIGKILL.
    pub grace: Duration,
    /// Starts in a row that may fail before a worker is given up.
    pub start_attempts: u32,
    /// A worker that occupies more than this many bytes is ended; 0: none is.
    pub terminate_bytes: u64,
    /// Of the workers; what dead ones left there is removed. Empty: where temporary files are.
    pub local_directory: String,
    /// Whether the supervisor ends when no worker runs and none will be started.
    pub end_without_workers: bool,
}

impl SupervisorConfig {
    #[must_use]
    pub fn new(command: Vec<String>) -> Self {
        Self {
            name: format!("supervisor-{}", std::process::id()),
            host: "localhost".into(),
            command,
            env: Vec::new(),
            name_prefix: String::new(),
            grace: Duration::from_secs(5),
            start_attempts: 5,
            terminate_bytes: 0,
            local_directory: String::new(),
            end_without_workers: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("the command of a worker is empty")]
    NoCommand,
    #[error("cannot start the supervisor's thread: {0}")]
    Thread(#[from] io::Error),
}

/// Where a worker process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessStatus {
    /// It has not registered with a scheduler yet.
    Starting,
    Running,
    /// It was asked to end.
    Stopping,
    /// It ended; another is started soon.
    Restarting,
    /// It ended by its own will or on request; no other is started.
    Ended,
    /// It could not be started; see `last_exit`.
    Failed,
}

impl ProcessStatus {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// A worker process as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessInfo {
    pub name: String,
    /// `None` when none runs.
    pub pid: Option<u32>,
    pub status: ProcessStatus,
    pub restarts: u32,
    /// How the last process of this name ended.
    pub last_exit: Option<ExitReason>,
}

/// The processes, as last written by the supervisor's thread. Whether a process has registered
/// stands in its table.
type Board = Arc<Mutex<Vec<(ProcessInfo, Option<Arc<ExecutingTable>>)>>>;

/// A running supervisor. Dropping it ends all its workers.
pub struct Supervisor {
    commands: Sender<Command>,
    board: Board,
    thread: Mutex<Option<JoinHandle<()>>>,
    ending: Arc<Ending>,
    /// The process that started it: a forked child has neither its thread nor its workers.
    pid: u32,
}

/// Whether the supervisor's thread has ended.
#[derive(Default)]
struct Ending {
    ended: Mutex<bool>,
    told: Condvar,
}

impl Supervisor {
    /// Starts the supervisor's thread, with no workers yet.
    pub fn start(config: SupervisorConfig) -> Result<Self, SupervisorError> {
        if config.command.is_empty() {
            return Err(SupervisorError::NoCommand);
        }
        let (commands, receiver) = channel();
        let board = Board::default();
        let watch = Watch::new(config, commands.clone(), board.clone());
        let thread = std::thread::Builder::new().name("taskloom-supervisor".into());
        let ending = Arc::new(Ending::default());
        let guard = EndGuard(ending.clone());
        let thread = thread.spawn(move || {
            let _guard = guard;
            watch.run(&receiver);
        })?;
        let (thread, pid) = (Mutex::new(Some(thread)), std::process::id());
        Ok(Self { commands, board, thread, ending, pid })
    }

    /// Takes the scheduler's orders: give it to the link to the scheduler.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn Sink<SchedulerToSupervisor>> {
        Arc::new(Orders(Mutex::new(self.commands.clone())))
    }

    /// Registers with a scheduler, and reports to it from now on.
    pub fn attach(&self, link: Arc<dyn Link<SupervisorToScheduler>>) {
        self.command(Command::Attach(link));
    }

    /// Makes `count` numbered workers run: adds the next numbers, or ends the highest ones.
    pub fn scale(&self, count: usize) {
        self.command(Command::Scale(count));
    }

    /// Starts a worker of this name, unless there is one.
    pub fn add(&self, name: &str) {
        self.command(Command::Add(name.into()));
    }

    /// Ends a worker and forgets it.
    pub fn remove(&self, name: &str) {
        self.command(Command::Remove(name.into()));
    }

    /// Ends a worker's process at once and starts a new one.
    pub fn restart(&self, name: &str) {
        self.command(Command::Restart(name.into()));
    }

    #[must_use]
    pub fn processes(&self) -> Vec<ProcessInfo> {
        let board = self.board.lock();
        let with_progress = |(info, table): &(ProcessInfo, Option<Arc<ExecutingTable>>)| {
            let ready = table.as_ref().is_some_and(|t| t.progress() != Progress::Starting);
            let starting = info.status == ProcessStatus::Starting;
            let status = if starting && ready { ProcessStatus::Running } else { info.status };
            ProcessInfo { status, ..info.clone() }
        };
        board.iter().map(with_progress).collect()
    }

    /// Whether the supervisor still watches.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !*self.ending.ended.lock()
    }

    /// Asks all workers to end, kills those that still run after `timeout`, and waits for them.
    pub fn stop(&self, timeout: Duration) {
        self.command(Command::Stop { grace: timeout });
        self.wait();
    }

    /// Waits until the supervisor has ended. Several threads may wait.
    pub fn wait(&self) {
        let mut ended = self.ending.ended.lock();
        self.ending.told.wait_while(&mut ended, |ended| !*ended);
        drop(ended);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }

    fn command(&self, command: Command) {
        // Fails only when the supervisor has ended: then there is nothing to command.
        let _ = self.commands.send(command);
    }
}

/// Tells those who wait, also when the thread panics.
struct EndGuard(Arc<Ending>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        *self.0.ended.lock() = true;
        self.0.told.notify_all();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            return;
        }
        self.stop(Duration::ZERO);
    }
}

/// Turns the scheduler's messages into commands.
struct Orders(Mutex<Sender<Command>>);

impl Orders {
    fn send(&self, command: Command) {
        let _ = self.0.lock().send(command);
    }
}

impl Sink<SchedulerToSupervisor> for Orders {
    fn deliver(&self, messages: &mut Vec<SchedulerToSupervisor>) {
        for message in messages.drain(..) {
            self.send(match message {
                SchedulerToSupervisor::RestartWorker(worker) => Command::Restart(worker.name),
                SchedulerToSupervisor::StopWorker(worker) => Command::Remove(worker.name),
                SchedulerToSupervisor::Close(_) => Command::Close,
            });
        }
    }

    fn closed(&self, _: &str) {
        self.send(Command::Close);
    }

    fn on_new_session(&self, session: &NewSession<'_>) -> bool {
        (session.restart)();
        self.send(Command::Introduce);
        true
    }
}

/// What the supervisor's thread is told.
type Inbox = Receiver<Command>;

#[cfg(test)]
mod tests;
