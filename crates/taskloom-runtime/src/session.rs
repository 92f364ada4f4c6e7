//! A connection to a scheduler that comes back: the connecting side of a session.
//!
//! While the connection is broken, messages are kept, and a thread tries to connect again. Then the
//! session goes on where it was, or the scheduler says that it is over and the [`Sink`] may begin a
//! new one. See `docs/design/sessions.md`.

use crate::io::Io;
use crate::link::{Link, NewSession, Sink};
use crate::message::{Message, ToScheduler};
use crate::pages::in_own_pages;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use taskloom_net::connect::Connected;
use taskloom_net::event_loop::TimerId;
use taskloom_net::framed::Bounds;
use taskloom_net::token::random_u64;
use taskloom_net::{
    Address, Channel, ConnectError, ConnectOptions, Framed, OutQueue, Protocol, Remote, log, resume,
};
use taskloom_proto::frame::Frame;
use taskloom_proto::handshake::{Role, Token};
use taskloom_proto::session::{Resume, Welcome};

/// Looks at a connection during the silence after which it counts as broken.
pub(crate) const LOOKS: u32 = 4;
/// Pauses between tries to connect double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// One try may take so long.
const TRY_TIME: Duration = Duration::from_secs(5);

/// A link over sockets, one after the other. Messages are encoded as they are sent and written by
/// whoever flushes.
pub(crate) struct SessionLink<Out: ToScheduler> {
    address: Address,
    token: Token,
    remote: Arc<Remote<Io>>,
    state: Mutex<State<Out>>,
}

struct State<Out: ToScheduler> {
    way: Way,
    epoch: u64,
    welcome: Welcome,
    watch: Option<TimerId>,
    /// `None` after its last call.
    sink: Option<Arc<dyn Sink<Out::Reply>>>,
}

enum Way {
    Up(Arc<Channel>),
    /// Without a connection; `received`: how many bytes of the session came before.
    Down {
        queue: OutQueue,
        received: u64,
    },
    Over,
}

impl<Out: ToScheduler> SessionLink<Out> {
    /// Takes over a new connection, whose handshake began a session.
    pub(crate) fn open(
        address: Address,
        token: Token,
        remote: Arc<Remote<Io>>,
        sink: Arc<dyn Sink<Out::Reply>>,
        connected: Connected,
    ) -> Arc<Self> {
        let state = Mutex::new(State {
            way: Way::Over,
            epoch: connected.epoch,
            welcome: connected.welcome.clone(),
            watch: None,
            sink: Some(sink),
        });
        let link = Arc::new(Self { address, token, remote, state });
        let framed = link.frame(connected);
        let mut state = link.state.lock();
        link.go_up(&mut state, &framed, OutQueue::keeping(), 0);
        drop(state);
        framed.start(&link.remote);
        link
    }

    fn frame(self: &Arc<Self>, connected: Connected) -> Framed<Io> {
        let channel = Arc::new(OnceLock::new());
        let protocol = Box::new(Receiving {
            link: self.clone(),
            sink: self.state.lock().sink.clone(),
            channel: channel.clone(),
            batch: Vec::new(),
        });
        let framed = Framed::connected(connected, &self.remote, Bounds::CONTROL, protocol);
        channel.get_or_init(|| framed.sender().clone());
        framed
    }

    /// The session goes on over this connection.
    fn go_up(&self, state: &mut State<Out>, framed: &Framed<Io>, queue: OutQueue, received: u64) {
        let channel = framed.sender().clone();
        channel.start_session(queue, received);
        let silence = Duration::from_millis(state.welcome.silence_ms.max(40).into());
        let watched = Arc::downgrade(&channel);
        let period = silence / LOOKS;
        let look = move |_: &mut Io, _: &mut _| {
            if let Some(channel) = watched.upgrade() {
                watch(&channel, Out::ROLE, silence);
            }
        };
        state.watch = Some(self.remote.add_timer(period, Some(period), look));
        state.way = Way::Up(channel);
    }

    /// The connection is gone: the session waits for another, or ends.
    fn on_lost(self: &Arc<Self>, channel: &Arc<Channel>, reason: &str) {
        let mut state = self.state.lock();
        if !matches!(&state.way, Way::Up(current) if Arc::ptr_eq(current, channel)) {
            return;
        }
        if let Some(timer) = state.watch.take() {
            self.remote.cancel_timer(timer);
        }
        let grace = Duration::from_millis(state.welcome.grace_ms.into());
        let queue = channel.take_session().filter(|_| !grace.is_zero());
        let Some(queue) = queue else {
            state.way = Way::Over;
            drop(state);
            return self.end(reason);
        };
        state.way = Way::Down { queue, received: channel.received() };
        drop(state);
        log::report(&format!(
            "lost the connection to the scheduler at {} ({reason}); trying for {grace:?} to \
             connect again",
            self.address
        ));
        let (link, why) = (self.clone(), reason.to_string());
        let thread = std::thread::Builder::new().name("taskloom-reconnect".into());
        let started = thread.stack_size(256 * 1024).spawn(move || link.reconnect(grace, &why));
        if let Err(error) = started {
            self.end(&format!("{reason}; cannot start a thread to connect again: {error}"));
        }
    }

    /// Tries until the session goes on, or is over.
    fn reconnect(self: &Arc<Self>, grace: Duration, reason: &str) {
        let deadline = Instant::now() + grace;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(session) = self.to_resume() else { return self.end("closed by this side") };
            let options = ConnectOptions { timeout: left.min(TRY_TIME), retry: false };
            let tried = resume(&self.address, Out::ROLE, &self.token, options, Some(session));
            let error = match tried {
                Ok(connected) => return self.take_up(connected),
                Err(error) => error,
            };
            let is_hopeless = !matches!(error, ConnectError::Unreachable { .. });
            if is_hopeless || Instant::now() + pause >= deadline {
                return self.end(&format!("{reason}; {error}"));
            }
            std::thread::sleep(jittered(pause));
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn to_resume(&self) -> Option<(u64, Resume)> {
        let state = self.state.lock();
        let Way::Down { received, .. } = state.way else { return None };
        Some((state.epoch, Resume { session: state.welcome.session, received }))
    }

    /// A new connection is there. Runs on the reconnecting thread.
    fn take_up(self: &Arc<Self>, connected: Connected) {
        let (epoch, welcome) = (connected.epoch, connected.welcome.clone());
        let framed = self.frame(connected);
        if !welcome.resumed {
            return self.begin_anew(framed, epoch, welcome);
        }
        let mut state = self.state.lock();
        let Way::Down { mut queue, received } = std::mem::replace(&mut state.way, Way::Over) else {
            drop(state);
            framed.sender().abort("closed by this side");
            return self.end("closed by this side");
        };
        if let Err(reason) = queue.rewind(welcome.received) {
            drop(state);
            framed.sender().abort(&reason);
            return self.end(&reason);
        }
        state.welcome = welcome;
        self.go_up(&mut state, &framed, queue, received);
        drop(state);
        framed.sender().flush();
        framed.start(&self.remote);
        log::report(&format!("connected to the scheduler at {} again", self.address));
    }

    /// The scheduler does not know the session (any more).
    fn begin_anew(self: &Arc<Self>, framed: Framed<Io>, epoch: u64, welcome: Welcome) {
        let (sink, before) = {
            let state = self.state.lock();
            (state.sink.clone(), state.epoch)
        };
        let is_same_run = before == epoch;
        let reason = match welcome.reason.as_str() {
            "" => "the scheduler was started again".to_string(),
            reason => reason.to_string(),
        };
        let restart = || {
            let mut state = self.state.lock();
            if matches!(state.way, Way::Down { .. }) {
                state.epoch = epoch;
                state.welcome = welcome.clone();
                self.go_up(&mut state, &framed, OutQueue::keeping(), 0);
            }
        };
        let session = NewSession { epoch, is_same_run, reason: &reason, restart: &restart };
        let accepted = sink.is_some_and(|sink| sink.on_new_session(&session));
        let is_up = matches!(self.state.lock().way, Way::Up(_));
        if accepted && is_up {
            framed.sender().flush();
            framed.start(&self.remote);
            log::report(&format!(
                "began a new session with the scheduler at {}: {reason}",
                self.address
            ));
        } else {
            framed.sender().close("closed by this side");
            self.end(&reason);
        }
    }

    /// Adds to what the session sends.
    fn put(&self, add: impl FnOnce(&mut OutQueue)) {
        let mut state = self.state.lock();
        match &mut state.way {
            Way::Up(channel) => channel.queue(add),
            Way::Down { queue, .. } => {
                add(queue);
                if queue.held() > Bounds::CONTROL.max_queued {
                    // The reconnecting thread notices, and tells.
                    state.way = Way::Over;
                }
            }
            Way::Over => {}
        }
    }

    /// Tells the sink, once, that all is over.
    fn end(&self, reason: &str) {
        let sink = {
            let mut state = self.state.lock();
            state.way = Way::Over;
            if let Some(timer) = state.watch.take() {
                self.remote.cancel_timer(timer);
            }
            state.sink.take()
        };
        if let Some(sink) = sink {
            sink.closed(reason);
        }
    }
}

/// Gives the other side a sign of life, and gives up a connection from which none comes. Workers
/// report by themselves: theirs only ask, where nothing was heard.
fn watch(channel: &Channel, role: Role, silence: Duration) {
    match channel.look() {
        LOOKS.. => channel.lose(&format!("nothing was heard from the scheduler for {silence:?}")),
        0 if role == Role::Worker => {}
        silent => channel.send_alive(silent > 0),
    }
}

/// Between half of it and all of it: those who were cut off together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let chance = random_u64().map_or(0, |chance| chance % 1000) as u32;
    pause / 2 + pause * chance / 2000
}

impl<Out: ToScheduler> Link<Out> for SessionLink<Out> {
    fn send(&self, message: Out) {
        self.put(|queue| queue.append(|chunk| message.write_frame(chunk)));
    }

    fn send_kept(&self, message: Out) -> Option<Bytes> {
        let mut frame = Vec::new();
        message.write_frame(&mut frame);
        let frame = in_own_pages(&frame);
        let copy = frame.clone();
        self.put(|queue| queue.push(copy));
        Some(frame)
    }

    fn flush(&self) {
        let channel = match &self.state.lock().way {
            Way::Up(channel) => channel.clone(),
            Way::Down { .. } | Way::Over => return,
        };
        channel.flush();
    }

    fn close(&self) {
        let mut state = self.state.lock();
        match &state.way {
            Way::Up(channel) => {
                let channel = channel.clone();
                drop(state);
                channel.close("closed by this side");
            }
            // The reconnecting thread notices, and tells.
            Way::Down { .. } => state.way = Way::Over,
            Way::Over => {}
        }
    }
}

/// Gives what arrives to the link's sink.
struct Receiving<Out: ToScheduler> {
    link: Arc<SessionLink<Out>>,
    sink: Option<Arc<dyn Sink<Out::Reply>>>,
    /// Its own; set once the connection is made.
    channel: Arc<OnceLock<Arc<Channel>>>,
    batch: Vec<Out::Reply>,
}

impl<Out: ToScheduler> Receiving<Out> {
    fn finish(&mut self, reason: &str) {
        if self.sink.take().is_some()
            && let Some(channel) = self.channel.get()
        {
            self.link.on_lost(channel, reason);
        }
    }
}

impl<Out: ToScheduler> Protocol<Io> for Receiving<Out> {
    fn on_frame(&mut self, _: &mut Io, frame: Frame) -> Result<(), String> {
        let message = Out::Reply::read(frame.kind, &frame.head);
        self.batch.push(message.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn on_batch_end(&mut self, _: &mut Io) {
        if let Some(sink) = &self.sink
            && !self.batch.is_empty()
        {
            sink.deliver(&mut self.batch);
        }
        self.batch.clear();
    }

    fn on_closed(&mut self, _: &mut Io, reason: &str) {
        self.finish(reason);
    }
}

impl<Out: ToScheduler> Drop for Receiving<Out> {
    fn drop(&mut self) {
        // Does nothing after `on_closed`, and for connections that never carried the session.
        self.finish("the connection's thread ended");
    }
}
