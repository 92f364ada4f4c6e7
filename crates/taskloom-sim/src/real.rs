//! The real client, driven by hand: what it says is taken from a link in memory, what it does later
//! is called back by the agenda. No thread and no socket of its own has a part in it.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use taskloom_proto::client::{Answer, ClientToScheduler, Question, SchedulerToClient};
use taskloom_proto::coordination::Coordination;
use taskloom_proto::frame::write_frame;
use taskloom_proto::handshake::Token;
use taskloom_runtime::client::{
    Client, ClientConfig, Entry, Held, Outcome, PendingAnswer, Scatter, ScatterItem, Timers,
};
use taskloom_runtime::data::DataClient;
use taskloom_runtime::io::IoThread;
use taskloom_runtime::link::{Link, NewSession, Sink};
use taskloom_types::Handle;

type Callback = Box<dyn FnOnce() + Send>;

/// What the client has said and nobody has carried away yet.
#[derive(Default)]
struct Outbox(Mutex<Vec<ClientToScheduler>>);

impl Link<ClientToScheduler> for Outbox {
    fn send(&self, message: ClientToScheduler) {
        self.0.lock().push(message);
    }
    /// Encoded as over a socket: that is what the client keeps of its submissions.
    fn send_kept(&self, message: ClientToScheduler) -> Option<Bytes> {
        let mut frame = Vec::new();
        write_frame(&mut frame, message.kind(), 0, |out| message.write_body(out));
        self.send(message);
        Some(frame.into())
    }
    fn flush(&self) {}
    fn close(&self) {}
}

/// What the client wants to do later.
#[derive(Default)]
struct Later(Mutex<Vec<(Duration, Callback)>>);

impl Timers for Later {
    fn after(&self, delay: Duration, callback: Callback) {
        self.0.lock().push((delay, callback));
    }
}

/// A future of the user's, and what the client keeps of it.
struct Grip {
    /// Until it is released.
    held: Option<Held>,
    entry: Arc<Entry>,
}

pub struct RealClient {
    pub client: Arc<Client>,
    inbox: Arc<dyn Sink<SchedulerToClient>>,
    outbox: Arc<Outbox>,
    later: Arc<Later>,
    calls: BTreeMap<u64, Callback>,
    last_call: u64,
    grips: BTreeMap<Handle, Grip>,
    answers: BTreeMap<u64, Arc<PendingAnswer>>,
}

impl RealClient {
    /// # Panics
    /// The process may start no thread.
    pub fn new(strict: bool, epoch: u64) -> Self {
        let (outbox, later) = (Arc::new(Outbox::default()), Arc::new(Later::default()));
        let token = Token::new("simulated");
        let config = ClientConfig {
            name: String::new(),
            strict,
            worker: String::new(),
            relayed: false,
            token,
        };
        let data = idle_data_client().expect("the simulator needs one thread more");
        let (client, inbox) =
            Client::join_over(&config, later.clone(), data, outbox.clone(), epoch);
        Self {
            client,
            inbox,
            outbox,
            later,
            calls: BTreeMap::new(),
            last_call: 0,
            grips: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    /// What it has said since this was called last.
    pub fn take_said(&self) -> Vec<ClientToScheduler> {
        std::mem::take(&mut self.outbox.0.lock())
    }

    /// When it wants to be called back: number and delay.
    pub fn take_calls(&mut self) -> Vec<(u64, Duration)> {
        let later = std::mem::take(&mut *self.later.0.lock());
        let mut calls = Vec::with_capacity(later.len());
        for (delay, callback) in later {
            self.last_call += 1;
            self.calls.insert(self.last_call, callback);
            calls.push((self.last_call, delay));
        }
        calls
    }

    pub fn call(&mut self, number: u64) {
        if let Some(callback) = self.calls.remove(&number) {
            callback();
        }
    }

    pub fn deliver(&self, message: SchedulerToClient) {
        self.inbox.deliver(&mut vec![message]);
    }

    /// The session with the scheduler is over, and another one begins. Returns whether the client
    /// goes on: then it has introduced itself.
    pub fn begin_session(&self, epoch: u64, is_same_run: bool) -> bool {
        let reason = if is_same_run { "it was away for too long" } else { "it was started again" };
        // What was not sent belongs to the old session.
        let restart = || self.outbox.0.lock().clear();
        let session = NewSession { epoch, is_same_run, reason, restart: &restart };
        self.inbox.on_new_session(&session)
    }

    pub fn keep(&mut self, held: Held) {
        let entry = held.entry().clone();
        self.grips.insert(entry.handle, Grip { held: Some(held), entry });
    }

    /// The user lets go of a future. The client tells of it when it sees fit.
    pub fn let_go(&mut self, handle: Handle) {
        if let Some(grip) = self.grips.get_mut(&handle) {
            grip.held = None;
        }
    }

    pub fn held(&self, handle: Handle) -> Option<Held> {
        self.grips.get(&handle)?.held.clone()
    }

    pub fn all_held(&self, handles: &[Handle]) -> Vec<Held> {
        handles.iter().filter_map(|handle| self.held(*handle)).collect()
    }

    pub fn entry(&self, handle: Handle) -> Option<&Arc<Entry>> {
        self.grips.get(&handle).map(|grip| &grip.entry)
    }

    pub fn outcome(&self, handle: Handle) -> Option<Outcome> {
        self.entry(handle).map(|entry| entry.outcome())
    }

    /// Returns the number of the request.
    pub fn ask(&mut self, question: Question) -> u64 {
        let pending = self.client.ask(question);
        self.await_last(pending)
    }

    pub fn coordinate(&mut self, what: Coordination) -> u64 {
        let (id, pending) = self.client.coordinate(what);
        self.answers.insert(id, pending);
        id
    }

    /// Returns the number of the request for a plan, and the futures.
    pub fn scatter(
        &mut self,
        items: Vec<ScatterItem>,
        broadcast: bool,
        timeout_ns: u64,
    ) -> (u64, Vec<Held>) {
        let scatter = Scatter::start(&self.client, items, Vec::new(), broadcast, timeout_ns);
        (self.await_last(scatter.plan().clone()), scatter.held().to_vec())
    }

    /// The request that was sent last.
    fn await_last(&mut self, pending: Arc<PendingAnswer>) -> u64 {
        let id = match self.outbox.0.lock().last() {
            Some(ClientToScheduler::Request(request)) => request.id,
            _ => 0,
        };
        self.answers.insert(id, pending);
        id
    }

    /// The answer that whoever asked finds.
    pub fn answer(&mut self, request: u64) -> Option<Answer> {
        self.answers.remove(&request)?.take()
    }
}

/// Values are fetched by the simulated network: nobody asks this one for anything.
fn idle_data_client() -> io::Result<DataClient> {
    static IDLE: OnceLock<DataClient> = OnceLock::new();
    if let Some(data) = IDLE.get() {
        return Ok(data.clone());
    }
    let data = DataClient::new(IoThread::global()?, Token::new("simulated"));
    Ok(IDLE.get_or_init(|| data).clone())
}
