//! Requests for shared objects, and letting go of what they gave.

use super::{Client, PendingAnswer};
use std::sync::Arc;
use std::time::Duration;
use taskloom_proto::client::{ClientToScheduler, Question};
use taskloom_proto::coordination::{Coordination, Settle};

impl Client {
    /// Asks for something of a shared object. The number names what comes of it, for
    /// [`Client::settle`]; it is 0 when the client is closed.
    #[must_use]
    pub fn coordinate(&self, what: Coordination) -> (u64, Arc<PendingAnswer>) {
        self.ask_numbered(Question::Coordinate(what))
    }

    /// Lets go of what a request waits for or was given; see [`Settle`].
    pub fn settle(&self, request: u64, is_taken: bool) {
        if request != 0 && !self.is_closed() {
            self.tell(ClientToScheduler::Settle(Settle { request, is_taken }));
        }
    }

    /// As [`Client::settle`] of what was not taken, for destructors: whoever drops something may
    /// hold any lock, so it is sent by the IO thread.
    pub fn settle_soon(self: &Arc<Self>, request: u64) {
        if request == 0 || self.is_closed() {
            return;
        }
        let client = Arc::downgrade(self);
        let settle = move || {
            if let Some(client) = client.upgrade() {
                client.settle(request, false);
            }
        };
        self.timers.after(Duration::ZERO, Box::new(settle));
    }
}
