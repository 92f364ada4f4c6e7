//! The sending half of a connection. Whoever has bytes writes them himself: no hand-off to the
//! event loop, which only writes what a full socket left over.

use crate::out_queue::OutQueue;
use crate::stream::Stream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use parking_lot::Mutex;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use taskloom_proto::handshake::Features;

#[derive(Debug, Default)]
struct Outgoing {
    queue: OutQueue,
    /// The socket is full: the event loop writes on when it has room.
    waits_for_room: bool,
    /// Whether the event loop watches the socket: it begins after the first bytes may be sent.
    registered: bool,
    /// Set once: close when the queue is empty, or at once after a failure.
    closing: Option<String>,
}

/// A connected socket that any thread may write to.
#[derive(Debug)]
pub struct Channel {
    stream: Stream,
    token: Token,
    registry: Arc<Registry>,
    out: Mutex<Outgoing>,
    /// More unsent bytes than this: the other side does not read, and is given up.
    max_queued: usize,
    passes_files: bool,
    /// Bits of the other side's [`Features`]; none before the handshake.
    features: AtomicU64,
}

impl Channel {
    pub(crate) fn new(
        stream: Stream,
        token: Token,
        registry: Arc<Registry>,
        max_queued: usize,
        passes_files: bool,
    ) -> Self {
        let (out, features) = (Mutex::default(), AtomicU64::default());
        Self { stream, token, registry, out, max_queued, passes_files, features }
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

    /// Queues bytes; after the channel closed, drops them. Call [`Channel::flush`] later.
    pub fn queue(&self, add: impl FnOnce(&mut OutQueue)) {
        let mut out = self.out.lock();
        if out.closing.is_some() {
            return;
        }
        add(&mut out.queue);
        if out.queue.len() > self.max_queued {
            let limit = self.max_queued;
            self.fail(&mut out, format!("the other side does not read: {limit} bytes wait for it"));
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub fn flush(&self) {
        let mut out = self.out.lock();
        if !out.waits_for_room && !out.queue.is_empty() {
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
    /// gives `reason` to whoever receives.
    pub fn close(&self, reason: &str) {
        let mut out = self.out.lock();
        if out.closing.is_none() {
            out.closing = Some(reason.into());
            if !out.waits_for_room {
                self.write(&mut out);
            }
        }
    }

    /// Closes at once and drops what is queued.
    pub fn abort(&self, reason: &str) {
        self.fail(&mut self.out.lock(), reason.into());
    }

    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.out.lock().closing.is_some()
    }

    /// Why this side closed, if it did.
    pub(crate) fn close_reason(&self) -> Option<String> {
        self.out.lock().closing.clone()
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
            Err(error) => self.fail(out, format!("connection lost: {error}")),
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
            self.fail(out, format!("connection lost: {error}"));
        }
    }

    fn fail(&self, out: &mut Outgoing, reason: String) {
        out.closing.get_or_insert(reason);
        out.queue.clear();
        self.stream.shutdown();
    }
}

fn interest(wait_for_room: bool) -> Interest {
    if wait_for_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}
