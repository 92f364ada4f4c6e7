//! The scheduler as a thread: one event loop around one `core::scheduler::Scheduler`.
//!
//! The same server is embedded in a client's process and runs alone. Parties of its own process
//! talk to it by swapping vectors of messages, all others over sockets.

mod local;
mod passing;
mod probe;
mod server;
mod sessions;

pub use local::LocalParty;

use crate::link::{Link, Sink};
use local::Mail;
use parking_lot::{Condvar, Mutex};
use server::{Server, SessionTimes};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use taskloom_core::scheduler::{Config, Scheduler};
use taskloom_net::framed::Bounds;
use taskloom_net::listener::Service;
use taskloom_net::token::{TokenError, random_u64};
use taskloom_net::{EventLoop, ListenError, ListenOptions, Listener, Protocol, Remote};
use taskloom_proto::client::{ClientToScheduler, SchedulerToClient};
use taskloom_proto::handshake::Token;
use taskloom_proto::supervisor::{SchedulerToSupervisor, SupervisorToScheduler};
use taskloom_proto::worker::{SchedulerToWorker, WorkerToScheduler};

/// What a scheduler needs to start.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// Addresses such as `tcp://127.0.0.1:0`; the first is the scheduler's name. Empty: only
    /// parties of this process can reach it.
    pub listen: Vec<String>,
    /// Whether addresses that other machines can reach are allowed.
    pub allow_insecure_network: bool,
    pub token: Token,
    /// Its `address` is filled in with the bound one.
    pub core: Config,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("cannot start the scheduler's event loop: {0}")]
    EventLoop(#[from] io::Error),
}

/// Why a scheduler ends that was asked to.
pub(crate) const STOPPED: &str = "the scheduler has stopped";

/// Starts schedulers.
#[derive(Debug)]
pub struct SchedulerServer;

impl SchedulerServer {
    /// Binds the addresses and starts the thread `taskloom-scheduler`.
    pub fn start(config: SchedulerConfig) -> Result<SchedulerHandle, StartError> {
        let epoch = random_u64()?;
        let options = ListenOptions { allow_insecure_network: config.allow_insecure_network };
        let bind =
            |text: &String| Listener::bind(&text.parse().map_err(ListenError::Address)?, options);
        let listeners = config.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let address = match listeners.first() {
            Some(listener) => listener.address().to_string(),
            None => format!("inproc://{}/{epoch:016x}", std::process::id()),
        };
        let event_loop = EventLoop::new()?;
        let remote = event_loop.remote().clone();
        for listener in listeners {
            listener.serve(&remote, service(&config.token, epoch));
        }
        let mail = Arc::new(Mail::new(remote.clone()));
        let core_config = Config { address: address.clone(), ..config.core };
        let sessions = session_times(&core_config);
        let server = Server::new(Scheduler::new(core_config, epoch), mail.clone(), sessions);
        let ending = Arc::new(Ending::default());
        let thread = spawn(event_loop, server, ending.clone())?;
        let thread = Mutex::new(Some(thread));
        Ok(SchedulerHandle { address, epoch, mail, remote, ending, thread })
    }
}

/// A connection counts as broken while there is time to make another one before its worker counts
/// as lost.
fn session_times(config: &Config) -> SessionTimes {
    const LONGEST_SILENCE: Duration = Duration::from_secs(20);
    let silence = Duration::from_nanos(config.worker_ttl_ns / 2).min(LONGEST_SILENCE);
    SessionTimes { grace: Duration::from_nanos(config.grace_ns), silence }
}

fn service(token: &Token, epoch: u64) -> Service<Server> {
    Service {
        token: token.clone(),
        epoch,
        bounds: Bounds::CONTROL,
        protocol: Box::new(|| -> Box<dyn Protocol<Server>> { server::new_connection() }),
    }
}

fn spawn(
    event_loop: EventLoop<Server>,
    server: Server,
    ending: Arc<Ending>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("taskloom-scheduler".into()).spawn(move || {
        let reason = server.run(event_loop);
        *ending.reason.lock() = Some(reason);
        ending.told.notify_all();
    })
}

/// Why the scheduler's thread ended, once it has.
#[derive(Debug, Default)]
struct Ending {
    reason: Mutex<Option<String>>,
    told: Condvar,
}

/// A running scheduler. Dropping the handle stops it.
pub struct SchedulerHandle {
    address: String,
    epoch: u64,
    mail: Arc<Mail>,
    remote: Arc<Remote<Server>>,
    ending: Arc<Ending>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SchedulerHandle {
    /// Where others connect, such as `tcp://127.0.0.1:8786`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Tells this run of the scheduler from others.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Connects a party of this process. `sink` is called on the scheduler's thread.
    pub fn connect<Out: LocalParty>(&self, sink: Arc<dyn Sink<Out::Reply>>) -> Arc<dyn Link<Out>> {
        self.mail.connect(sink)
    }

    pub fn connect_client(
        &self,
        sink: Arc<dyn Sink<SchedulerToClient>>,
    ) -> Arc<dyn Link<ClientToScheduler>> {
        self.connect(sink)
    }

    pub fn connect_worker(
        &self,
        sink: Arc<dyn Sink<SchedulerToWorker>>,
    ) -> Arc<dyn Link<WorkerToScheduler>> {
        self.connect(sink)
    }

    pub fn connect_supervisor(
        &self,
        sink: Arc<dyn Sink<SchedulerToSupervisor>>,
    ) -> Arc<dyn Link<SupervisorToScheduler>> {
        self.connect(sink)
    }

    /// Whether the scheduler still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.ending.reason.lock().is_none()
    }

    /// Whether the scheduler ended by a failure of its own.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.ending.reason.lock().as_ref().is_some_and(|reason| reason != STOPPED)
    }

    /// Waits until the scheduler has ended, at most `timeout`; says why it ended.
    pub fn wait(&self, timeout: Option<Duration>) -> Option<String> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut reason = self.ending.reason.lock();
        while reason.is_none() {
            match deadline {
                None => self.ending.told.wait(&mut reason),
                Some(deadline) => {
                    if self.ending.told.wait_until(&mut reason, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        reason.clone()
    }

    /// Ends the scheduler and waits for its thread; all connections close.
    pub fn stop(&self) {
        self.remote.stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for SchedulerHandle {
    fn drop(&mut self) {
        self.remote.stop();
        let on_own_thread = (self.thread.lock().as_ref())
            .is_some_and(|thread| thread.thread().id() == std::thread::current().id());
        if !on_own_thread {
            // Long enough to remove socket files; an interpreter that exits must not hang.
            self.wait(Some(Duration::from_secs(1)));
        }
    }
}

#[cfg(test)]
mod tests;
