//! The process's IO thread: outgoing connections, data listeners and timers. It never waits for
//! Python.

use crate::link::{Link, Sink};
use crate::message::ToScheduler;
use crate::session::SessionLink;
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use taskloom_net::event_loop::{Next, TimerId};
use taskloom_net::{
    Address, ConnectError, ConnectOptions, Control, EventLoop, Owner, Remote, connect, log,
};
use taskloom_proto::handshake::Token;

/// State of the IO thread's loop: none, its handlers have their own.
#[derive(Debug)]
pub struct Io;

impl Owner for Io {
    fn turn(&mut self, _: &mut Control<Self>) -> Next {
        Next::WaitUntil(None)
    }
}

/// A thread that serves connections and timers. Ends when the last handle is dropped.
pub struct IoThread {
    remote: Arc<Remote<Io>>,
    /// The process that started it: a forked child has no threads of its parent.
    pid: u32,
}

/// A connection to a scheduler.
pub struct Opened<Out> {
    pub link: Arc<dyn Link<Out>>,
    /// Which run of the scheduler this is.
    pub epoch: u64,
}

impl IoThread {
    pub fn start() -> io::Result<Arc<Self>> {
        let event_loop = EventLoop::new()?;
        let remote = event_loop.remote().clone();
        std::thread::Builder::new().name("taskloom-io".into()).spawn(move || run(event_loop))?;
        Ok(Arc::new(Self { remote, pid: std::process::id() }))
    }

    /// The process's own IO thread, started at first use.
    pub fn global() -> io::Result<Arc<Self>> {
        static GLOBAL: Mutex<Option<Arc<IoThread>>> = Mutex::new(None);
        let mut global = GLOBAL.lock();
        match &*global {
            Some(thread) if thread.pid == std::process::id() => Ok(thread.clone()),
            _ => {
                let thread = Self::start()?;
                // The parent's handle is not dropped: its sockets are shared with the parent.
                std::mem::forget(global.replace(thread.clone()));
                Ok(thread)
            }
        }
    }

    /// Connects to a scheduler. Blocks the caller until the handshake is done or failed;
    /// `sink` is called on the IO thread, and on another one while a broken connection is made
    /// again.
    pub fn connect<Out: ToScheduler>(
        &self,
        address: &str,
        token: &Token,
        sink: Arc<dyn Sink<Out::Reply>>,
        options: ConnectOptions,
    ) -> Result<Opened<Out>, ConnectError> {
        let address: Address = address.parse()?;
        let connected = connect(&address, Out::ROLE, token, options)?;
        let epoch = connected.epoch;
        let remote = self.remote.clone();
        let link = SessionLink::<Out>::open(address, token.clone(), remote, sink, connected);
        Ok(Opened { link, epoch })
    }

    /// Calls back on the IO thread every `period`, first after one period. The callback must
    /// return soon, and must never wait for Python.
    pub fn every(&self, period: Duration, mut callback: impl FnMut() + Send + 'static) -> Timer {
        let id = self.remote.add_timer(period, Some(period), move |_, _| callback());
        Timer { id, remote: self.remote.clone() }
    }

    /// Calls back on the IO thread once, after `delay`.
    pub fn after(&self, delay: Duration, callback: impl FnOnce() + Send + 'static) -> Timer {
        let mut callback = Some(callback);
        let id = self.remote.add_timer(delay, None, move |_, _| {
            if let Some(callback) = callback.take() {
                callback();
            }
        });
        Timer { id, remote: self.remote.clone() }
    }

    pub(crate) fn remote(&self) -> &Arc<Remote<Io>> {
        &self.remote
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        self.remote.stop();
    }
}

fn run(event_loop: EventLoop<Io>) {
    // A panic of a callback ends all connections of the process, visibly; they must not hang.
    match catch_unwind(AssertUnwindSafe(|| event_loop.run(&mut Io))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::report(&format!("the IO thread failed: {error}")),
        Err(_) => log::report("the IO thread panicked; all its connections are closed"),
    }
}

/// A timer of the IO thread. Dropping it does not cancel it.
#[must_use = "keep it to be able to cancel, or ignore it on purpose"]
pub struct Timer {
    id: TimerId,
    remote: Arc<Remote<Io>>,
}

impl Timer {
    /// No further call back starts after the IO thread has seen this.
    pub fn cancel(&self) {
        self.remote.cancel_timer(self.id);
    }
}
