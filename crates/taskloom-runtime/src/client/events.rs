//! Events that a client subscribed to: gathered on the IO thread, taken by a thread of the user.

use super::{Client, Mailbox};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use taskloom_proto::client::ClientToScheduler;
use taskloom_proto::control::{EventNews, LogEvent};

/// Events that wait for their handlers at most; older ones are dropped and counted.
const MAX_WAITING: usize = 100_000;

/// What has arrived and was not taken.
#[derive(Debug, Default)]
pub(super) struct EventInbox {
    state: Mutex<State>,
    topics: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct State {
    news: VecDeque<EventNews>,
    dropped: u64,
    /// Where to leave which token when there is something to take.
    listener: Option<(Arc<Mailbox>, u64)>,
}

impl EventInbox {
    /// What the client has subscribed to.
    pub(super) fn topics(&self) -> Vec<String> {
        self.topics.lock().iter().cloned().collect()
    }

    /// Without a listener, nobody will ever take it.
    pub(super) fn add(&self, news: EventNews) {
        let mut state = self.state.lock();
        let Some((mailbox, token)) = state.listener.clone() else { return };
        let was_empty = state.news.is_empty();
        if state.news.len() >= MAX_WAITING {
            state.news.pop_front();
            state.dropped += 1;
        }
        state.news.push_back(news);
        drop(state);
        if was_empty {
            mailbox.post(token);
        }
    }
}

impl Client {
    /// Leaves `token` in the mailbox whenever events arrive. Call it before subscribing.
    pub fn listen(&self, mailbox: Arc<Mailbox>, token: u64) {
        self.events.state.lock().listener = Some((mailbox, token));
    }

    /// What has arrived since the last time, and how many events were dropped meanwhile.
    #[must_use]
    pub fn take_events(&self) -> (Vec<EventNews>, u64) {
        let mut state = self.events.state.lock();
        (state.news.drain(..).collect(), std::mem::take(&mut state.dropped))
    }

    pub fn log_event(&self, topics: Vec<String>, payload: Bytes) {
        self.tell(ClientToScheduler::LogEvent(LogEvent { topics, payload }));
    }

    pub fn subscribe(&self, topics: Vec<String>) {
        self.events.topics.lock().extend(topics.iter().cloned());
        self.tell(ClientToScheduler::Subscribe(topics));
    }

    pub fn unsubscribe(&self, topics: Vec<String>) {
        self.events.topics.lock().retain(|topic| !topics.contains(topic));
        self.tell(ClientToScheduler::Unsubscribe(topics));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(topic: usize) -> EventNews {
        EventNews { topic: topic.to_string(), ..EventNews::default() }
    }

    #[test]
    fn a_listener_gets_one_token_per_batch() {
        let inbox = EventInbox::default();
        inbox.add(news(0));
        let mailbox = Mailbox::for_thread();
        inbox.state.lock().listener = Some((mailbox.clone(), 7));
        inbox.add(news(1));
        inbox.add(news(2));
        assert_eq!(mailbox.receive(None), [7]);
        let topics: Vec<_> = inbox.state.lock().news.drain(..).map(|news| news.topic).collect();
        assert_eq!(topics, ["1", "2"]);
        inbox.add(news(3));
        assert_eq!(mailbox.receive(None), [7]);
    }

    #[test]
    fn events_that_nobody_takes_do_not_pile_up_for_ever() {
        let inbox = EventInbox::default();
        inbox.state.lock().listener = Some((Mailbox::for_thread(), 1));
        (0..=MAX_WAITING).for_each(|n| inbox.add(news(n)));
        let state = inbox.state.lock();
        assert_eq!((state.news.len(), state.dropped), (MAX_WAITING, 1));
        assert_eq!(state.news[0].topic, "1");
    }
}
