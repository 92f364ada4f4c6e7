//! Putting values on workers: the scheduler says where, the values go there directly.

use super::entry::Held;
use super::wait::Wait;
use super::{Client, PendingAnswer};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use taskloom_proto::Value;
use taskloom_proto::client::{ClientToScheduler, PlanScatter, Question, Request};
use taskloom_proto::control::{ControlQuestion, Replicate};
use taskloom_proto::rejoin::Named;
use taskloom_types::{Key, TaskId};

/// One value to scatter.
#[derive(Debug, Clone)]
pub struct ScatterItem {
    pub key: Key,
    pub size_bytes: u64,
    /// The encoded value.
    pub segments: Vec<Bytes>,
}

/// A value that workers are to fetch from each other.
struct Spread {
    value: Held,
    /// All of these.
    workers: Vec<String>,
}

/// Values from this size on go to one worker of another host, which passes them on, in bytes.
const SPREAD_FROM: u64 = 1024 * 1024;

/// Values on their way to workers.
pub struct Scatter {
    client: Arc<Client>,
    items: Mutex<Vec<Option<ScatterItem>>>,
    held: Vec<Held>,
    plan: Arc<PendingAnswer>,
    /// Values that one worker gets from here and others from that one.
    spreads: Mutex<Vec<Spread>>,
    /// The first thing that went wrong.
    error: Mutex<Option<String>>,
}

impl Scatter {
    /// Asks the scheduler where the values shall go. A key that is held already is not sent.
    #[must_use]
    pub fn start(
        client: &Arc<Client>,
        items: Vec<ScatterItem>,
        workers: Vec<String>,
        broadcast: bool,
        timeout_ns: u64,
    ) -> Arc<Self> {
        let plan = Arc::new(PendingAnswer { answer: Mutex::default() });
        let mut held = Vec::with_capacity(items.len());
        let mut to_send = Vec::with_capacity(items.len());
        let mut planned = Vec::new();
        let mut submission = client.submission();
        for item in items {
            if let Some(live) = submission.find(&item.key) {
                held.push(live);
                continue;
            }
            let new = submission.add(item.key.clone(), 0);
            planned.push((new.entry().handle, item.key.clone(), item.size_bytes));
            held.push(new);
            to_send.push(Some(item));
        }
        let id = submission.add_question(plan.clone());
        let question =
            Question::PlanScatter(PlanScatter { items: planned, workers, broadcast, timeout_ns });
        submission.send_message(ClientToScheduler::Request(Request { id, question }));
        submission.flush();
        let (client, items) = (client.clone(), Mutex::new(to_send));
        let (spreads, error) = (Mutex::default(), Mutex::default());
        Arc::new(Self { client, items, held, plan, spreads, error })
    }

    /// The plan's answer: wait for it, then call [`Scatter::put`].
    #[must_use]
    pub fn plan(&self) -> &Arc<PendingAnswer> {
        &self.plan
    }

    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    fn fail(&self, reason: String) {
        self.error.lock().get_or_insert(reason);
    }

    /// Takes the workers off the list that will get a large value from other workers: those beyond
    /// this host, but one. This process's line carries it once.
    fn leave_to_spread(&self, item: &ScatterItem, addresses: Vec<String>) -> Vec<String> {
        if item.size_bytes < SPREAD_FROM || addresses.len() < 2 {
            return addresses;
        }
        let is_near = |address: &String| self.client.data.is_near(address);
        let (mut direct, far): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_near);
        let value = self.held.iter().find(|held| held.entry().key == item.key);
        let Some(value) = value.filter(|_| far.len() > 1) else {
            direct.extend(far);
            return direct;
        };
        direct.extend(far.first().cloned());
        self.spreads.lock().push(Spread { value: value.clone(), workers: far });
        direct
    }

    /// The values that are still to spread, once they are where they were put.
    #[must_use]
    pub fn spreading(&self) -> Vec<Held> {
        self.spreads.lock().iter().map(|spread| spread.value.clone()).collect()
    }

    /// Has the scheduler spread the values. A worker that leaves meanwhile needs no copy: the answer
    /// is only to be waited for.
    #[must_use]
    pub fn spread(&self) -> Vec<Arc<PendingAnswer>> {
        let spreads = std::mem::take(&mut *self.spreads.lock());
        let ask = |Spread { value, workers }: Spread| {
            let replicate = Replicate { keys: vec![value.entry().key.clone()], n: 0, workers };
            self.client.ask(Question::Control(ControlQuestion::Replicate(replicate)))
        };
        spreads.into_iter().map(ask).collect()
    }

    /// The value in shared memory, when workers of this host are to have it: one copy for all.
    fn in_shared_memory(&self, item: ScatterItem, addresses: &[String]) -> ScatterItem {
        let (data, segments) = (&self.client.data, &item.segments);
        let memory = data.memory();
        if !memory.would_share(segments) || !addresses.iter().any(|address| data.is_near(address)) {
            return item;
        }
        // The caller keeps what he scatters, and may change it.
        match memory.share(segments, false) {
            Some(shared) => ScatterItem { segments: shared.segments, ..item },
            None => item,
        }
    }

    /// Sends the values as planned. `make_wait` is given the number of transfers.
    ///
    /// # Errors
    /// The scheduler's refusal: its kind (such as `timeout`) and its words.
    pub fn put(
        self: &Arc<Self>,
        make_wait: impl FnOnce(usize) -> Arc<Wait>,
    ) -> Result<(), (String, String)> {
        let answer = self.plan.take().unwrap_or_default();
        if !answer.error.is_empty() || !answer.error_kind.is_empty() {
            return Err((answer.error_kind, answer.error));
        }
        let mut transfers = Vec::new();
        let items = std::mem::take(&mut *self.items.lock());
        let Value::List(places) = answer.value else {
            return Err(("protocol".into(), "the scheduler's plan is no list".into()));
        };
        for (item, place) in items.into_iter().flatten().zip(places) {
            let Some((task, addresses)) = read_place(place) else {
                return Err(("protocol".into(), "the scheduler's plan cannot be read".into()));
            };
            let addresses = self.leave_to_spread(&item, addresses);
            let item = self.in_shared_memory(item, &addresses);
            transfers.extend(addresses.into_iter().map(|address| (address, task, item.clone())));
        }
        let wait = make_wait(transfers.len());
        for (address, task, item) in transfers {
            let (scatter, wait) = (self.clone(), wait.clone());
            let on_reply = Box::new(move |result: Result<(), crate::data::FetchError>| {
                let failed = result.is_err();
                if let Err(error) = result {
                    scatter.fail(error.to_string());
                }
                wait.count_down(failed);
            });
            let value = Named { task, key: item.key, spec_hash: 0 };
            self.client.data.put(&address, value, item.size_bytes, item.segments, on_reply);
        }
        Ok(())
    }
}

/// `[task, [address]]`.
fn read_place(place: Value) -> Option<(TaskId, Vec<String>)> {
    let Value::List(parts) = place else { return None };
    let parts: [Value; 2] = parts.try_into().ok()?;
    let [Value::Int(task), Value::List(addresses)] = parts else { return None };
    let text = |address| match address {
        Value::Text(text) => Some(text),
        _ => None,
    };
    let addresses = addresses.into_iter().map(text).collect::<Option<Vec<_>>>()?;
    Some((TaskId::from_u64(task as u64), addresses))
}
