//! How a worker that leaves in order takes leave of those who ask it: what was answered arrives,
//! and of each call they know whether it began.
//!
//! The last message on each connection, [`Parting`], names the calls that have begun and are not
//! answered. From then on no call begins. Who reads it closes the connection, and the worker ends
//! when all have done so, or when nothing moves any more.

use crate::io::Io;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use taskloom_net::event_loop::TimerId;
use taskloom_net::{Channel, Remote};
use taskloom_proto::frame::write_frame;
use taskloom_proto::handshake::Features;
use taskloom_proto::parting::Parting;
use taskloom_proto::peer::PeerMessage;

/// How often the worker looks whether those that read slowly get on.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a row in which nothing moved, after which the rest is given up.
const PATIENCE: u32 = 20;

/// Called once, on the IO thread.
pub type OnAlone = Box<dyn FnOnce() + Send>;

/// Somebody who asks here: one connection.
#[derive(Debug)]
pub(super) struct Guest {
    channel: Arc<Channel>,
    /// It carries ranges of large values and nothing else, which are asked for elsewhere when it ends.
    is_bulk: AtomicBool,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    /// Requests that have begun and are not answered.
    begun: BTreeSet<u64>,
    /// The last word was said: nothing begins.
    has_parted: bool,
}

impl Guest {
    pub(super) fn new(channel: Arc<Channel>) -> Arc<Self> {
        Arc::new(Self { channel, is_bulk: AtomicBool::new(false), calls: Mutex::default() })
    }

    pub(super) fn note_bulk(&self) {
        self.is_bulk.store(true, Ordering::Relaxed);
    }

    pub(super) fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Whether a call may begin. If not, its caller has been told that it did not.
    #[must_use]
    pub(super) fn begin(&self, request: u64) -> bool {
        let mut calls = self.calls.lock();
        if !calls.has_parted {
            calls.begun.insert(request);
        }
        !calls.has_parted
    }

    /// Has a call answered by `send`, unless its caller does not wait for that any more.
    pub(super) fn answer(&self, request: u64, send: impl FnOnce(&Channel)) {
        {
            let mut calls = self.calls.lock();
            calls.begun.remove(&request);
            if calls.has_parted {
                return;
            }
            // Under the lock: what is answered stands before the last word.
            send(&self.channel);
        }
        self.channel.flush();
    }

    pub(super) fn has_parted(&self) -> bool {
        self.calls.lock().has_parted
    }

    /// Says the last word; false: not to those who would not know what it means.
    fn part(&self) -> bool {
        let knows = self.channel.features().contains(Features::PARTING);
        if !knows || self.is_bulk.load(Ordering::Relaxed) {
            return false;
        }
        let mut calls = self.calls.lock();
        calls.has_parted = true;
        let begun = calls.begun.iter().copied().collect();
        let message = PeerMessage::Parting(Parting { begun });
        self.channel.queue(|queue| {
            queue.append(|out| write_frame(out, message.kind(), 0, |out| message.write_body(out)));
        });
        drop(calls);
        self.channel.flush();
        true
    }
}

/// The open connections of a data server.
#[derive(Default)]
pub(super) struct Guests {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// While parting only those that were told.
    open: BTreeMap<usize, Arc<Guest>>,
    is_parting: bool,
    /// Taken when it is over.
    on_alone: Option<OnAlone>,
    looks: Option<TimerId>,
    /// What was open and unwritten at the last look, and how often in a row that was the same.
    seen: (usize, usize),
    unmoved: u32,
}

impl Guests {
    /// A connection was opened. False: this worker takes no new ones.
    pub(super) fn welcome(&self, guest: &Arc<Guest>) -> bool {
        let mut state = self.state.lock();
        if !state.is_parting {
            state.open.insert(name_of(guest), guest.clone());
        }
        !state.is_parting
    }

    /// A connection has ended.
    pub(super) fn on_left(&self, guest: &Arc<Guest>, remote: &Remote<Io>) {
        let mut state = self.state.lock();
        state.open.remove(&name_of(guest));
        let is_alone = state.is_parting && state.open.is_empty();
        let over = if is_alone { state.take_end() } else { None };
        drop(state);
        end(over, remote);
    }

    /// Takes leave of all; calls `on_alone` when they are gone, or when nothing moves any more.
    /// Only the first call counts.
    pub(super) fn part(self: &Arc<Self>, remote: &Arc<Remote<Io>>, on_alone: OnAlone) {
        let open = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.is_parting, true) {
                return;
            }
            std::mem::take(&mut state.open)
        };
        let open: BTreeMap<_, _> = open.into_iter().filter(|(_, guest)| guest.part()).collect();
        let mut state = self.state.lock();
        // One that has ended meanwhile stays in the list; the looks get over that.
        state.open = open;
        state.on_alone = Some(on_alone);
        let guests = Arc::downgrade(self);
        let looking = remote.clone();
        let look = move |_: &mut Io, _: &mut _| {
            if let Some(guests) = guests.upgrade() {
                guests.look(&looking);
            }
        };
        state.looks = Some(remote.add_timer(Duration::ZERO, Some(LOOK), look));
    }

    /// Ends what does not get on.
    fn look(&self, remote: &Remote<Io>) {
        let mut state = self.state.lock();
        state.open.retain(|_, guest| !guest.channel.is_closing());
        let unsent = state.open.values().map(|guest| guest.channel.unsent()).sum();
        let seen = (state.open.len(), unsent);
        state.unmoved = if state.seen == seen { state.unmoved + 1 } else { 0 };
        state.seen = seen;
        let is_over = state.open.is_empty() || state.unmoved >= PATIENCE;
        let over = if is_over { state.take_end() } else { None };
        drop(state);
        end(over, remote);
    }
}

impl State {
    fn take_end(&mut self) -> Option<(OnAlone, Option<TimerId>)> {
        let on_alone = self.on_alone.take()?;
        Some((on_alone, self.looks.take()))
    }
}

/// Without a lock: `on_alone` ends the server.
fn end(over: Option<(OnAlone, Option<TimerId>)>, remote: &Remote<Io>) {
    let Some((on_alone, looks)) = over else { return };
    if let Some(looks) = looks {
        remote.cancel_timer(looks);
    }
    on_alone();
}

fn name_of(guest: &Arc<Guest>) -> usize {
    Arc::as_ptr(guest) as usize
}
