//! How two parties talk, whether they share a process or a socket: typed messages, batched.

/// The sending half of a connection. Cheap to share; usable from any thread.
///
/// Messages arrive in the order of [`Link::send`]. Nothing waits for a timer: whoever sends
/// decides when a batch is complete and calls [`Link::flush`] on his own thread.
pub trait Link<Out>: Send + Sync {
    /// Queues a message. Never blocks on the other side. After the connection closed, it does
    /// nothing: the [`Sink`] has been told.
    fn send(&self, message: Out);

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
}
