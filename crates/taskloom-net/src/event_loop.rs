//! One thread's event loop: connections, listeners and timers, each a [`Handler`]; an owner that
//! gets a turn after each batch of events; and a door for other threads.

use crate::watch::Watch;
use hashbrown::HashMap;
pub use mio::Token as Source;
use mio::event::Event;
use mio::{Events, Poll, Registry, Token, Waker};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

/// What the loop belongs to: its state, which handlers and timers get by reference.
pub trait Owner: Sized + 'static {
    /// Called after each batch of events, before the loop sleeps.
    fn turn(&mut self, control: &mut Control<Self>) -> Next;

    /// Whether other threads left something for [`Owner::turn`]. Asked after they can see that
    /// the loop is about to sleep: what they leave later, they announce by [`Remote::wake`].
    fn has_mail(&self) -> bool {
        false
    }

    /// Whether something is likely to come within microseconds, such as the result of a short
    /// task: the loop then stays awake for a moment.
    fn expects_answer(&self) -> bool {
        false
    }

    /// The loop has ended; its handlers are told next.
    fn on_stop(&mut self) {}
}

/// What the loop does after an owner's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait for events, but not beyond this time.
    WaitUntil(Option<Instant>),
    /// End [`EventLoop::run`].
    Stop,
}

/// What happened to a handler's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// The other side has closed its half, or the connection failed.
    pub ended: bool,
}

/// What a handler wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Call again when the source is ready.
    Wait,
    /// There is more to read: call again after the others had their turn.
    Again,
    /// Call again after this time.
    RetryAfter(Duration),
    /// Drop the handler.
    Done,
}

/// Somebody whose source the loop watches. Sources are registered edge-triggered: a handler
/// reads until nothing is left, or returns [`Flow::Again`].
pub trait Handler<S>: Send {
    /// Registers the source, and takes what arrived before. An error drops the handler.
    fn on_added(&mut self, owner: &mut S, control: &mut Control<S>) -> Flow;
    fn on_ready(&mut self, owner: &mut S, control: &mut Control<S>, ready: Ready) -> Flow;
    /// The loop ends, or the handler was removed.
    fn on_stop(&mut self, owner: &mut S);
}

type Callback<S> = Box<dyn FnMut(&mut S, &mut Control<S>) + Send>;

struct Timer<S> {
    /// `None`: it fires once.
    period: Option<Duration>,
    callback: Callback<S>,
}

enum Command<S> {
    Add(Token, Box<dyn Handler<S>>),
    Remove(Token),
    AddTimer { id: u64, first: Instant, timer: Timer<S> },
    CancelTimer(u64),
}

/// Names a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId(u64);

/// The loop as other threads see it.
pub struct Remote<S> {
    registry: Arc<Registry>,
    waker: Waker,
    sleeping: AtomicBool,
    stop: AtomicBool,
    commands: Mutex<Vec<Command<S>>>,
    next_token: AtomicUsize,
    next_timer: AtomicU64,
}

impl<S> Remote<S> {
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// A number for a new source; never reused.
    pub fn new_token(&self) -> Token {
        Token(self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    pub fn add(&self, token: Token, handler: Box<dyn Handler<S>>) {
        self.command(Command::Add(token, handler));
    }

    /// Stops a handler and drops it.
    pub fn remove(&self, token: Token) {
        self.command(Command::Remove(token));
    }

    /// Calls back on the loop's thread after `delay`, then every `period` if there is one.
    pub fn add_timer(
        &self,
        delay: Duration,
        period: Option<Duration>,
        callback: impl FnMut(&mut S, &mut Control<S>) + Send + 'static,
    ) -> TimerId {
        let id = self.next_timer.fetch_add(1, Ordering::Relaxed);
        let timer = Timer { period, callback: Box::new(callback) };
        self.command(Command::AddTimer { id, first: Instant::now() + delay, timer });
        TimerId(id)
    }

    /// A call back that is under way ends; no other follows.
    pub fn cancel_timer(&self, timer: TimerId) {
        self.command(Command::CancelTimer(timer.0));
    }

    /// Ends the loop soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn command(&self, command: Command<S>) {
        self.commands.lock().push(command);
        self.wake();
    }

    /// Makes the loop look at its mail; free while it is awake.
    pub fn wake(&self) {
        // The fence pairs with the one in `EventLoop::sleep_time`: either the loop sees the mail
        // that was left before this call, or this call sees that the loop sleeps.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            // Fails only when the loop is gone.
            let _ = self.waker.wake();
        }
    }
}

/// What handlers and owners may do to their own loop.
pub struct Control<S> {
    remote: Arc<Remote<S>>,
    added: Vec<(Token, Box<dyn Handler<S>>)>,
}

impl<S> Control<S> {
    #[must_use]
    pub fn remote(&self) -> &Arc<Remote<S>> {
        &self.remote
    }

    /// Adds a handler before the loop waits again.
    pub fn add(&mut self, token: Token, handler: Box<dyn Handler<S>>) {
        self.added.push((token, handler));
    }
}

const WAKE: Token = Token(0);

pub struct EventLoop<S> {
    poll: Poll,
    events: Events,
    handlers: HashMap<Token, Box<dyn Handler<S>>>,
    /// Handlers that have more to do without a new event.
    again: Vec<Token>,
    timers: HashMap<u64, Timer<S>>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    retries: BinaryHeap<Reverse<(Instant, usize)>>,
    control: Control<S>,
    watch: Watch,
}

impl<S: Owner> EventLoop<S> {
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let remote = Arc::new(Remote {
            registry: Arc::new(poll.registry().try_clone()?),
            waker: Waker::new(poll.registry(), WAKE)?,
            sleeping: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            commands: Mutex::default(),
            next_token: AtomicUsize::new(WAKE.0 + 1),
            next_timer: AtomicU64::new(0),
        });
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            handlers: HashMap::new(),
            again: Vec::new(),
            timers: HashMap::new(),
            due: BinaryHeap::new(),
            retries: BinaryHeap::new(),
            control: Control { remote, added: Vec::new() },
            watch: Watch::new(),
        })
    }

    #[must_use]
    pub fn remote(&self) -> &Arc<Remote<S>> {
        &self.control.remote
    }

    /// Runs until the owner or [`Remote::stop`] ends it; then tells all handlers.
    pub fn run(mut self, owner: &mut S) -> io::Result<()> {
        let ended = self.run_turns(owner);
        self.apply_commands(owner);
        owner.on_stop();
        for (_, mut handler) in self.handlers.drain() {
            handler.on_stop(owner);
        }
        ended
    }

    fn run_turns(&mut self, owner: &mut S) -> io::Result<()> {
        loop {
            self.apply_commands(owner);
            self.fire_timers(owner);
            self.call_again(owner);
            let Next::WaitUntil(until) = owner.turn(&mut self.control) else { return Ok(()) };
            if self.control.remote.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            let timeout = self.sleep_time(owner, until);
            let may_sleep = timeout != Some(Duration::ZERO);
            if may_sleep && owner.expects_answer() && self.watch_sources() {
                self.control.remote.sleeping.store(false, Ordering::Relaxed);
                self.call_ready(owner);
                continue;
            }
            match self.poll.poll(&mut self.events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.control.remote.sleeping.store(false, Ordering::Relaxed),
            }
            self.call_ready(owner);
        }
    }

    /// Stays awake for a moment. True: there are events.
    fn watch_sources(&mut self) -> bool {
        let Self { poll, events, watch, .. } = self;
        watch.see(1, || poll.poll(events, Some(Duration::ZERO)).is_ok() && !events.is_empty())
    }

    /// How long to wait: not at all when somebody left work. Announces the sleep before it
    /// looks; see [`Remote::wake`].
    fn sleep_time(&mut self, owner: &S, until: Option<Instant>) -> Option<Duration> {
        let remote = &self.control.remote;
        remote.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let busy = !self.again.is_empty()
            || !self.control.added.is_empty()
            || !remote.commands.lock().is_empty()
            || remote.stop.load(Ordering::Acquire)
            || owner.has_mail();
        if busy {
            remote.sleeping.store(false, Ordering::Relaxed);
            return Some(Duration::ZERO);
        }
        let timer = self.due.peek().map(|Reverse((at, _))| *at);
        let retry = self.retries.peek().map(|Reverse((at, _))| *at);
        let first = [until, timer, retry].into_iter().flatten().min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    fn apply_commands(&mut self, owner: &mut S) {
        loop {
            let commands = std::mem::take(&mut *self.control.remote.commands.lock());
            let added = std::mem::take(&mut self.control.added);
            if commands.is_empty() && added.is_empty() {
                return;
            }
            for (token, handler) in added {
                self.add_handler(owner, token, handler);
            }
            for command in commands {
                self.apply(owner, command);
            }
        }
    }

    fn apply(&mut self, owner: &mut S, command: Command<S>) {
        match command {
            Command::Add(token, handler) => self.add_handler(owner, token, handler),
            Command::Remove(token) => {
                if let Some(mut handler) = self.handlers.remove(&token) {
                    handler.on_stop(owner);
                }
            }
            Command::AddTimer { id, first, timer } => {
                self.timers.insert(id, timer);
                self.due.push(Reverse((first, id)));
            }
            Command::CancelTimer(id) => {
                self.timers.remove(&id);
            }
        }
    }

    fn add_handler(&mut self, owner: &mut S, token: Token, mut handler: Box<dyn Handler<S>>) {
        let flow = handler.on_added(owner, &mut self.control);
        self.handlers.insert(token, handler);
        self.follow(token, flow);
    }

    fn follow(&mut self, token: Token, flow: Flow) {
        match flow {
            Flow::Wait => {}
            Flow::Again => self.again.push(token),
            Flow::RetryAfter(delay) => {
                self.retries.push(Reverse((Instant::now() + delay, token.0)));
            }
            Flow::Done => {
                self.handlers.remove(&token);
            }
        }
    }

    fn call(&mut self, owner: &mut S, token: Token, ready: Ready) {
        // A handler may be gone while events for it are still there.
        let Some(handler) = self.handlers.get_mut(&token) else { return };
        let flow = handler.on_ready(owner, &mut self.control, ready);
        self.follow(token, flow);
    }

    fn call_ready(&mut self, owner: &mut S) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in events.iter().filter(|event| event.token() != WAKE) {
            self.call(owner, event.token(), Ready::from(event));
        }
        self.events = events;
    }

    fn call_again(&mut self, owner: &mut S) {
        let ready = Ready { readable: true, ..Ready::default() };
        for token in std::mem::take(&mut self.again) {
            self.call(owner, token, ready);
        }
        if self.retries.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&Reverse((at, token))) = self.retries.peek()
            && at <= now
        {
            self.retries.pop();
            self.call(owner, Token(token), ready);
        }
    }

    fn fire_timers(&mut self, owner: &mut S) {
        if self.due.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&Reverse((at, id))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            // Cancelled timers leave their due time behind.
            let Some(timer) = self.timers.get_mut(&id) else { continue };
            (timer.callback)(owner, &mut self.control);
            match timer.period {
                // From now, not from the due time: after a long sleep one call is enough.
                Some(period) => self.due.push(Reverse((now + period, id))),
                None => drop(self.timers.remove(&id)),
            }
        }
    }
}

impl From<&Event> for Ready {
    fn from(event: &Event) -> Self {
        Self {
            readable: event.is_readable(),
            writable: event.is_writable(),
            ended: event.is_read_closed() || event.is_error(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Idle;

    impl Owner for Idle {
        fn turn(&mut self, _: &mut Control<Self>) -> Next {
            Next::WaitUntil(None)
        }
    }

    #[test]
    fn timers_repeat_until_cancelled_and_stop_ends_the_loop() {
        let event_loop = EventLoop::<Idle>::new().unwrap();
        let remote = event_loop.remote().clone();
        let thread = std::thread::spawn(move || event_loop.run(&mut Idle));
        let (sender, receiver) = mpsc::channel();
        let period = Some(Duration::from_millis(1));
        let timer = remote.add_timer(Duration::ZERO, period, move |_, _| {
            let _ = sender.send(());
        });
        for _ in 0..3 {
            receiver.recv().unwrap();
        }
        remote.cancel_timer(timer);
        // The callback, and its sender with it, is dropped.
        while receiver.recv().is_ok() {}
        remote.stop();
        thread.join().unwrap().unwrap();
    }
}
