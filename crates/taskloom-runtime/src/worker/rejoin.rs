//! A new session with the scheduler: it was started again, or has given this worker up. Runs of the
//! old session are nobody's any more; results are offered, and kept until the scheduler has decided.

use super::WorkerShell;
use super::outbox::Outbox;
use super::state::State;
use super::values::LocalObject;
use crate::link::NewSession;
use std::sync::atomic::Ordering;
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::TaskId;

impl<O: LocalObject> WorkerShell<O> {
    /// Introduces this worker again. Returns whether it goes on.
    pub(super) fn begin_session(&self, session: &NewSession<'_>) -> bool {
        let Some(link) = self.link.get() else { return false };
        // Nothing of the new session is sent before the introduction, nothing of the old one after.
        let turn = self.sending.lock();
        let now = self.now();
        let before = self.epoch.swap(session.epoch, Ordering::AcqRel);
        let mut state = self.state.lock();
        if !state.is_running() {
            return false;
        }
        state.outbox = Outbox::default();
        state.core.begin_session();
        state.forget_session();
        let effects = state.settle(now);
        let offers = state.outbox.take();
        self.wake_executors(&state);
        drop(state);
        (session.restart)();
        let mut registration = self.registration();
        registration.returns_from = before;
        link.send(WorkerToScheduler::Register(registration));
        offers.into_iter().for_each(|message| link.send(message));
        link.flush();
        drop(turn);
        effects.jobs.into_iter().for_each(|job| self.jobs.push(job));
        self.end_actors();
        self.jobs.push(super::Job::CollectGarbage);
        true
    }

    /// Changes with each session: what was known of functions then means nothing any more.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.session.load(Ordering::Acquire)
    }
}

impl<O: LocalObject> State<O> {
    /// Numbers of the old session may come again with another meaning.
    fn forget_session(&mut self) {
        self.functions.clear();
        self.forgotten.clear();
        self.session.fetch_add(1, Ordering::AcqRel);
    }

    /// The value waits under the number of its offer.
    pub(super) fn keep_value(&mut self, task: TaskId, number: u64) {
        let Some(value) = self.values.remove(&task) else { return };
        if let Some(file) = value.take_file() {
            self.remove_file(file);
        }
        self.kept.insert(number, value);
    }

    pub(super) fn take_kept(&mut self, number: u64, task: TaskId) {
        if let Some(value) = self.kept.remove(&number) {
            self.store(task, value);
        }
    }

    pub(super) fn drop_kept(&mut self, number: u64) {
        if let Some(value) = self.kept.remove(&number) {
            self.discard(value);
        }
    }
}
