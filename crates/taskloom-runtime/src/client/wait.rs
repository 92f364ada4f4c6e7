//! Waiting for things that IO threads complete: one wait for many things, one wake for many
//! waits.

use super::signal::Signal;
use parking_lot::{Condvar, Mutex};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::time::Instant;

/// Where completed waits are reported to a consumer that is not blocked on them: an event loop
/// that watches the descriptor, or a thread that sleeps in [`Mailbox::receive`].
#[derive(Debug)]
pub struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Condvar,
    /// An eventfd, when an event loop watches.
    descriptor: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct Letters {
    tokens: Vec<u64>,
    /// Somebody sleeps, or the event loop has not been told since it last looked.
    wants_wake: bool,
    closed: bool,
    /// Another mailbox to tell when the next token arrives, and with which token.
    alarm: Option<(Arc<Mailbox>, u64)>,
}

impl Mailbox {
    /// A mailbox for a thread.
    #[must_use]
    pub fn for_thread() -> Arc<Self> {
        Arc::new(Self { letters: Mutex::default(), arrived: Condvar::new(), descriptor: None })
    }

    /// A mailbox whose descriptor becomes readable when something arrives.
    pub fn for_event_loop() -> std::io::Result<Arc<Self>> {
        use rustix::event::{EventfdFlags, eventfd};
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let letters = Letters { wants_wake: true, ..Letters::default() };
        Ok(Arc::new(Self {
            letters: Mutex::new(letters),
            arrived: Condvar::new(),
            descriptor: Some(descriptor),
        }))
    }

    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// Leaves a token; wakes the consumer when nothing else will.
    pub fn post(&self, token: u64) {
        let (wake, alarm) = {
            let mut letters = self.letters.lock();
            letters.tokens.push(token);
            (std::mem::take(&mut letters.wants_wake), letters.alarm.take())
        };
        if wake {
            self.wake();
        }
        if let Some((mailbox, token)) = alarm {
            mailbox.post(token);
        }
    }

    /// Leaves `token` in `mailbox`, once, when something arrives here. Returns true in place of
    /// that when something is here already.
    #[must_use]
    pub fn set_alarm(&self, mailbox: &Arc<Self>, token: u64) -> bool {
        let mut letters = self.letters.lock();
        if letters.tokens.is_empty() {
            letters.alarm = Some((mailbox.clone(), token));
        }
        !letters.tokens.is_empty()
    }

    fn wake(&self) {
        match &self.descriptor {
            // Full means that it is readable already.
            Some(descriptor) => {
                let _ = rustix::io::write(descriptor, &1u64.to_ne_bytes());
            }
            None => {
                self.arrived.notify_all();
            }
        }
    }

    /// All tokens that have arrived, for the event loop: clears the descriptor.
    #[must_use]
    pub fn drain(&self) -> Vec<u64> {
        if let Some(descriptor) = &self.descriptor {
            let mut counter = [0; 8];
            let _ = rustix::io::read(descriptor, &mut counter);
        }
        let mut letters = self.letters.lock();
        letters.wants_wake = true;
        std::mem::take(&mut letters.tokens)
    }

    /// Waits for tokens until `deadline`. Empty: it is over, or the mailbox is closed.
    #[must_use]
    pub fn receive(&self, deadline: Option<Instant>) -> Vec<u64> {
        let mut letters = self.letters.lock();
        while letters.tokens.is_empty() && !letters.closed {
            letters.wants_wake = true;
            let is_late = match deadline {
                None => {
                    self.arrived.wait(&mut letters);
                    false
                }
                Some(deadline) => self.arrived.wait_until(&mut letters, deadline).timed_out(),
            };
            if is_late {
                break;
            }
        }
        letters.wants_wake = false;
        std::mem::take(&mut letters.tokens)
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.letters.lock().closed
    }

    /// Ends [`Mailbox::receive`] for good.
    pub fn close(&self) {
        self.letters.lock().closed = true;
        self.wake();
    }
}

/// A countdown: done when as many things as it waits for are complete, or the first failure
/// when it was told to stop there.
#[derive(Debug)]
pub struct Wait {
    remaining: AtomicIsize,
    stop_on_failure: bool,
    done: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
    told: Told,
}

/// Who hears that a [`Wait`] is done.
#[derive(Debug)]
enum Told {
    /// Threads that block in [`Wait::block`].
    Threads,
    Mailbox(Arc<Mailbox>, u64),
    Signal(Arc<Signal>),
}

impl Wait {
    /// A wait for a thread that blocks in [`Wait::block`].
    #[must_use]
    pub fn new(count: usize, stop_on_failure: bool) -> Arc<Self> {
        Self::with(count, stop_on_failure, Told::Threads)
    }

    /// A wait that leaves `token` in a mailbox when it is done.
    #[must_use]
    pub fn with_mailbox(
        count: usize,
        stop_on_failure: bool,
        mailbox: Arc<Mailbox>,
        token: u64,
    ) -> Arc<Self> {
        Self::with(count, stop_on_failure, Told::Mailbox(mailbox, token))
    }

    /// A wait that raises a signal when it is done.
    #[must_use]
    pub(super) fn with_signal(
        count: usize,
        stop_on_failure: bool,
        signal: Arc<Signal>,
    ) -> Arc<Self> {
        Self::with(count, stop_on_failure, Told::Signal(signal))
    }

    fn with(count: usize, stop_on_failure: bool, told: Told) -> Arc<Self> {
        let wait = Arc::new(Self {
            remaining: AtomicIsize::new(isize::try_from(count).unwrap_or(isize::MAX)),
            stop_on_failure,
            done: AtomicBool::new(false),
            lock: Mutex::new(()),
            changed: Condvar::new(),
            told,
        });
        if count == 0 {
            wait.finish();
        }
        wait
    }

    /// One of the things is complete.
    pub fn count_down(&self, failed: bool) {
        let last = self.remaining.fetch_sub(1, Ordering::AcqRel) == 1;
        if last || (failed && self.stop_on_failure) {
            self.finish();
        }
    }

    fn finish(&self) {
        if self.done.swap(true, Ordering::AcqRel) {
            return;
        }
        match &self.told {
            Told::Mailbox(mailbox, token) => mailbox.post(*token),
            Told::Signal(signal) => signal.raise(),
            Told::Threads => {
                // Under the lock, so that a waiter between its check and its sleep is not missed.
                drop(self.lock.lock());
                self.changed.notify_all();
            }
        }
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Blocks until it is done or `deadline`; returns whether it is done.
    #[must_use]
    pub fn block(&self, deadline: Option<Instant>) -> bool {
        if self.is_done() {
            return true;
        }
        let mut guard = self.lock.lock();
        while !self.is_done() {
            match deadline {
                None => self.changed.wait(&mut guard),
                Some(deadline) => {
                    if self.changed.wait_until(&mut guard, deadline).timed_out() {
                        return self.is_done();
                    }
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wait_is_done_when_the_last_thing_is_complete() {
        let wait = Wait::new(2, false);
        wait.count_down(true);
        assert!(!wait.is_done());
        wait.count_down(false);
        assert!(wait.block(None));
    }

    #[test]
    fn a_wait_that_stops_on_failure_is_done_at_the_first() {
        let wait = Wait::new(100, true);
        wait.count_down(false);
        assert!(!wait.is_done());
        wait.count_down(true);
        assert!(wait.block(None));
    }

    #[test]
    fn a_wait_for_nothing_is_done_at_once() {
        assert!(Wait::new(0, false).block(None));
    }

    #[test]
    fn a_blocked_thread_is_woken_by_the_last_completion() {
        let wait = Wait::new(1000, false);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| wait.block(None));
            (0..1000).for_each(|_| wait.count_down(false));
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn tokens_reach_an_event_loop_by_one_readable_descriptor() {
        let mailbox = Mailbox::for_event_loop().unwrap();
        for token in 0..3 {
            Wait::with_mailbox(1, false, mailbox.clone(), token).count_down(false);
        }
        assert_eq!(mailbox.drain(), [0, 1, 2]);
        assert!(mailbox.drain().is_empty());
        mailbox.post(7);
        assert_eq!(mailbox.drain(), [7]);
    }

    #[test]
    fn an_alarm_passes_one_arrival_on() {
        let (queue, events) = (Mailbox::for_thread(), Mailbox::for_event_loop().unwrap());
        assert!(!queue.set_alarm(&events, 5));
        queue.post(1);
        queue.post(2);
        assert_eq!(events.drain(), [5]);
        assert!(queue.set_alarm(&events, 6));
        assert_eq!(queue.receive(None), [1, 2]);
    }

    #[test]
    fn a_closed_mailbox_ends_its_thread() {
        let mailbox = Mailbox::for_thread();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| mailbox.receive(None));
            mailbox.close();
            assert!(reader.join().unwrap().is_empty());
        });
        assert!(mailbox.receive(Some(Instant::now() + Duration::from_secs(5))).is_empty());
    }
}
