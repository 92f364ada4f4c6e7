//! Connections of clients that break. Another one goes on with the session, or the scheduler has given
//! the client up: then the client begins a new session, and submits and claims what it has.

use crate::agenda::Happening;
use crate::broken::{Broken, Checked};
use crate::client::{Known, SimClient, SimFuture};
use crate::people::Pickle;
use crate::world::World;
use std::collections::BTreeSet;
use taskloom_core::scheduler::{Event, Party};
use taskloom_proto::actor::ActorNews;
use taskloom_proto::client::ClientToScheduler;
use taskloom_runtime::client::Outcome;
use taskloom_types::{ClientId, Handle, Key, Nanos};

/// How the client answers questions that were open when their session ended.
const SESSION_OVER: &str = "session-over";

/// What follows from a new session.
pub struct Opening {
    pub said: Vec<ClientToScheduler>,
    /// Values that were to be scattered, and have no plan now.
    pub to_give_up: Vec<Handle>,
    /// Keys whose results may be gone.
    pub doubtful: Vec<Key>,
    /// Of what was being cancelled: it is not submitted again.
    cancelled: Vec<Key>,
}

impl World {
    /// Who has this session, if it is one that somebody has.
    pub fn owner(&self, session: ClientId) -> Option<ClientId> {
        self.clients.values().find(|client| client.session == session).map(|client| client.id)
    }

    /// Who hears what is said in this session, if it is not over.
    pub fn listener(&self, session: ClientId) -> Option<ClientId> {
        let mut clients = self.clients.values();
        let client = clients.find(|client| client.session == session && !client.is_given_up)?;
        Some(client.id)
    }

    /// The client's connection breaks, and another one goes on with the session after a while, if it
    /// is still there: what was said meanwhile comes late.
    pub fn break_line(&mut self, client: ClientId, ms: u64) {
        let now = self.agenda.now;
        let until = now.after(ms * Nanos::MILLISECOND);
        let Some(session) = self.client(client).map(|record| record.session) else { return };
        if self.network.is_away(now, session) {
            return;
        }
        self.network.take_away(session, until);
        let party = Party::Client(session);
        let seen_us = self.rng.below(ms * 1_000);
        self.agenda.after_us(seen_us, Happening::ToScheduler(Event::Away(party)));
        self.agenda.put(until, Happening::ToScheduler(Event::Back(party)));
        self.report.client_breaks += 1;
    }

    /// The scheduler has given a client up: what that held of shared objects is free.
    pub fn close_session(&mut self, session: ClientId) {
        let Some(client) = self.owner(session) else { return };
        let Some(record) = self.clients.get_mut(&client) else { return };
        record.is_given_up = true;
        let items = record.sharing.lose();
        self.shared.doubt(items);
    }

    /// Whether it was said in a session of a client that is over: nobody hears it.
    pub fn is_of_the_past(&self, event: &Event) -> bool {
        let (Event::ClientMessage { client, .. } | Event::ClientLeft { client }) = event else {
            return false;
        };
        let is_it = |record: &&SimClient| record.session == *client && !record.is_given_up;
        !self.clients.values().any(|record| is_it(&record))
    }

    /// A client comes back to a session that is over.
    ///
    /// # Errors
    /// It does not go on.
    pub fn return_anew(&mut self, session: ClientId) -> Checked<bool> {
        let is_over = |record: &&mut SimClient| record.alive && record.is_given_up;
        let client = self.owner(session).and_then(|client| self.clients.get_mut(&client));
        let Some(client) = client.filter(is_over).map(|record| record.id) else { return Ok(false) };
        self.begin_client_session(client, true)?;
        Ok(true)
    }

    /// A client introduces itself again, with what it has.
    ///
    /// # Errors
    /// It does not, or says what makes no sense.
    pub fn begin_client_session(&mut self, client: ClientId, is_same_run: bool) -> Checked {
        let epoch = self.scheduler.epoch();
        self.last_session += 1;
        let session = ClientId(self.last_session);
        let Some(record) = self.client(client) else { return Ok(()) };
        let before = record.session;
        let opening = record.begin_session(session, epoch, is_same_run)?;
        self.lose_pickles(|pickle| pickle.session == before);
        self.doubtful.extend(opening.doubtful);
        // Who submits what needs them leaves them out, whoever else has the same tasks.
        let touched = self.with_dependents(opening.cancelled);
        self.forced.extend(touched);
        for message in opening.said {
            self.from_client(client, message);
        }
        self.report.client_sessions += 1;
        self.give_up(client, &opening.to_give_up);
        self.carry(client);
        Ok(())
    }

    /// Whether a future's result may have gone with a session, or one that it needs.
    pub fn may_have_gone(&self, client: ClientId, future: &SimFuture) -> bool {
        let is_of_one = self.clients.get(&client).is_some_and(|record| record.sessions > 0);
        let is_of_others = future.desired || future.unpickled || future.needs_unpickled;
        // Who waits for a key that others unpickled in vain is told with them that it is lost.
        ((is_of_one || is_of_others) && self.is_among(&self.doubtful, &future.key))
            || (is_of_others && self.is_among(&self.lost_pickles, &future.key))
    }

    /// The scheduler may not know of these pickles (any more).
    pub fn lose_pickles(&mut self, is_lost: impl Fn(&Pickle) -> bool) {
        let lost = self.pickles.iter().filter(|pickle| is_lost(pickle));
        self.lost_pickles.extend(lost.map(|pickle| pickle.future.key.clone()));
    }

    /// Whether the key is one of these, or of a task that needs one.
    fn is_among(&self, keys: &BTreeSet<Key>, key: &Key) -> bool {
        let mut open: Vec<&Key> = keys.iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(doubtful) = open.pop() {
            if doubtful == key {
                return true;
            }
            if seen.insert(doubtful) {
                open.extend(self.dependents.get(doubtful).into_iter().flatten());
            }
        }
        false
    }
}

impl SimClient {
    /// The client begins a new session; what must be so of it then is so.
    ///
    /// # Errors
    /// It is not (I1), or it claims or releases what it must not (I12).
    fn begin_session(
        &mut self,
        session: ClientId,
        epoch: u64,
        is_same_run: bool,
    ) -> Checked<Opening> {
        self.session = session;
        self.is_given_up = false;
        self.sessions += 1;
        if !self.real.begin_session(epoch, is_same_run) {
            return Err(Broken::new("I1", format!("client {} does not go on", self.id)));
        }
        let said = self.real.take_said();
        self.check_opening(&said)?;
        let (mut doubtful, mut cancelled) = (Vec::new(), Vec::new());
        for (handle, future) in &mut self.futures {
            doubtful.extend(future.is_doubtful_in_new_session().then(|| future.key.clone()));
            cancelled.extend(future.is_cancelling.then(|| future.key.clone()));
            // Nobody looks at what was released; it may be claimed for tasks that need it.
            let is_forgotten = matches!(self.real.outcome(*handle), Some(Outcome::Pending));
            if future.gone && !is_forgotten {
                continue;
            }
            if future.is_cancelling && !future.gone && !matches!(future.known, Known::Cancelled(_))
            {
                future.known = Known::Cancelled("unknown".into());
                continue;
            }
            // Where a result was means nothing any more; who has the value itself keeps it.
            let has_value = future.has_value();
            if matches!(future.known, Known::Value(_) | Known::There(..)) && !has_value {
                future.known = Known::Pending;
                future.place = None;
            }
            future.is_claimed = has_value;
            if !future.has_ended {
                // It is submitted again, and may be the first this time.
                future.stand_for_other_work(false);
            }
        }
        let held = self.futures.iter().filter(|(_, future)| !future.gone);
        held.map(|(handle, _)| handle).try_for_each(|handle| self.check_entry(*handle))?;
        let to_give_up = self.end_requests()?;
        for watch in self.watches.values_mut() {
            let news = ActorNews { state: ActorNews::GONE, ..ActorNews::default() };
            watch.news = Some(news);
        }
        Ok(Opening { said, to_give_up, doubtful, cancelled })
    }

    /// What was asked has an answer. Returns the values that get no plan.
    fn end_requests(&mut self) -> Checked<Vec<Handle>> {
        let requests = std::mem::take(&mut self.requests);
        let asked = self.sharing.end_asked();
        for id in requests.keys().copied().chain(asked) {
            let answer = self.real.answer(id);
            if answer.is_none_or(|answer| answer.error_kind != SESSION_OVER) {
                let what = format!("request {id} of client {} is not said to be over", self.id);
                return Err(Broken::new("I1", what));
            }
        }
        Ok(requests.into_values().flatten().collect())
    }

    /// Nobody claims or submits what its user has let go, but for the sake of others.
    fn check_opening(&self, said: &[ClientToScheduler]) -> Checked {
        let registers =
            |message: &ClientToScheduler| matches!(message, ClientToScheduler::Register(_));
        if !said.first().is_some_and(registers) || said.iter().skip(1).any(registers) {
            let what = format!("client {} does not introduce itself once, first", self.id);
            return Err(Broken::new("I12", what));
        }
        for message in said {
            let ClientToScheduler::Release(released) = message else { continue };
            let held = |handle: &&Handle| self.futures.get(handle).is_some_and(|it| !it.gone);
            if let Some(handle) = released.handles.iter().find(held) {
                let what = format!("client {} releases {handle}, which it holds", self.id);
                return Err(Broken::new("I12", what));
            }
        }
        Ok(())
    }
}

impl SimFuture {
    /// Whether its result may be lost with a session of its client: it has been finished, so that
    /// the client keeps its call no more, or the client never had that. What its user still holds, and
    /// the client has itself, it gives back; of an actor it has a proxy only.
    fn is_doubtful_in_new_session(&self) -> bool {
        let may_be_lost = self.has_ended || self.desired || self.unpickled || self.is_data();
        may_be_lost && (self.released || self.is_actor || !self.has_value())
    }

    /// Whether the client has the value itself, not only where it is.
    fn has_value(&self) -> bool {
        matches!(self.known, Known::Value(_)) && self.place.is_none()
    }
}
