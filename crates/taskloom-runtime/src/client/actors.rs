//! Calls of actors: where each actor lives, and what becomes of calls when that changes.
//!
//! All proxies of one actor in a client share a [`ActorLink`], so that calls arrive in the order in
//! which they were made. The scheduler says where the actor lives, and tells each change; calls go
//! directly there. A call that certainly did not begin is made again where the actor lives next;
//! one that may have begun fails when its connection or its actor is lost: it is never made twice.

use super::Client;
use super::entry::Held;
use super::wait::Wait;
use crate::data::{ActorAnswer, ActorRequest, FetchError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use taskloom_proto::ErrorInfo;
use taskloom_proto::actor::{ActorLife, ActorNews, UnwatchActor, WatchActor};
use taskloom_proto::client::ClientToScheduler;
use taskloom_types::Key;

/// What came of a call.
#[derive(Debug, Clone)]
pub enum CallOutcome {
    /// The encoded result's segments.
    Value(Vec<Bytes>),
    Failed(ErrorInfo),
    /// The client was closed; why.
    Closed(Arc<str>),
}

/// A call of an actor, and its outcome once that is there.
#[derive(Debug)]
pub struct PendingCall {
    state: Mutex<CallState>,
}

#[derive(Debug, Default)]
struct CallState {
    outcome: Option<CallOutcome>,
    is_done: bool,
    waits: Vec<Arc<Wait>>,
}

impl PendingCall {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state.lock().is_done
    }

    /// The outcome, once.
    #[must_use]
    pub fn take(&self) -> Option<CallOutcome> {
        self.state.lock().outcome.take()
    }

    /// Adds a wait that is counted down when the outcome is there.
    pub fn wait_with(&self, wait: &Arc<Wait>) {
        {
            let mut state = self.state.lock();
            if !state.is_done {
                state.waits.push(wait.clone());
                return;
            }
        }
        wait.count_down(false);
    }

    /// Removes a wait that is not needed any more.
    pub fn stop_waiting(&self, wait: &Arc<Wait>) {
        self.state.lock().waits.retain(|other| !Arc::ptr_eq(other, wait));
    }

    /// Only the first outcome counts.
    fn complete(&self, outcome: CallOutcome) {
        let waits = {
            let mut state = self.state.lock();
            if state.is_done {
                return;
            }
            state.is_done = true;
            state.outcome = Some(outcome);
            std::mem::take(&mut state.waits)
        };
        waits.iter().for_each(|wait| wait.count_down(false));
    }
}

/// A call on its way.
struct Call {
    pending: Arc<PendingCall>,
    /// Kept until it is known that it need not be sent again.
    request: ActorRequest,
    /// Keeps the actor and the arguments' tasks alive.
    _held: Vec<Held>,
    /// Until the call has ended, whoever lets go of proxy and future.
    _link: Arc<ActorLink>,
}

/// Where the actor is, as far as is known.
enum Place {
    /// The scheduler's word is awaited.
    Unknown,
    At(ActorLife, Arc<str>),
    /// For good.
    Gone(ErrorInfo),
    Closed(Arc<str>),
}

struct LinkState {
    place: Place,
    last_call: u64,
    /// Calls by their number: the order in which they were made.
    calls: BTreeMap<u64, Call>,
    /// Those of `calls` that are not sent.
    unsent: BTreeSet<u64>,
    /// Those of `calls` that were sent to a life that cannot be reached.
    doubtful: BTreeMap<u64, ActorLife>,
    /// The life that calls were last sent to.
    sent_to: Option<ActorLife>,
    /// Those of `calls` whose answer by an earlier life is still to come. Others wait for that:
    /// what did not begin there goes before them.
    awaited: BTreeSet<u64>,
    /// The life that the scheduler was asked about since it could not be reached.
    doubted: Option<ActorLife>,
    /// How often the present life could not be reached although it is said to be there.
    failures: u32,
}

/// How often a life that is said to be there is tried again.
const TRIES: u32 = 3;

/// All that a client has to do with one actor.
pub struct ActorLink {
    client: Arc<Client>,
    me: Weak<Self>,
    key: Key,
    /// The client's number of its watch.
    number: u64,
    state: Mutex<LinkState>,
}

/// The links of a client.
#[derive(Default)]
pub(super) struct Links {
    last_number: u64,
    by_number: BTreeMap<u64, Weak<ActorLink>>,
    by_key: super::table::Map<Key, u64>,
}

impl Client {
    /// The way to an actor; shared by all who ask for it while somebody has it.
    #[must_use]
    pub fn actor_link(self: &Arc<Self>, key: &Key) -> Arc<ActorLink> {
        let link = {
            let mut links = self.actors.lock();
            let known = links.by_key.get(key).and_then(|number| links.by_number.get(number));
            if let Some(link) = known.and_then(Weak::upgrade) {
                return link;
            }
            links.last_number += 1;
            let number = links.last_number;
            let link = ActorLink::new(self, key.clone(), number);
            links.by_number.insert(number, Arc::downgrade(&link));
            links.by_key.insert(key.clone(), number);
            link
        };
        link.watch(None);
        link
    }

    pub(super) fn on_actor_news(&self, news: ActorNews) {
        let link = self.actors.lock().by_number.get(&news.number).and_then(Weak::upgrade);
        if let Some(link) = link {
            link.on_news(news);
        }
    }

    /// The scheduler does not know the actors of earlier sessions.
    pub(super) fn lose_actors(&self, reason: &str) {
        let links: Vec<_> =
            self.actors.lock().by_number.values().filter_map(Weak::upgrade).collect();
        for link in links {
            let message = format!("the actor {} is lost: {reason}. Submit it again", link.key);
            let error = Some(Box::new(link.error(message)));
            let (number, state) = (link.number, ActorNews::GONE);
            link.on_news(ActorNews { number, state, error, ..ActorNews::default() });
        }
    }

    /// The client is closed: no call will be answered.
    pub(super) fn fail_actor_calls(&self, reason: &str) {
        let links: Vec<_> = {
            let links = self.actors.lock();
            links.by_number.values().filter_map(Weak::upgrade).collect()
        };
        for link in links {
            link.close(reason);
        }
    }
}

impl ActorLink {
    fn new(client: &Arc<Client>, key: Key, number: u64) -> Arc<Self> {
        let place = match client.close_reason() {
            Some(reason) => Place::Closed(reason.into()),
            None => Place::Unknown,
        };
        let state = LinkState {
            place,
            last_call: 0,
            calls: BTreeMap::new(),
            unsent: BTreeSet::new(),
            doubtful: BTreeMap::new(),
            sent_to: None,
            awaited: BTreeSet::new(),
            doubted: None,
            failures: 0,
        };
        Arc::new_cyclic(|me| Self {
            client: client.clone(),
            me: me.clone(),
            key,
            number,
            state: Mutex::new(state),
        })
    }

    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Asks the scheduler where the actor is.
    fn watch(&self, doubted: Option<ActorLife>) {
        let watch = WatchActor { number: self.number, key: self.key.clone(), doubted };
        self.client.tell(ClientToScheduler::WatchActor(watch));
    }

    /// Calls the actor. What is `held` stays so until the answer. Never blocks.
    #[must_use]
    pub fn call(self: &Arc<Self>, request: ActorRequest, held: Vec<Held>) -> Arc<PendingCall> {
        let pending = PendingCall::new();
        let mut state = self.state.lock();
        let end = match &state.place {
            Place::Gone(error) => Some(CallOutcome::Failed(error.clone())),
            Place::Closed(reason) => Some(CallOutcome::Closed(reason.clone())),
            Place::Unknown | Place::At(..) => None,
        };
        if let Some(outcome) = end {
            drop(state);
            pending.complete(outcome);
            return pending;
        }
        state.last_call += 1;
        let number = state.last_call;
        let call = Call { pending: pending.clone(), request, _held: held, _link: self.clone() };
        state.calls.insert(number, call);
        state.unsent.insert(number);
        self.send_unsent(&mut state);
        pending
    }

    /// Sends what waits, in the order of the calls. Under the lock, so that no other call comes
    /// between; what is sent is not answered on this stack.
    fn send_unsent(&self, state: &mut LinkState) {
        let Place::At(life, address) = &state.place else { return };
        if !state.awaited.is_empty() {
            return;
        }
        let (life, address) = (*life, address.clone());
        state.sent_to = Some(life);
        for number in std::mem::take(&mut state.unsent) {
            let Some(call) = state.calls.get(&number) else { continue };
            let me = self.me.clone();
            let on_reply = move |answer| {
                if let Some(me) = me.upgrade() {
                    me.on_answer(number, life, answer);
                }
            };
            let request = call.request.clone();
            self.client.data.call(&address, life, request, Box::new(on_reply));
        }
    }

    fn on_answer(&self, number: u64, life: ActorLife, answer: Result<ActorAnswer, FetchError>) {
        let mut state = self.state.lock();
        let was_last = state.awaited.remove(&number) && state.awaited.is_empty();
        let outcome = match answer {
            Ok(ActorAnswer::Value(segments)) => CallOutcome::Value(segments),
            Ok(ActorAnswer::Raised(error)) => CallOutcome::Failed(error),
            // It has not begun: it may be made again elsewhere.
            Ok(ActorAnswer::Gone) | Err(FetchError::Unreachable(_)) => {
                if state.calls.contains_key(&number) {
                    state.unsent.insert(number);
                }
                return self.doubt(state, life);
            }
            Err(_) => {
                if state.calls.contains_key(&number) {
                    state.doubtful.insert(number, life);
                }
                return self.doubt(state, life);
            }
        };
        state.failures = 0;
        state.doubtful.remove(&number);
        let call = state.calls.remove(&number);
        if was_last {
            self.send_unsent(&mut state);
        }
        drop(state);
        if let Some(call) = call {
            call.pending.complete(outcome);
        }
    }

    /// A life could not be reached: asks the scheduler what became of it.
    fn doubt(&self, mut state: parking_lot::MutexGuard<'_, LinkState>, life: ActorLife) {
        match &state.place {
            Place::At(present, _) if *present == life => {
                state.place = Place::Unknown;
                state.doubted = Some(life);
                drop(state);
                self.watch(Some(life));
            }
            // A later life is known already.
            Place::At(..) => {
                let lost = Self::take_doubtful(&mut state, Some(life));
                self.send_unsent(&mut state);
                drop(state);
                self.fail(lost, &self.interrupted_error());
            }
            Place::Unknown => {}
            Place::Gone(error) => {
                let error = error.clone();
                let calls = std::mem::take(&mut state.calls);
                drop(state);
                self.fail(calls.into_values().collect(), &error);
            }
            Place::Closed(reason) => {
                let reason = reason.to_string();
                drop(state);
                self.close(&reason);
            }
        }
    }

    fn on_news(&self, news: ActorNews) {
        match news.state {
            ActorNews::ALIVE => self.on_alive(news.actor, &news.address),
            ActorNews::MOVING => {
                let mut state = self.state.lock();
                state.place = Place::Unknown;
                state.doubted = None;
            }
            ActorNews::PENDING => {
                let mut state = self.state.lock();
                state.place = Place::Unknown;
                state.doubted = None;
                let interrupted = Self::take_sent(&mut state);
                drop(state);
                self.fail(interrupted, &self.interrupted_error());
            }
            _ => {
                let error = *news.error.unwrap_or_default();
                let mut state = self.state.lock();
                state.place = Place::Gone(error.clone());
                let calls = std::mem::take(&mut state.calls);
                drop(state);
                self.fail(calls.into_values().collect(), &error);
            }
        }
    }

    fn on_alive(&self, life: ActorLife, address: &str) {
        let mut state = self.state.lock();
        let was_doubted = state.doubted.take() == Some(life);
        state.failures = if was_doubted { state.failures + 1 } else { 0 };
        state.place = Place::At(life, address.into());
        // Of calls to this very life it is not known whether they began; others belong to a life
        // that is over.
        let mut lost = Self::take_doubtful(&mut state, None);
        let error =
            if was_doubted { self.unreachable_error(address) } else { self.interrupted_error() };
        if state.failures >= TRIES {
            state.failures = 0;
            for number in std::mem::take(&mut state.unsent) {
                lost.extend(state.calls.remove(&number));
            }
        }
        if state.sent_to.is_some_and(|earlier| earlier != life) {
            let unsent = &state.unsent;
            state.awaited = state.calls.keys().copied().filter(|n| !unsent.contains(n)).collect();
        }
        self.send_unsent(&mut state);
        drop(state);
        self.fail(lost, &error);
    }

    /// Takes out calls that were sent to a life that could not be reached (or to this one).
    fn take_doubtful(state: &mut LinkState, life: Option<ActorLife>) -> Vec<Call> {
        let is_meant = |other: &ActorLife| life.is_none_or(|life| *other == life);
        let numbers: Vec<u64> =
            state.doubtful.iter().filter(|(_, life)| is_meant(life)).map(|(n, _)| *n).collect();
        let mut calls = Vec::with_capacity(numbers.len());
        for number in numbers {
            state.doubtful.remove(&number);
            calls.extend(state.calls.remove(&number));
        }
        calls
    }

    /// Takes out all calls that were sent.
    fn take_sent(state: &mut LinkState) -> Vec<Call> {
        state.doubtful.clear();
        state.awaited.clear();
        let unsent = &state.unsent;
        let (waiting, sent): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut state.calls).into_iter().partition(|(n, _)| unsent.contains(n));
        state.calls = waiting;
        sent.into_values().collect()
    }

    fn fail(&self, calls: Vec<Call>, error: &ErrorInfo) {
        for call in calls {
            call.pending.complete(CallOutcome::Failed(error.clone()));
        }
    }

    fn close(&self, reason: &str) {
        let reason: Arc<str> = reason.into();
        let mut state = self.state.lock();
        state.place = Place::Closed(reason.clone());
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        for call in calls.into_values() {
            call.pending.complete(CallOutcome::Closed(reason.clone()));
        }
    }

    fn interrupted_error(&self) -> ErrorInfo {
        self.error(format!(
            "the worker of the actor {} was lost while this call was under way: whether it had \
             effects is not known, and it is not made again. The actor is restarted from its last \
             snapshot; later calls go there",
            self.key
        ))
    }

    fn unreachable_error(&self, address: &str) -> ErrorInfo {
        self.error(format!(
            "the actor {} lives on the worker at {address}, which cannot be reached from here: \
             whether this call had effects is not known, and it is not made again. Look whether \
             a network or a firewall stands between",
            self.key
        ))
    }

    fn error(&self, message: String) -> ErrorInfo {
        ErrorInfo {
            type_name: "ActorLostError".into(),
            message,
            origin: Some(self.key.clone()),
            ..ErrorInfo::default()
        }
    }
}

impl Drop for ActorLink {
    /// Never blocks for long, and never runs foreign code.
    fn drop(&mut self) {
        let mut links = self.client.actors.lock();
        links.by_number.remove(&self.number);
        if links.by_key.get(&self.key) == Some(&self.number) {
            links.by_key.remove(&self.key);
        }
        drop(links);
        self.client.send(ClientToScheduler::UnwatchActor(UnwatchActor { number: self.number }));
    }
}
