//! Messages for the scheduler that wait for the next flush. Results are gathered, since one
//! write for many of them costs a fraction of many writes; everything else is sent soon.

use taskloom_proto::worker::{TaskDone, WorkerToScheduler};
use taskloom_types::Nanos;

/// A result waits for others no longer than this.
pub(super) const MAX_AGE: u64 = 200 * Nanos::MICROSECOND;
/// More than this is flushed at once.
const MAX_BYTES: usize = 32 * 1024;
/// Results in one message.
const MAX_BATCH: usize = 2048;
/// Roughly what a result costs on the wire beside its value.
const DONE_BYTES: usize = 48;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: Vec<WorkerToScheduler>,
    bytes: usize,
    /// When the first result of these came.
    oldest: Option<Nanos>,
    /// Whether something is here that must not wait.
    urgent: bool,
}

impl Outbox {
    /// Adds a message that goes with the next flush, which is soon.
    pub(super) fn push(&mut self, message: WorkerToScheduler) {
        self.messages.push(message);
        self.urgent = true;
    }

    /// Adds a result.
    pub(super) fn push_done(&mut self, now: Nanos, done: TaskDone) {
        self.bytes += DONE_BYTES + done.value.as_ref().map_or(0, |value| value.len());
        self.oldest.get_or_insert(now);
        match self.messages.last_mut() {
            Some(WorkerToScheduler::Done(batch)) if batch.len() < MAX_BATCH => batch.push(done),
            _ => self.messages.push(WorkerToScheduler::Done(vec![done])),
        }
    }

    /// Adds a message that may wait as results may.
    pub(super) fn push_unhurried(&mut self, now: Nanos, message: WorkerToScheduler, bytes: usize) {
        self.bytes += bytes;
        self.oldest.get_or_insert(now);
        self.messages.push(message);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether what is here should wait no longer.
    pub(super) fn is_due(&self, now: Nanos) -> bool {
        let old = self.oldest.is_some_and(|oldest| now.since(oldest) > MAX_AGE);
        self.urgent || self.bytes > MAX_BYTES || old
    }

    pub(super) fn take(&mut self) -> Vec<WorkerToScheduler> {
        self.bytes = 0;
        self.oldest = None;
        self.urgent = false;
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_gather_in_one_message_until_something_else_comes_between() {
        let mut outbox = Outbox::default();
        outbox.push_done(Nanos(1), TaskDone::default());
        outbox.push_done(Nanos(2), TaskDone::default());
        assert!(!outbox.is_due(Nanos(MAX_AGE)));
        assert!(outbox.is_due(Nanos(MAX_AGE + 2)));
        outbox.push(WorkerToScheduler::Fetched(Vec::new()));
        assert!(outbox.is_due(Nanos(3)));
        outbox.push_done(Nanos(4), TaskDone::default());
        let kinds: Vec<u8> = outbox.take().iter().map(WorkerToScheduler::kind).collect();
        assert_eq!(kinds, [2, 7, 2]);
        assert!(outbox.is_empty() && !outbox.is_urgent());
    }

    #[test]
    fn many_bytes_are_due_at_once() {
        let mut outbox = Outbox::default();
        let value = Some(taskloom_proto::SmallBytes::copy_of(&[0; 1024]));
        (0..40).for_each(|_| {
            outbox.push_done(Nanos(1), TaskDone { value: value.clone(), ..TaskDone::default() });
        });
        assert!(outbox.is_due(Nanos(1)));
    }
}
