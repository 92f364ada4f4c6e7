//! The sending half of a connection. Whoever has bytes writes them himself: no hand-off to the
//! event loop, which only writes what a full socket left over.
//!
//! A channel may carry a session: then what it could not deliver outlives it, and another channel
//! takes it over ([`Channel::take_session`], [`Channel::start_session`]).

use crate::out_queue::OutQueue;
use crate::stream::Stream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use parking_lot::Mutex;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use taskloom_proto::handshake::Features;
use taskloom_proto::session::{Alive, Farewell};

/// Why a channel takes nothing more.
#[derive(Debug, Clone)]
struct End {
    reason: String,
    /// A session ends with it; otherwise it may go on with another channel.
    is_final: bool,
}

#[derive(Debug, Default)]
struct Outgoing {
    queue: OutQueue,
    /// The socket is full: the event loop writes on when it has room.
    waits_for_room: bool,
    /// Whether the event loop watches the socket: it begins after the first bytes may be sent.
    registered: bool,
    /// Close when the queue is empty, or at once after a failure.
    closing: Option<End>,
}

/// A connected socket that any thread may write to.
#[derive(Debug)]
pub struct Channel {
    stream: Stream,
    token: Token,
    registry: Arc<Registry>,
    out: Mutex<Outgoing>,
    /// More bytes than this: the other side does not read, and is given up.
    max_queued: usize,
    passes_files: bool,
    /// Bits of the other side's [`Features`]; none before the handshake.
    features: AtomicU64,
    is_session: AtomicBool,
    /// Somebody else has the socket now.
    is_detached: AtomicBool,
    /// Another channel carries the session now.
    is_superseded: AtomicBool,
    /// Bytes of the session that were received.
    received: AtomicU64,
    /// Whether anything was received since the last look.
    heard: AtomicBool,
    /// Looks in a row that found nothing.
    silent: AtomicU32,
}

impl Channel {
    pub(crate) fn new(
        stream: Stream,
        token: Token,
        registry: Arc<Registry>,
        max_queued: usize,
        passes_files: bool,
    ) -> Self {
        Self {
            stream,
            token,
            registry,
            out: Mutex::default(),
            max_queued,
            passes_files,
            features: AtomicU64::default(),
            is_session: AtomicBool::new(false),
            is_detached: AtomicBool::new(false),
            is_superseded: AtomicBool::new(false),
            received: AtomicU64::new(0),
            heard: AtomicBool::new(true),
            silent: AtomicU32::new(0),
        }
    }

    /// Whether descriptors can be sent ([`OutQueue::append_with_files`]).
    #[must_use]
    pub fn passes_files(&self) -> bool {
        self.passes_files
    }

    /// What the other side can read.
    #[must_use]
    pub fn features(&self) -> Features {
        Features::from_bits(self.features.load(Ordering::Relaxed))
    }

    pub(crate) fn set_features(&self, features: Features) {
        self.features.store(features.bits(), Ordering::Relaxed);
    }

    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// Called by the event loop; bytes may have been written before.
    pub(crate) fn register(&self) -> io::Result<()> {
        let mut out = self.out.lock();
        let fd = self.stream.as_raw_fd();
        let interest = interest(out.waits_for_room);
        self.registry.register(&mut SourceFd(&fd), self.token, interest)?;
        out.registered = true;
        Ok(())
    }

    pub(crate) fn deregister(&self) {
        let mut out = self.out.lock();
        let fd = self.stream.as_raw_fd();
        if std::mem::take(&mut out.registered) {
            // Fails only when the loop is gone.
            let _ = self.registry.deregister(&mut SourceFd(&fd));
        }
    }

    /// Queues bytes; after the channel closed, drops them, unless its session may go on. Call
    /// [`Channel::flush`] later.
    pub fn queue(&self, add: impl FnOnce(&mut OutQueue)) {
        let mut out = self.out.lock();
        if out.closing.as_ref().is_some_and(|end| end.is_final) {
            return;
        }
        add(&mut out.queue);
        if out.queue.held() > self.max_queued {
            let limit = self.max_queued;
            let reason = format!("the other side does not read: {limit} bytes wait for it");
            self.fail(&mut out, reason, true);
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub fn flush(&self) {
        let mut out = self.out.lock();
        if !out.waits_for_room && !out.queue.is_empty() && out.closing.is_none() {
            self.write(&mut out);
        }
    }

    /// The event loop saw room in the socket.
    pub(crate) fn on_writable(&self) {
        let mut out = self.out.lock();
        if out.waits_for_room {
            self.write(&mut out);
        }
    }

    /// Closes after what is queued has left. The event loop then sees the connection end and
    /// gives `reason` to whoever receives. A session ends with it, and the other side is told.
    pub fn close(&self, reason: &str) {
        let mut out = self.out.lock();
        match &mut out.closing {
            Some(end) => end.is_final = true,
            None => {
                if self.is_session() {
                    let farewell = Farewell { reason: reason.into() };
                    out.queue.append(|chunk| farewell.write_frame(chunk));
                }
                out.closing = Some(End { reason: reason.into(), is_final: true });
                if !out.waits_for_room {
                    self.write(&mut out);
                }
            }
        }
    }

    /// Gives the socket away: nothing more is read or written here, and it stays open. Only before
    /// a session begins and while nothing is queued.
    pub fn detach(&self) -> io::Result<Stream> {
        let stream = self.stream.try_clone()?;
        self.deregister();
        self.is_detached.store(true, Ordering::Release);
        Ok(stream)
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::Acquire)
    }

    /// Closes at once and drops what is queued, with the session if there is one.
    pub fn abort(&self, reason: &str) {
        self.fail(&mut self.out.lock(), reason.into(), true);
    }

    /// The connection is of no use any more. A session may go on with another one.
    pub fn lose(&self, reason: &str) {
        let is_final = !self.is_session();
        self.fail(&mut self.out.lock(), reason.into(), is_final);
    }

    /// Bytes that the socket has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.out.lock().queue.unsent()
    }

    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.out.lock().closing.is_some()
    }

    /// Why this side closed, if it did.
    pub(crate) fn close_reason(&self) -> Option<String> {
        self.out.lock().closing.as_ref().map(|end| end.reason.clone())
    }

    // Sessions.

    /// Carries a session from now on: `queue` is what it still has to send, `received` how many
    /// of its bytes this side has. Call it when the handshake has been sent.
    pub fn start_session(&self, queue: OutQueue, received: u64) {
        let mut out = self.out.lock();
        if !out.queue.is_empty() {
            // A fresh socket takes a handshake's few bytes; this one is in a strange state.
            return self.fail(&mut out, "the handshake could not be sent".into(), true);
        }
        out.queue = queue;
        self.received.store(received, Ordering::Release);
        self.is_session.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn is_session(&self) -> bool {
        self.is_session.load(Ordering::Acquire)
    }

    /// What the session still has to send, once the connection is lost; `None` when the session
    /// is over too. Nothing may be queued here afterwards.
    #[must_use]
    pub fn take_session(&self) -> Option<OutQueue> {
        let mut out = self.out.lock();
        match &mut out.closing {
            Some(end) if !end.is_final => {
                end.is_final = true;
                self.is_superseded.store(true, Ordering::Release);
                Some(std::mem::take(&mut out.queue))
            }
            _ => None,
        }
    }

    /// Whether [`Channel::take_session`] took the session: what still arrives here does not count.
    pub(crate) fn is_superseded(&self) -> bool {
        self.is_superseded.load(Ordering::Acquire)
    }

    /// Bytes of the session that were received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(crate) fn count_received(&self, bytes: u64) {
        // The event loop's thread alone writes.
        let received = self.received.load(Ordering::Relaxed) + bytes;
        self.received.store(received, Ordering::Release);
    }

    pub(crate) fn acknowledge(&self, upto: u64) -> Result<(), String> {
        self.out.lock().queue.acknowledge(upto)
    }

    /// Sends a sign of life; `asks`: for one of the other side.
    pub fn send_alive(&self, asks: bool) {
        let alive = Alive { received: self.received(), asks };
        self.queue(|queue| queue.append(|chunk| alive.write_frame(chunk)));
        self.flush();
    }

    pub(crate) fn note_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Looks whether anything came since the last look; how many looks in a row found nothing.
    /// Looks, not seconds: a process that was stopped itself has not looked.
    pub fn look(&self) -> u32 {
        if self.heard.swap(false, Ordering::Relaxed) {
            self.silent.store(0, Ordering::Relaxed);
            return 0;
        }
        self.silent.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn write(&self, out: &mut Outgoing) {
        match out.queue.write_to(&self.stream) {
            Ok(true) => {
                self.wait_for_room(out, false);
                if out.closing.is_some() {
                    self.stream.shutdown();
                }
            }
            Ok(false) => self.wait_for_room(out, true),
            Err(error) => {
                let is_final = !self.is_session();
                self.fail(out, format!("connection lost: {error}"), is_final);
            }
        }
    }

    /// Room is only asked for while it lacks: a unix socket would otherwise wake the loop each
    /// time that the other side reads.
    fn wait_for_room(&self, out: &mut Outgoing, wait: bool) {
        if out.waits_for_room == wait {
            return;
        }
        out.waits_for_room = wait;
        if !out.registered {
            return;
        }
        let fd = self.stream.as_raw_fd();
        let changed = self.registry.reregister(&mut SourceFd(&fd), self.token, interest(wait));
        if let Err(error) = changed {
            let is_final = !self.is_session();
            self.fail(out, format!("connection lost: {error}"), is_final);
        }
    }

    fn fail(&self, out: &mut Outgoing, reason: String, is_final: bool) {
        let end = out.closing.get_or_insert(End { reason, is_final });
        end.is_final |= is_final;
        if end.is_final {
            out.queue.clear();
        }
        out.waits_for_room = false;
        if !self.is_detached() {
            self.stream.shutdown();
        }
    }
}

fn interest(wait_for_room: bool) -> Interest {
    if wait_for_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}
