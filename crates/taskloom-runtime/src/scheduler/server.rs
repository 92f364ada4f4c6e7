//! What the scheduler's thread does: events in, actions out, no decisions.

use super::STOPPED;
use super::local::{Letter, Mail};
use super::sessions::number_of;
use crate::link::Sink;
use crate::message::Message;
use hashbrown::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskloom_core::scheduler::{Action, Event, Party as Member, Scheduler};
use taskloom_net::event_loop::Next;
use taskloom_net::framed::Bounds;
use taskloom_net::token::random_u64;
use taskloom_net::{Channel, Control, EventLoop, OutQueue, Owner, Protocol, Relay, log};
use taskloom_proto::client::{ClientToScheduler, Closing, SchedulerToClient};
use taskloom_proto::frame::Frame;
use taskloom_proto::handshake::Role;
use taskloom_proto::session::{Resume, Welcome};
use taskloom_proto::supervisor::{SchedulerToSupervisor, SupervisorToScheduler};
use taskloom_proto::worker::{SchedulerToWorker, WorkerToScheduler};
use taskloom_types::{ClientId, ConnId, Nanos, WorkerNo};

/// How long a closed connection may take to read its last messages.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The scheduler's loop owns this.
pub struct Server {
    pub(super) core: Scheduler,
    mail: Arc<Mail>,
    /// Swapped with the letter box, to keep both allocations.
    letters: Vec<Letter>,
    pub(super) parties: HashMap<u32, Party>,
    /// Parties with unsent messages.
    dirty: Vec<u32>,
    /// Connections to give up if their last messages do not leave soon.
    closing: Vec<Arc<Channel>>,
    /// Workers whose connections broke, to look whether their processes still are.
    pub(super) doubtful: Vec<WorkerNo>,
    pub(super) sessions: SessionTimes,
    pub(super) is_watching: bool,
    /// Passes connections on to workers; started for the first one.
    pub(super) relay: Option<Arc<Relay>>,
    origin: Instant,
    /// The time of the batch of events under way; read once per batch.
    now: Option<Nanos>,
    stopping: bool,
    /// A worker was told something in the last turn: it may answer soon.
    spoke_to_worker: bool,
}

/// What the scheduler tells those who connect about their sessions.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionTimes {
    /// How long a session may be without a connection.
    pub(super) grace: Duration,
    /// Silence after which a connection counts as broken.
    pub(super) silence: Duration,
}

/// The sending side of one session.
pub(super) struct Party {
    pub(super) role: Role,
    pub(super) way: Way,
    dirty: bool,
    /// Its name; 0: there is none, the party is in this process.
    pub(super) session: u64,
}

pub(super) enum Way {
    Socket(Arc<Channel>),
    /// The connection is broken. What the session still has to send, and how many bytes of it
    /// were received.
    Away(OutQueue, u64),
    Client(Local<SchedulerToClient>),
    Worker(Local<SchedulerToWorker>),
    Supervisor(Local<SchedulerToSupervisor>),
}

pub(super) struct Local<In> {
    sink: Arc<dyn Sink<In>>,
    batch: Vec<In>,
}

impl<In> Local<In> {
    fn new(sink: Arc<dyn Sink<In>>) -> Self {
        Self { sink, batch: Vec::new() }
    }

    fn deliver(&mut self) {
        if !self.batch.is_empty() {
            // Taken out: should the sink panic, it is not given the same messages again.
            let mut batch = std::mem::take(&mut self.batch);
            self.sink.deliver(&mut batch);
            batch.clear();
            self.batch = batch;
        }
    }

    fn close(&mut self, reason: &str) {
        self.deliver();
        self.sink.closed(reason);
    }
}

impl Server {
    pub(super) fn new(core: Scheduler, mail: Arc<Mail>, sessions: SessionTimes) -> Self {
        Self {
            core,
            mail,
            letters: Vec::new(),
            parties: HashMap::new(),
            dirty: Vec::new(),
            closing: Vec::new(),
            doubtful: Vec::new(),
            sessions,
            is_watching: false,
            relay: None,
            origin: Instant::now(),
            now: None,
            stopping: false,
            spoke_to_worker: false,
        }
    }

    /// Runs until stopped; returns why it ended. However that happens, every party is told.
    pub(super) fn run(mut self, event_loop: EventLoop<Self>) -> String {
        let ended = catch_unwind(AssertUnwindSafe(|| event_loop.run(&mut self)));
        let reason = match ended {
            Ok(Ok(())) => return STOPPED.into(),
            Ok(Err(error)) => format!("the scheduler failed: {error}"),
            Err(panic) => format!("the scheduler failed: {}", panic_text(&*panic)),
        };
        self.end(&reason);
        reason
    }

    /// Takes leave of everybody.
    fn end(&mut self, reason: &str) {
        for letter in self.mail.close(reason) {
            match letter {
                Letter::ConnectClient(_, sink) => sink.closed(reason),
                Letter::ConnectWorker(_, sink) => sink.closed(reason),
                Letter::ConnectSupervisor(_, sink) => sink.closed(reason),
                Letter::Client(..) | Letter::Worker(..) | Letter::Supervisor(..) => {}
                Letter::Leave(_) => {}
            }
        }
        let parties = std::mem::take(&mut self.parties);
        for (number, mut party) in parties {
            let told = catch_unwind(AssertUnwindSafe(|| party.last_words(reason)));
            if told.is_err() {
                log::report(&format!("connection {number} panicked while it was closed"));
            }
        }
    }

    fn now(&mut self) -> Nanos {
        let origin = self.origin;
        *self.now.get_or_insert_with(|| Nanos(origin.elapsed().as_nanos() as u64))
    }

    pub(super) fn handle(&mut self, event: Event) {
        let now = self.now();
        self.note_relayed();
        self.core.handle(now, event);
    }

    fn read_mail(&mut self) {
        let mut letters = std::mem::take(&mut self.letters);
        self.mail.swap(&mut letters);
        for letter in letters.drain(..) {
            self.read_letter(letter);
        }
        self.letters = letters;
    }

    fn read_letter(&mut self, letter: Letter) {
        match letter {
            Letter::Client(number, messages) => self.hear(number, messages),
            Letter::Worker(number, messages) => self.hear(number, messages),
            Letter::Supervisor(number, messages) => self.hear(number, messages),
            Letter::ConnectClient(number, sink) => {
                self.join(number, Role::Client, Way::Client(Local::new(sink)));
            }
            Letter::ConnectWorker(number, sink) => {
                self.join(number, Role::Worker, Way::Worker(Local::new(sink)));
            }
            Letter::ConnectSupervisor(number, sink) => {
                self.join(number, Role::Supervisor, Way::Supervisor(Local::new(sink)));
            }
            Letter::Leave(number) => self.leave(number, "closed by this side"),
        }
    }

    /// What a closed party still says is not heard.
    fn hear<M: Heard>(&mut self, number: u32, messages: Vec<M>) {
        if self.parties.contains_key(&number) {
            messages.into_iter().for_each(|message| self.handle(message.event(number)));
        }
    }

    fn join(&mut self, number: u32, role: Role, way: Way) {
        self.parties.insert(number, Party { role, way, dirty: false, session: 0 });
    }

    /// A connection is over. Tells the core, once.
    pub(super) fn leave(&mut self, number: u32, reason: &str) {
        let Some(mut party) = self.parties.remove(&number) else { return };
        party.close(reason);
        self.handle(left(party.role, number));
    }

    /// The core wants a connection closed.
    fn dismiss(&mut self, number: u32, reason: &str) {
        let Some(party) = self.parties.get_mut(&number) else { return };
        match &party.way {
            // The end of the socket comes back as an event of the loop.
            Way::Socket(channel) => {
                channel.close(reason);
                self.closing.push(channel.clone());
            }
            _ => self.leave(number, reason),
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::ToClient(to, message) => self.tell(to.0, message),
            Action::ToWorker(to, message) => {
                self.spoke_to_worker = true;
                self.tell(to.0, message);
            }
            Action::ToSupervisor(to, message) => {
                // Connections are numbered with 32 bits; see `Mail::new_number`.
                self.tell(to.0 as u32, message);
            }
            Action::CloseWorker(WorkerNo(number), reason)
            | Action::CloseClient(ClientId(number), reason) => self.dismiss(number, &reason),
            Action::CloseSupervisor(ConnId(number), reason) => {
                self.dismiss(number as u32, &reason);
            }
            Action::CutWorker(WorkerNo(number), reason) => self.cut(number, &reason),
            Action::Stop => self.stopping = true,
        }
    }

    fn tell<M: Told>(&mut self, number: u32, message: M) {
        // A party may leave while the core still writes to it.
        let Some(party) = self.parties.get_mut(&number) else { return };
        match &mut party.way {
            Way::Socket(channel) => {
                channel.queue(|queue| queue.append(|chunk| message.write_frame(chunk)));
            }
            Way::Away(queue, _) => {
                queue.append(|chunk| message.write_frame(chunk));
                if queue.held() > Bounds::CONTROL.max_queued {
                    self.leave(number, "it was away, and too much waited for it");
                }
                return;
            }
            way => {
                if let Some(local) = M::local(way) {
                    local.batch.push(message);
                }
            }
        }
        if !party.dirty {
            party.dirty = true;
            self.dirty.push(number);
        }
    }

    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for number in dirty.drain(..) {
            if let Some(party) = self.parties.get_mut(&number) {
                party.flush();
            }
        }
        self.dirty = dirty;
    }

    /// Gives closed connections a bounded time to read their last messages.
    fn watch_closing(&mut self, control: &Control<Self>) {
        for channel in self.closing.drain(..) {
            let channel = Arc::downgrade(&channel);
            control.remote().add_timer(LAST_WORDS, None, move |_, _| {
                if let Some(channel) = channel.upgrade() {
                    channel.abort("closed by this side");
                }
            });
        }
    }

    fn until(&self) -> Option<Instant> {
        let deadline = self.core.next_deadline()?;
        Some(self.origin + Duration::from_nanos(deadline.0))
    }
}

impl Owner for Server {
    fn turn(&mut self, control: &mut Control<Self>) -> Next {
        self.spoke_to_worker = false;
        self.read_mail();
        let now = self.now();
        for action in self.core.poll(now) {
            self.perform(action);
        }
        self.flush();
        self.watch_closing(control);
        self.watch_sessions(control);
        self.now = None;
        if self.stopping { Next::Stop } else { Next::WaitUntil(self.until()) }
    }

    fn has_mail(&self) -> bool {
        self.mail.has_letters()
    }

    fn expects_answer(&self) -> bool {
        self.spoke_to_worker
    }

    fn on_stop(&mut self) {
        self.end(STOPPED);
    }
}

impl Party {
    fn flush(&mut self) {
        self.dirty = false;
        match &mut self.way {
            Way::Socket(channel) => channel.flush(),
            Way::Away(..) => {}
            Way::Client(local) => local.deliver(),
            Way::Worker(local) => local.deliver(),
            Way::Supervisor(local) => local.deliver(),
        }
    }

    fn close(&mut self, reason: &str) {
        match &mut self.way {
            Way::Socket(channel) => channel.close(reason),
            Way::Away(..) => {}
            Way::Client(local) => local.close(reason),
            Way::Worker(local) => local.close(reason),
            Way::Supervisor(local) => local.close(reason),
        }
    }

    /// Closes, and says why to those who cannot see it from the connection's end.
    fn last_words(&mut self, reason: &str) {
        if let Way::Socket(channel) = &self.way {
            let closing = Closing { reason: reason.into() };
            channel.queue(|queue| match self.role {
                Role::Client => {
                    queue.append(|chunk| SchedulerToClient::Closing(closing).write_frame(chunk));
                }
                Role::Worker => {
                    queue.append(|chunk| SchedulerToWorker::Close(closing).write_frame(chunk));
                }
                Role::Supervisor | Role::Peer | Role::Relay => {}
            });
        }
        self.close(reason);
    }
}

/// The party as the core knows it.
pub(super) fn member(role: Role, number: u32) -> Member {
    match role {
        Role::Client => Member::Client(ClientId(number)),
        Role::Worker => Member::Worker(WorkerNo(number)),
        Role::Supervisor | Role::Peer | Role::Relay => {
            Member::Supervisor(ConnId(u64::from(number)))
        }
    }
}

fn left(role: Role, number: u32) -> Event {
    match role {
        Role::Client => Event::ClientLeft { client: ClientId(number) },
        Role::Worker => Event::WorkerLeft { worker: WorkerNo(number) },
        Role::Supervisor | Role::Peer | Role::Relay => {
            Event::SupervisorLeft { supervisor: ConnId(u64::from(number)) }
        }
    }
}

/// A message to the scheduler, as an event of its sender.
trait Heard: Message {
    fn event(self, number: u32) -> Event;
}

impl Heard for ClientToScheduler {
    fn event(self, number: u32) -> Event {
        Event::ClientMessage { client: ClientId(number), message: self }
    }
}

impl Heard for WorkerToScheduler {
    fn event(self, number: u32) -> Event {
        Event::WorkerMessage { worker: WorkerNo(number), message: self }
    }
}

impl Heard for SupervisorToScheduler {
    fn event(self, number: u32) -> Event {
        let supervisor = ConnId(u64::from(number));
        Event::SupervisorMessage { supervisor, message: self }
    }
}

/// A message from the scheduler, and the parties of this process that take it.
trait Told: Message {
    fn local(way: &mut Way) -> Option<&mut Local<Self>>;
}

macro_rules! told {
    ($($message:ident: $way:ident;)*) => {$(
        impl Told for $message {
            fn local(way: &mut Way) -> Option<&mut Local<Self>> {
                match way {
                    Way::$way(local) => Some(local),
                    _ => None,
                }
            }
        }
    )*};
}
told! {
    SchedulerToClient: Client;
    SchedulerToWorker: Worker;
    SchedulerToSupervisor: Supervisor;
}

/// A socket's receiving side, once accepted.
pub(super) fn new_connection() -> Box<dyn Protocol<Server>> {
    Box::new(Connection { number: 0, role: Role::Client, session: 0, goes_on: None, channel: None })
}

struct Connection {
    /// 0 before the handshake is done.
    number: u32,
    role: Role,
    session: u64,
    /// The other side's position, where a session goes on.
    goes_on: Option<u64>,
    channel: Option<Arc<Channel>>,
}

impl Protocol<Server> for Connection {
    fn on_open(
        &mut self,
        server: &mut Server,
        _: &Arc<Channel>,
        role: Role,
        resume: Option<Resume>,
    ) -> Result<Welcome, String> {
        if role == Role::Peer {
            return Err("this is a scheduler; it serves no data".into());
        }
        self.role = role;
        if role == Role::Relay {
            return Ok(Welcome::default());
        }
        let SessionTimes { grace, silence } = server.sessions;
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let (grace_ms, silence_ms) = (millis(grace), millis(silence));
        let mut reason = String::new();
        if let Some(Resume { session, received: position }) = resume {
            match server.prepare_resume(role, session, position) {
                Ok(received) => {
                    self.number = number_of(session);
                    self.session = session;
                    self.goes_on = Some(position);
                    let resumed = true;
                    return Ok(Welcome {
                        session,
                        resumed,
                        received,
                        grace_ms,
                        silence_ms,
                        reason,
                    });
                }
                Err(why) => reason = why,
            }
        }
        self.number = server.mail.new_number();
        let chance = random_u64().map_err(|error| error.to_string())?;
        self.session = (chance << 32) | u64::from(self.number);
        let (session, resumed, received) = (self.session, false, 0);
        Ok(Welcome { session, resumed, received, grace_ms, silence_ms, reason })
    }

    fn on_welcomed(&mut self, server: &mut Server, channel: &Arc<Channel>) {
        self.channel = Some(channel.clone());
        match self.goes_on {
            _ if self.role == Role::Relay => {}
            Some(_) => server.go_on(self.number, channel),
            None => {
                channel.start_session(OutQueue::keeping(), 0);
                let (role, way) = (self.role, Way::Socket(channel.clone()));
                let party = Party { role, way, dirty: false, session: self.session };
                server.parties.insert(self.number, party);
            }
        }
    }

    fn on_frame(&mut self, server: &mut Server, frame: Frame) -> Result<(), String> {
        if let (Role::Relay, Some(channel)) = (self.role, &self.channel) {
            return server.pass_on(channel, &frame);
        }
        let (kind, body, number) = (frame.kind, &frame.head, self.number);
        let event = match self.role {
            Role::Client => ClientToScheduler::read(kind, body).map(|m| m.event(number)),
            Role::Worker => WorkerToScheduler::read(kind, body).map(|m| m.event(number)),
            Role::Supervisor | Role::Peer | Role::Relay => {
                SupervisorToScheduler::read(kind, body).map(|m| m.event(number))
            }
        };
        server.handle(event.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn on_batch_end(&mut self, _: &mut Server) {}

    fn on_closed(&mut self, server: &mut Server, reason: &str) {
        match &self.channel {
            _ if self.role == Role::Relay => {}
            Some(channel) => server.lose_connection(self.number, channel, reason),
            None => server.leave(self.number, reason),
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".into())
}
