//! How two parties talk, whether they share a process or a socket: typed messages, batched.

use bytes::Bytes;

/// The sending half of a connection. Cheap to share; usable from any thread.
///
/// Messages arrive in the order of [`Link::send`]. Nothing waits for a timer: whoever sends
/// decides when a batch is complete and calls [`Link::flush`] on his own thread.
pub trait Link<Out>: Send + Sync {
    /// Queues a message. Never blocks on the other side. After the connection closed, it does
    /// nothing: the [`Sink`] has been told.
    fn send(&self, message: Out);

    /// As [`Link::send`]; gives the encoded message where the link encodes.
    fn send_kept(&self, message: Out) -> Option<Bytes> {
        self.send(message);
        None
    }

    /// Hands over what is queued: writes to the socket, or wakes the other thread.
    fn flush(&self);

    /// Blocks while the other side is far behind, so that a fast producer does not pile up memory.
    /// A courtesy between the pieces of a large submission: skipping it loses nothing.
    fn wait_for_room(&self) {}

    /// Closes the connection after what is queued has been handed over.
    fn close(&self);
}

/// The receiving half: called on the connection's IO thread (or, with an embedded scheduler, on
/// the scheduler's thread). It must return soon, and must never wait for Python.
pub trait Sink<In>: Send + Sync {
    /// Takes all messages that have arrived, in order.
    fn deliver(&self, messages: &mut Vec<In>);

    /// The connection is closed, once, as the last call. `reason` is for people.
    fn closed(&self, reason: &str);

    /// The scheduler does not go on with the session: it was away for too long, or this is another
    /// run of the scheduler. Whoever can begin anew calls [`NewSession::restart`], while nobody
    /// else sends, then introduces itself on the link, and returns true.
    fn on_new_session(&self, session: &NewSession<'_>) -> bool {
        let _ = session;
        false
    }
}

/// A session in the place of one that is over.
pub struct NewSession<'a> {
    /// Which run of the scheduler this is.
    pub epoch: u64,
    /// Whether it is the run of before.
    pub is_same_run: bool,
    /// Why the old session does not go on, for people.
    pub reason: &'a str,
    /// Ends the old session: what was not received of it is dropped, and what is sent afterwards
    /// belongs to the new one.
    pub restart: &'a dyn Fn(),
}
