//! The supervisor's thread: commands and ends of processes in, starts, signals and reports out.

use super::process::{Ended, Process, spawn_small};
use super::{Board, Inbox, ProcessInfo, ProcessStatus, SupervisorConfig};
use crate::executing::{ExecutingTable, Progress};
use crate::link::Link;
use crate::worker::spill::directory;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use taskloom_net::{log, runtime_dir};
use taskloom_proto::supervisor::{RegisterSupervisor, SupervisorToScheduler, WorkerExited};
use taskloom_proto::{ExitKind, ExitReason};

/// What the supervisor's thread is told.
pub(super) enum Command {
    Attach(Arc<dyn Link<SupervisorToScheduler>>),
    /// A new session began: the scheduler does not know this supervisor.
    Introduce,
    Scale(usize),
    Add(String),
    Remove(String),
    Restart(String),
    /// The process of this run has ended and is to be reaped.
    Exited {
        run: u64,
    },
    /// The scheduler ends, or is gone.
    Close,
    Stop {
        grace: Duration,
    },
}

/// A process that lived this long has started well, whatever it says.
const WELL_STARTED: Duration = Duration::from_secs(10);
/// How often workers are measured, and how often those that run nothing are.
const MEMORY_CHECK: Duration = Duration::from_millis(100);
const QUIET_MEMORY_CHECK: Duration = Duration::from_millis(500);
/// What a shell says about a program that cannot be started.
const NOT_FOUND: ExitKind = ExitKind::Exited(127);
/// Ends in a row, each soon after the start, that are answered without a pause.
const FREE_RESTARTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A process that lived this long ends a row of quick ends.
const LONG_LIFE: Duration = Duration::from_secs(30);

/// A worker name and its process.
struct Ward {
    state: State,
    restarts: u32,
    /// Ends in a row without having started well.
    failed_starts: u32,
    /// Ends in a row after a short life.
    quick_ends: u32,
    last_exit: Option<ExitReason>,
}

enum State {
    Running {
        run: u64,
        process: Process,
        order: Order,
        kill_at: Option<Instant>,
    },
    /// Start at this time.
    Pausing(Instant),
    Ended,
    Failed,
}

/// What shall happen to a running process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    /// End it, start another.
    Replace,
    /// End it, and forget the name.
    Remove,
}

pub(super) struct Watch {
    config: SupervisorConfig,
    /// For the threads that wait for processes.
    commands: Sender<Command>,
    board: Board,
    wards: BTreeMap<String, Ward>,
    link: Option<Arc<dyn Link<SupervisorToScheduler>>>,
    last_run: u64,
    /// Whether a worker was ever asked for.
    used: bool,
    stopping: bool,
    /// When workers are measured next, if they are.
    memory_check: Option<Instant>,
}

impl Watch {
    pub(super) fn new(config: SupervisorConfig, commands: Sender<Command>, board: Board) -> Self {
        Self {
            config,
            commands,
            board,
            wards: BTreeMap::new(),
            link: None,
            last_run: 0,
            used: false,
            stopping: false,
            memory_check: None,
        }
    }

    pub(super) fn run(mut self, inbox: &Inbox) {
        let mut swept = false;
        while !self.is_done() {
            let command = match self.next_deadline() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match command {
                Ok(command) => self.apply(command),
                Err(RecvTimeoutError::Timeout) => {}
                // `self.commands` keeps the channel open.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.on_deadlines(Instant::now());
            self.publish();
            if self.used && !swept {
                // After the first workers were started: nobody waits for this.
                runtime_dir::sweep();
                self.sweep_scratch();
                swept = true;
            }
        }
        if let Some(link) = &self.link {
            link.close();
        }
    }

    fn is_done(&self) -> bool {
        let idle = |ward: &Ward| matches!(ward.state, State::Ended | State::Failed);
        let may_end = self.stopping || (self.config.end_without_workers && self.used);
        may_end && self.wards.values().all(idle)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadline = |ward: &Ward| match &ward.state {
            State::Running { kill_at, .. } => *kill_at,
            State::Pausing(at) => Some(*at),
            State::Ended | State::Failed => None,
        };
        self.wards.values().filter_map(deadline).chain(self.memory_check).min()
    }

    fn on_deadlines(&mut self, now: Instant) {
        self.check_memory(now);
        let mut due = Vec::new();
        for (name, ward) in &mut self.wards {
            match &mut ward.state {
                State::Running { process, kill_at, .. } if kill_at.is_some_and(|at| at <= now) => {
                    *kill_at = None;
                    process.signal(Signal::KILL);
                }
                State::Pausing(at) if *at <= now => due.push(name.clone()),
                _ => {}
            }
        }
        due.iter().for_each(|name| self.start(name));
    }

    /// Ends workers that outgrew their memory.
    fn check_memory(&mut self, now: Instant) {
        let terminate_bytes = self.config.terminate_bytes;
        if terminate_bytes == 0 || self.memory_check.is_some_and(|at| at > now) {
            return;
        }
        let mut next: Option<Duration> = None;
        for ward in self.wards.values_mut() {
            if let State::Running { process, .. } = &mut ward.state {
                process.end_if_outgrown(terminate_bytes);
                let pause = if process.is_busy() { MEMORY_CHECK } else { QUIET_MEMORY_CHECK };
                next = Some(next.map_or(pause, |earlier| earlier.min(pause)));
            }
        }
        self.memory_check = next.map(|pause| now + pause);
    }

    /// Removes what dead workers left on disk.
    fn sweep_scratch(&self) {
        let base = directory::base_directory(&self.config.local_directory);
        // Removing much data takes a while; nobody waits for it.
        let _ = spawn_small("taskloom-sweep", move || directory::sweep(&base));
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Attach(link) => {
                self.link = Some(link);
                self.introduce();
            }
            Command::Introduce => self.introduce(),
            Command::Scale(count) => self.scale(count),
            Command::Add(name) => self.add(name),
            Command::Remove(name) => self.remove(&name, self.config.grace),
            Command::Restart(name) => self.restart(&name),
            Command::Exited { run } => self.on_exited(run),
            Command::Close => self.stop(self.config.grace),
            Command::Stop { grace } => self.stop(grace),
        }
    }

    fn introduce(&self) {
        let Some(link) = &self.link else { return };
        let (name, host) = (self.config.name.clone(), self.config.host.clone());
        link.send(SupervisorToScheduler::Register(RegisterSupervisor { name, host }));
        link.flush();
    }

    /// The number in a name that [`Watch::scale`] gave.
    fn number(&self, name: &str) -> Option<usize> {
        name.strip_prefix(&self.config.name_prefix)?.parse().ok()
    }

    fn scale(&mut self, count: usize) {
        let live = |(name, ward): (&String, &Ward)| match &ward.state {
            State::Running { order: Order::Remove, .. } | State::Ended | State::Failed => None,
            _ => self.number(name),
        };
        let mut numbers: Vec<usize> = self.wards.iter().filter_map(live).collect();
        numbers.sort_unstable();
        for surplus in numbers.split_off(count.min(numbers.len())) {
            self.remove(&format!("{}{surplus}", self.config.name_prefix), self.config.grace);
        }
        let free: Vec<usize> = (0..)
            .filter(|number| {
                let name = format!("{}{number}", self.config.name_prefix);
                // The name of a process that still ends is not free yet.
                !self.wards.get(&name).is_some_and(|ward| {
                    matches!(ward.state, State::Running { .. } | State::Pausing(_))
                })
            })
            .take(count.saturating_sub(numbers.len()))
            .collect();
        for number in free {
            self.add(format!("{}{number}", self.config.name_prefix));
        }
    }

    fn add(&mut self, name: String) {
        let busy = |ward: &Ward| matches!(ward.state, State::Running { .. } | State::Pausing(_));
        if self.stopping || self.wards.get(&name).is_some_and(busy) {
            return;
        }
        self.used = true;
        let ward = Ward {
            state: State::Ended,
            restarts: 0,
            failed_starts: 0,
            quick_ends: 0,
            last_exit: None,
        };
        self.wards.insert(name.clone(), ward);
        self.start(&name);
    }

    fn start(&mut self, name: &str) {
        self.last_run += 1;
        let run = self.last_run;
        let started = Process::start(&self.config, name, run, &self.commands);
        let Some(ward) = self.wards.get_mut(name) else { return };
        match started {
            Ok(process) => {
                ward.state = State::Running { run, process, order: Order::Run, kill_at: None };
            }
            Err(error) => {
                let stderr_tail = format!("cannot start {:?}: {error}", self.config.command);
                let reason = ExitReason { kind: NOT_FOUND, stderr_tail, ..ExitReason::default() };
                ward.last_exit = Some(reason);
                self.retry_start(name);
            }
        }
    }

    fn remove(&mut self, name: &str, grace: Duration) {
        let Some(ward) = self.wards.get_mut(name) else { return };
        match &mut ward.state {
            State::Running { process, order, kill_at, .. } => {
                *order = Order::Remove;
                process.signal(Signal::TERM);
                let at = Instant::now() + grace;
                *kill_at = Some(kill_at.map_or(at, |earlier| earlier.min(at)));
            }
            State::Pausing(_) | State::Ended | State::Failed => drop(self.wards.remove(name)),
        }
    }

    fn restart(&mut self, name: &str) {
        let Some(ward) = self.wards.get_mut(name) else { return };
        match &mut ward.state {
            State::Running { process, order, .. } => {
                if *order == Order::Run {
                    *order = Order::Replace;
                }
                process.signal(Signal::KILL);
            }
            State::Pausing(_) => {}
            State::Ended | State::Failed => {
                ward.failed_starts = 0;
                self.start(name);
            }
        }
    }

    fn stop(&mut self, grace: Duration) {
        self.stopping = true;
        let names: Vec<String> = self.wards.keys().cloned().collect();
        if let Some(link) = &self.link {
            link.send(SupervisorToScheduler::Stopping(names.clone()));
            link.flush();
        }
        names.iter().for_each(|name| self.remove(name, grace));
    }

    fn on_exited(&mut self, run: u64) {
        let of_run = |ward: &Ward| matches!(ward.state, State::Running { run: r, .. } if r == run);
        let found = self.wards.iter_mut().find(|(_, ward)| of_run(ward));
        let Some((name, ward)) = found else { return };
        let name = name.clone();
        let State::Running { process, order, .. } =
            std::mem::replace(&mut ward.state, State::Ended)
        else {
            return;
        };
        let ended = process.end(order != Order::Run);
        ward.last_exit = Some(ended.reason.clone());
        self.sweep_scratch();
        self.decide(&name, &ended, order);
        self.report(&name, ended);
    }

    /// What happens to the name of an ended process.
    fn decide(&mut self, name: &str, ended: &Ended, order: Order) {
        let in_order =
            ended.reason.kind == ExitKind::Exited(0) && ended.progress == Progress::Leaving;
        if self.stopping || order == Order::Remove {
            self.wards.remove(name);
        } else if order == Order::Replace {
            self.pause(name, Duration::ZERO);
        } else if !in_order {
            let started = ended.progress != Progress::Starting
                || !ended.executing.is_empty()
                || ended.lived >= WELL_STARTED;
            if started { self.replace_dead(name, ended.lived) } else { self.retry_start(name) }
        }
    }

    fn pause(&mut self, name: &str, pause: Duration) {
        let Some(ward) = self.wards.get_mut(name) else { return };
        ward.restarts += 1;
        ward.state = State::Pausing(Instant::now() + pause);
    }

    /// A worker died at work: the next one starts at once, unless this happens again and again.
    fn replace_dead(&mut self, name: &str, lived: Duration) {
        let Some(ward) = self.wards.get_mut(name) else { return };
        ward.failed_starts = 0;
        ward.quick_ends = if lived >= LONG_LIFE { 0 } else { ward.quick_ends + 1 };
        let pause = growing_pause(ward.quick_ends.saturating_sub(FREE_RESTARTS));
        self.pause(name, pause);
    }

    fn retry_start(&mut self, name: &str) {
        let Some(ward) = self.wards.get_mut(name) else { return };
        ward.failed_starts += 1;
        if ward.failed_starts < self.config.start_attempts {
            let pause = growing_pause(ward.failed_starts);
            return self.pause(name, pause);
        }
        ward.state = State::Failed;
        let reason = ward.last_exit.clone().unwrap_or_default();
        let (attempts, tail) = (ward.failed_starts, reason.stderr_tail.trim_end());
        log::report(&format!(
            "worker {name} is given up after {attempts} failed starts: {reason}; its last words: \
             {tail}"
        ));
    }

    fn report(&mut self, name: &str, ended: Ended) {
        let state = self.wards.get(name).map(|ward| &ward.state);
        let restarting = matches!(state, Some(State::Pausing(_)));
        let Some(link) = &self.link else { return };
        link.send(SupervisorToScheduler::WorkerExited(WorkerExited {
            name: name.into(),
            pid: ended.pid,
            reason: ended.reason,
            executing: ended.executing,
            restarting,
        }));
        link.flush();
    }

    fn publish(&self) {
        *self.board.lock() = self.wards.iter().map(|(name, ward)| ward.info(name)).collect();
    }
}

impl Ward {
    fn info(&self, name: &str) -> (ProcessInfo, Option<Arc<ExecutingTable>>) {
        let status = match &self.state {
            State::Running { order: Order::Run, .. } => ProcessStatus::Starting,
            State::Running { .. } => ProcessStatus::Stopping,
            State::Pausing(_) => ProcessStatus::Restarting,
            State::Ended => ProcessStatus::Ended,
            State::Failed => ProcessStatus::Failed,
        };
        let process = match &self.state {
            State::Running { process, .. } => Some(process),
            _ => None,
        };
        let pid = process.map(Process::pid);
        let (restarts, last_exit) = (self.restarts, self.last_exit.clone());
        let info = ProcessInfo { name: name.into(), pid, status, restarts, last_exit };
        (info, process.and_then(|process| process.table.clone()))
    }
}

/// Doubles with each failure in a row.
fn growing_pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_PAUSE),
    }
}
