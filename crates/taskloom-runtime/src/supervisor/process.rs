//! One child process: started with its environment, its standard error passed on and remembered,
//! its end classified.

use super::oom::OomKills;
use super::watch::Command;
use super::{SupervisorConfig, memory};
use crate::executing::{EXECUTING_FILE, ExecutingTable, Progress, SUPERVISOR_PID};
use crate::resident::resident_bytes;
use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use taskloom_proto::{ExitKind, ExitReason};

/// Remembered bytes of standard error.
const TAIL_BYTES: usize = 8 * 1024;
/// How long the rest of standard error is waited for after the end: grandchildren may keep it
/// open.
const TAIL_TIME: Duration = Duration::from_millis(200);
/// Threads whose runs are noted: executors, and those that replace waiting ones.
const EXECUTING_SLOTS: usize = 1024;
/// Waiting and copying need little stack.
const STACK_BYTES: usize = 128 * 1024;

/// One thread per executor is enough: libraries that start one per core would slow each other.
const SINGLE_THREADED: [&str; 6] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
];
/// Give freed memory back to the system early (glibc).
const TRIM: (&str, &str) = ("MALLOC_TRIM_THRESHOLD_", "65536");

/// A running child.
pub(super) struct Process {
    child: Child,
    pub(super) table: Option<Arc<ExecutingTable>>,
    pub(super) started: Instant,
    tail: Arc<Tail>,
    oom_before: OomKills,
    /// Why it was ended, if it was for its size.
    outgrown: Option<String>,
}

impl Process {
    /// Starts a worker; its end is told as [`Command::Exited`] with this `run`.
    pub(super) fn start(
        config: &SupervisorConfig,
        name: &str,
        run: u64,
        commands: &Sender<Command>,
    ) -> io::Result<Self> {
        // Without a table crashes are blamed on all assigned tasks; better than no worker.
        let table = ExecutingTable::create(EXECUTING_SLOTS).ok().map(Arc::new);
        let oom_before = OomKills::now();
        let mut child = command(config, name, table.as_deref()).spawn()?;
        let tail = Arc::new(Tail::default());
        let watched = watch_end(&child, run, commands.clone())
            .and_then(|()| pass_on_stderr(child.stderr.take(), tail.clone()));
        if let Err(error) = watched {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        let started = Instant::now();
        Ok(Self { child, table, started, tail, oom_before, outgrown: None })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. The number cannot belong to another process: it is freed by
    /// [`Process::end`], which consumes this.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // It may have ended a moment ago.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Ends the process if it occupies more than so many bytes.
    pub(super) fn end_if_outgrown(&mut self, terminate_bytes: u64) {
        let resident_bytes = resident_bytes(&self.pid().to_string());
        if let Some(bytes) = resident_bytes.filter(|bytes| *bytes > terminate_bytes)
            && self.outgrown.is_none()
        {
            self.outgrown = Some(memory::explanation(bytes, terminate_bytes));
            self.signal(Signal::KILL);
        }
    }

    /// Whether a task runs there; assumed where that cannot be told.
    pub(super) fn is_busy(&self) -> bool {
        self.table.as_ref().is_none_or(|table| !table.read_all().is_empty())
    }

    pub(super) fn progress(&self) -> Progress {
        self.table.as_ref().map_or(Progress::Starting, |table| table.progress())
    }

    /// Reaps the ended process and says how it ended.
    pub(super) fn end(mut self, requested: bool) -> Ended {
        let status = self.child.wait();
        self.tail.wait_for_end(TAIL_TIME);
        let kind = match status {
            _ if requested => ExitKind::Requested,
            _ if self.outgrown.is_some() => ExitKind::OutOfMemory,
            Ok(status) => kind(status, self.oom_before),
            // Somebody else in this process reaped it.
            Err(_) => ExitKind::Unknown,
        };
        Ended {
            pid: self.child.id(),
            reason: ExitReason {
                kind,
                stderr_tail: self.tail.text(),
                detail: self.outgrown.take().unwrap_or_default(),
            },
            executing: self.table.as_ref().map(|table| table.read_all()).unwrap_or_default(),
            progress: self.progress(),
            lived: self.started.elapsed(),
        }
    }
}

/// What is known of an ended process.
pub(super) struct Ended {
    pub(super) pid: u32,
    pub(super) reason: ExitReason,
    pub(super) executing: Vec<(taskloom_types::TaskId, taskloom_types::Attempt)>,
    pub(super) progress: Progress,
    pub(super) lived: Duration,
}

fn kind(status: ExitStatus, oom_before: OomKills) -> ExitKind {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitKind::Exited(code),
        (None, Some(signal)) => {
            let killed = signal == Signal::KILL.as_raw();
            if killed && OomKills::now().increased_since(oom_before) {
                return ExitKind::OutOfMemory;
            }
            ExitKind::Signalled(signal)
        }
        (None, None) => ExitKind::Unknown,
    }
}

fn command(
    config: &SupervisorConfig,
    name: &str,
    table: Option<&ExecutingTable>,
) -> std::process::Command {
    let argument = |text: &String| if text == "{name}" { name.into() } else { text.clone() };
    let mut arguments = config.command.iter().map(argument);
    let mut command = std::process::Command::new(arguments.next().unwrap_or_default());
    command.args(arguments);
    for variable in SINGLE_THREADED {
        set_default(&mut command, variable, "1");
    }
    set_default(&mut command, TRIM.0, TRIM.1);
    command.envs(config.env.iter().map(|(variable, value)| (variable, value)));
    command.env(SUPERVISOR_PID, std::process::id().to_string());
    match table {
        Some(table) => command.env(EXECUTING_FILE, table.path()),
        None => command.env_remove(EXECUTING_FILE),
    };
    // A process group of its own: Ctrl-C in the terminal is for the program, which ends its
    // workers in order.
    command.process_group(0).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn set_default(command: &mut std::process::Command, variable: &str, value: &str) {
    if std::env::var_os(variable).is_none() {
        command.env(variable, value);
    }
}

/// Waits for the end without reaping, so that the process number stays taken until the
/// supervisor's thread has seen it.
fn watch_end(child: &Child, run: u64, commands: Sender<Command>) -> io::Result<()> {
    let pid = Pid::from_child(child);
    let wait = move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options)
        {
        }
        // Nobody listens when the supervisor has ended.
        let _ = commands.send(Command::Exited { run });
    };
    spawn_small("taskloom-wait", wait)
}

pub(super) fn spawn_small(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(run).map(drop)
}

fn pass_on_stderr(stderr: Option<ChildStderr>, tail: Arc<Tail>) -> io::Result<()> {
    let Some(mut stderr) = stderr else { return Ok(()) };
    spawn_small("taskloom-stderr", move || {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match stderr.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    tail.add(&buffer[..count]);
                    // Ours may be closed; theirs must not fill up for that.
                    let _ = io::stderr().write_all(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        tail.finish();
    })
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail {
    state: Mutex<TailState>,
    ended: Condvar,
}

#[derive(Default)]
struct TailState {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl Tail {
    fn add(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.bytes.extend(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let surplus = state.bytes.len().saturating_sub(TAIL_BYTES);
        state.bytes.drain(..surplus);
    }

    fn finish(&self) {
        self.state.lock().ended = true;
        self.ended.notify_all();
    }

    fn wait_for_end(&self, time: Duration) {
        let mut state = self.state.lock();
        let still_open = |state: &mut TailState| !state.ended;
        let _ = self.ended.wait_while_for(&mut state, still_open, time);
    }

    fn text(&self) -> String {
        let mut state = self.state.lock();
        String::from_utf8_lossy(state.bytes.make_contiguous()).into_owned()
    }
}
