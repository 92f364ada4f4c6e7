//! Events by topic: what clients, tasks and the scheduler itself record, kept for a while, and told
//! to the clients that subscribed. Also the scheduler's own log.
//!
//! The content is opaque. The topic [`TRANSITIONS`] is not kept: state changes of tasks are told to
//! its subscribers, in batches, and cost nothing while there are none.

use super::journal::{Journal, Limits};
use super::task::State;
use super::worker_table::WorkerSlot;
use super::{Map, Scheduler};
use taskloom_proto::Value;
use taskloom_proto::client::SchedulerToClient;
use taskloom_proto::control::{EventNews, LogEvent};
use taskloom_types::{ClientId, Nanos};

/// All state changes of tasks: `[[key, from, to, address of the worker]]`.
pub const TRANSITIONS: &str = "transitions";

/// State changes in one message.
const TRANSITIONS_AT_ONCE: usize = 4096;

const LIMITS: Limits =
    Limits { records: 10_000, bytes: 16 * 1024 * 1024, total_bytes: 64 * 1024 * 1024 };

/// Lines of the scheduler's log.
const LOG_LIMITS: Limits = Limits { records: 2_000, bytes: 1024 * 1024, total_bytes: 1024 * 1024 };

/// A line of the scheduler's log. The level is of those that Python's logging names.
#[derive(Debug)]
struct LogLine {
    at: Nanos,
    level: &'static str,
    text: String,
}

/// What is kept, and who listens.
#[derive(Debug)]
pub struct Events {
    kept: Journal<String, (Nanos, Value)>,
    subscribers: Map<String, Vec<ClientId>>,
    /// Whether somebody listens to [`TRANSITIONS`].
    pub are_transitions_wanted: bool,
    transitions: Vec<Value>,
    log: Journal<(), LogLine>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            kept: Journal::new(LIMITS),
            subscribers: Map::default(),
            are_transitions_wanted: false,
            transitions: Vec::new(),
            log: Journal::new(LOG_LIMITS),
        }
    }
}

impl Events {
    fn note_whether_transitions_are_wanted(&mut self) {
        self.are_transitions_wanted = self.subscribers.contains_key(TRANSITIONS);
        if !self.are_transitions_wanted {
            self.transitions.clear();
        }
    }

    /// # Errors
    /// A bound or a sum is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if self.subscribers.values().any(Vec::is_empty) {
            return Err("a topic without subscribers is kept".into());
        }
        if self.are_transitions_wanted != self.subscribers.contains_key(TRANSITIONS) {
            return Err("transitions are told to nobody, or kept from somebody".into());
        }
        self.kept.validate()?;
        self.log.validate()
    }

    pub fn subscribers(&self) -> impl Iterator<Item = ClientId> {
        self.subscribers.values().flatten().copied()
    }
}

/// About how many bytes a value takes.
fn bytes_of(value: &Value) -> usize {
    match value {
        Value::Bytes(bytes) => bytes.len(),
        Value::Text(text) => text.len(),
        Value::Key(key) => key.as_bytes().len(),
        Value::List(items) => items.iter().map(|item| 16 + bytes_of(item)).sum(),
        Value::Map(entries) => {
            entries.iter().map(|(key, item)| 32 + bytes_of(key) + bytes_of(item)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 8,
    }
}

impl Scheduler {
    pub(super) fn on_log_event(&mut self, event: LogEvent) {
        for topic in event.topics {
            self.tell_event(topic, Value::Bytes(event.payload.clone()));
        }
    }

    /// Keeps an event and tells those who subscribed to its topic.
    pub(super) fn tell_event(&mut self, topic: String, payload: Value) {
        self.send_event(&topic, &payload);
        // The topic's subscribers hear batches; nobody else may record under that name.
        if topic != TRANSITIONS {
            self.events.kept.write(&topic, bytes_of(&payload), (self.now, payload));
        }
    }

    fn send_event(&mut self, topic: &str, payload: &Value) {
        let Some(subscribers) = self.events.subscribers.get(topic) else { return };
        for client in subscribers {
            let Some(record) = self.clients.get_mut(client) else { continue };
            let news = EventNews { topic: topic.to_string(), payload: payload.clone() };
            let message = SchedulerToClient::Event(news);
            self.outbox.send_client(*client, &mut record.last_action, message);
        }
    }

    pub(super) fn on_subscribe(&mut self, client: ClientId, topics: Vec<String>) {
        for topic in topics {
            let subscribers = self.events.subscribers.entry(topic).or_default();
            if !subscribers.contains(&client) {
                subscribers.push(client);
            }
        }
        self.events.note_whether_transitions_are_wanted();
    }

    pub(super) fn on_unsubscribe(&mut self, client: ClientId, topics: &[String]) {
        self.events.subscribers.retain(|topic, subscribers| {
            if topics.contains(topic) {
                subscribers.retain(|other| *other != client);
            }
            !subscribers.is_empty()
        });
        self.events.note_whether_transitions_are_wanted();
    }

    pub(super) fn forget_subscriptions_of(&mut self, client: ClientId) {
        self.events.subscribers.retain(|_, subscribers| {
            subscribers.retain(|other| *other != client);
            !subscribers.is_empty()
        });
        self.events.note_whether_transitions_are_wanted();
    }

    /// Something happened that people may want to know: an event under the topic `all`.
    pub(super) fn announce<const N: usize>(&mut self, action: &str, facts: [(&str, Value); N]) {
        let mut entries = vec![(Value::from("action"), Value::from(action))];
        entries.extend(facts.into_iter().map(|(name, fact)| (Value::from(name), fact)));
        self.tell_event("all".into(), Value::Map(entries));
    }

    /// A line for the scheduler's log.
    pub(super) fn log(&mut self, level: &'static str, text: String) {
        let line = LogLine { at: self.now, level, text };
        self.events.log.write(&(), line.text.len(), line);
    }

    /// A task changed its state, and somebody wants to know.
    pub(super) fn note_transition(&mut self, index: u32, from: State, to: &'static str) {
        let task = &self.tasks[index];
        let worker = self.workers.get(task.worker).map(|worker| worker.info.address.clone());
        let worker = worker.map_or(Value::Null, Value::from);
        let row = [Value::Key(task.key.clone()), from.name().into(), to.into(), worker];
        self.events.transitions.push(Value::List(row.into()));
    }

    /// Tells the state changes since the last time.
    pub(super) fn tell_transitions(&mut self) {
        while !self.events.transitions.is_empty() {
            let rest_from = self.events.transitions.len().min(TRANSITIONS_AT_ONCE);
            let rest = self.events.transitions.split_off(rest_from);
            let batch = std::mem::replace(&mut self.events.transitions, rest);
            self.send_event(TRANSITIONS, &Value::List(batch));
        }
    }

    pub(super) fn kept_events(&self, topic: Option<&String>) -> Value {
        let of = |topic: &String| {
            let row = |(at, payload): &(Nanos, Value)| {
                Value::List(vec![self.age_of(*at), payload.clone()])
            };
            let rows = self.events.kept.of(topic).map(row).collect();
            (Value::from(topic.clone()), Value::List(rows))
        };
        match topic {
            Some(topic) => Value::Map(vec![of(topic)]),
            None => {
                let mut topics: Vec<&String> = self.events.kept.names().collect();
                topics.sort_unstable();
                Value::Map(topics.into_iter().map(of).collect())
            }
        }
    }

    pub(super) fn log_lines(&self) -> Value {
        let row = |line: &LogLine| {
            let text = Value::from(line.text.clone());
            Value::List(vec![self.age_of(line.at), Value::from(line.level), text])
        };
        Value::List(self.events.log.of(&()).map(row).collect())
    }

    /// How long ago something was, in seconds.
    pub(super) fn age_of(&self, at: Nanos) -> Value {
        Value::from(self.now.since(at) as f64 / 1e9)
    }

    pub(super) fn announce_worker(&mut self, action: &str, slot: WorkerSlot) {
        let info = &self.workers[slot].info;
        let (address, name) = (info.address.clone(), info.name.clone());
        let level = if action == "remove-worker" && !self.workers[slot].end_expected {
            "WARNING"
        } else {
            "INFO"
        };
        self.log(level, format!("{action} {address} ({name})"));
        let facts = [
            ("worker", Value::from(address)),
            ("name", Value::from(name)),
            ("expected", Value::from(self.workers[slot].end_expected)),
        ];
        self.announce(action, facts);
    }
}
