//! Parties in the scheduler's own process: they post vectors of messages, and wake the scheduler
//! only when it sleeps.

use super::server::Server;
use crate::link::{Link, Sink};
use crate::message::ToScheduler;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use taskloom_net::Remote;
use taskloom_proto::client::{ClientToScheduler, SchedulerToClient};
use taskloom_proto::supervisor::{SchedulerToSupervisor, SupervisorToScheduler};
use taskloom_proto::worker::{SchedulerToWorker, WorkerToScheduler};

/// What the parties of this process left for the scheduler.
pub(super) enum Letter {
    Client(u32, Vec<ClientToScheduler>),
    Worker(u32, Vec<WorkerToScheduler>),
    Supervisor(u32, Vec<SupervisorToScheduler>),
    ConnectClient(u32, Arc<dyn Sink<SchedulerToClient>>),
    ConnectWorker(u32, Arc<dyn Sink<SchedulerToWorker>>),
    ConnectSupervisor(u32, Arc<dyn Sink<SchedulerToSupervisor>>),
    Leave(u32),
}

/// A party that may live in the scheduler's process.
pub trait LocalParty: ToScheduler + sealed::Local {}

mod sealed {
    use super::*;

    pub trait Local: ToScheduler {
        #[allow(private_interfaces)]
        fn messages(number: u32, messages: Vec<Self>) -> Letter;
        #[allow(private_interfaces)]
        fn connect(number: u32, sink: Arc<dyn Sink<Self::Reply>>) -> Letter;
    }
}

macro_rules! local_party {
    ($($message:ident: $messages:ident, $connect:ident;)*) => {$(
        #[allow(private_interfaces)]
        impl sealed::Local for $message {
            fn messages(number: u32, messages: Vec<Self>) -> Letter {
                Letter::$messages(number, messages)
            }
            fn connect(number: u32, sink: Arc<dyn Sink<Self::Reply>>) -> Letter {
                Letter::$connect(number, sink)
            }
        }
        impl LocalParty for $message {}
    )*};
}
local_party! {
    ClientToScheduler: Client, ConnectClient;
    WorkerToScheduler: Worker, ConnectWorker;
    SupervisorToScheduler: Supervisor, ConnectSupervisor;
}

/// A letter box with so many letters (a piece of a submission each) is far behind.
const MANY_LETTERS: usize = 16;

enum LetterBox {
    Open(Vec<Letter>),
    /// Why the scheduler has ended.
    Closed(String),
}

/// The scheduler's letter box.
pub(super) struct Mail {
    letters: Mutex<LetterBox>,
    /// Told when the letters have been taken.
    taken: Condvar,
    /// Numbers connections of all kinds; 0 is nobody.
    last_number: AtomicU32,
    remote: Arc<Remote<Server>>,
}

impl Mail {
    pub(super) fn new(remote: Arc<Remote<Server>>) -> Self {
        let letters = Mutex::new(LetterBox::Open(Vec::new()));
        Self { letters, taken: Condvar::new(), last_number: AtomicU32::new(0), remote }
    }

    pub(super) fn new_number(&self) -> u32 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn connect<Out: LocalParty>(
        self: &Arc<Self>,
        sink: Arc<dyn Sink<Out::Reply>>,
    ) -> Arc<dyn Link<Out>> {
        let number = self.new_number();
        if let Err(reason) = self.post(Out::connect(number, sink.clone())) {
            sink.closed(&reason);
        }
        self.remote.wake();
        Arc::new(LocalLink { number, mail: self.clone(), staged: Mutex::default() })
    }

    /// Fails when the scheduler has ended.
    fn post(&self, letter: Letter) -> Result<(), String> {
        match &mut *self.letters.lock() {
            LetterBox::Open(letters) => {
                letters.push(letter);
                Ok(())
            }
            LetterBox::Closed(reason) => Err(reason.clone()),
        }
    }

    pub(super) fn has_letters(&self) -> bool {
        matches!(&*self.letters.lock(), LetterBox::Open(letters) if !letters.is_empty())
    }

    /// Swaps the letters for an empty `empty`.
    pub(super) fn swap(&self, empty: &mut Vec<Letter>) {
        if let LetterBox::Open(letters) = &mut *self.letters.lock() {
            std::mem::swap(letters, empty);
        }
        if empty.len() >= MANY_LETTERS {
            self.taken.notify_all();
        }
    }

    /// Waits while many letters lie unread, but not for ever: the sender may be needed elsewhere.
    fn wait_until_read(&self) {
        const PATIENCE: Duration = Duration::from_millis(200);
        let is_full = |letters: &mut LetterBox| matches!(letters, LetterBox::Open(letters) if letters.len() >= MANY_LETTERS);
        let mut letters = self.letters.lock();
        self.taken.wait_while_for(&mut letters, is_full, PATIENCE);
    }

    /// Takes no more letters; returns the last ones.
    pub(super) fn close(&self, reason: &str) -> Vec<Letter> {
        match std::mem::replace(&mut *self.letters.lock(), LetterBox::Closed(reason.into())) {
            LetterBox::Open(letters) => letters,
            LetterBox::Closed(_) => Vec::new(),
        }
    }
}

struct LocalLink<Out> {
    number: u32,
    mail: Arc<Mail>,
    staged: Mutex<Vec<Out>>,
}

impl<Out: LocalParty> Link<Out> for LocalLink<Out> {
    fn send(&self, message: Out) {
        self.staged.lock().push(message);
    }

    fn flush(&self) {
        {
            // The lock is kept while posting: two threads that flush keep the order of sending.
            let mut staged = self.staged.lock();
            if staged.is_empty() {
                return;
            }
            let messages = std::mem::take(&mut *staged);
            // The sink has been told when the scheduler is gone.
            let _ = self.mail.post(Out::messages(self.number, messages));
        }
        self.mail.remote.wake();
    }

    fn wait_for_room(&self) {
        self.mail.wait_until_read();
    }

    fn close(&self) {
        self.flush();
        let _ = self.mail.post(Letter::Leave(self.number));
        self.mail.remote.wake();
    }
}
