//! A new session with a scheduler that was started again, or that has given this client up: what
//! was unfinished is submitted again, and what was finished is claimed.

use super::Client;
use super::entry::{Cancellation, Entry, Outcome};
use super::planted::Fault;
use super::table::Table;
use super::wait::Wait;
use crate::link::{Link, NewSession};
use hashbrown::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use taskloom_proto::client::{
    Answer, ClientToScheduler, Functions, Handles, RegisterClient, TaskSpec,
};
use taskloom_proto::rejoin::Claim;
use taskloom_types::Handle;

/// Claims in one message.
const CLAIMS: usize = 4096;

impl Client {
    /// Introduces this client again. Returns whether it goes on.
    pub(super) fn begin_session(&self, session: &NewSession<'_>) -> bool {
        let (Some(link), Some(registration)) = (self.link.get(), self.registration.get()) else {
            return false;
        };
        // Nobody else sends meanwhile: all messages are queued under the table's lock.
        let mut table = self.table.lock();
        if self.is_closed() {
            return false;
        }
        let before = self.epoch.swap(session.epoch, Ordering::AcqRel);
        (session.restart)();
        let registration = RegisterClient { returns_from: before, ..registration.clone() };
        link.send(ClientToScheduler::Register(registration));
        let topics = self.events.topics();
        if !topics.is_empty() {
            link.send(ClientToScheduler::Subscribe(topics));
        }
        table.forget_peers();
        let cancelled = match self.has(Fault::CancelLostWithSession) {
            true => Vec::new(),
            false => end_cancelled(&mut table),
        };
        self.submit_again(&table, &**link);
        let questions = match self.has(Fault::OldQuestionsStayOpen) {
            true => Vec::new(),
            false => table.take_questions(),
        };
        drop(table);
        link.flush();
        cancelled.iter().for_each(|wait| wait.count_down(true));
        let reason = format!("{}: what was asked before is not answered any more", session.reason);
        for question in questions {
            let waits = question.set(Answer::failed("session-over", reason.as_str()));
            waits.iter().for_each(|wait| wait.count_down(false));
        }
        self.lose_actors(session.reason);
        true
    }
}

/// The answer to a cancellation may be lost with the session, and its question too: what was cancelled
/// is, and is not submitted again. Returns who waits for it.
fn end_cancelled(table: &mut Table) -> Vec<Arc<Wait>> {
    let is_open = |entry: &&Arc<Entry>| {
        entry.is_cancelling() && !matches!(entry.outcome(), Outcome::Cancelled(_))
    };
    let entries: Vec<Arc<Entry>> = table.entries().filter(is_open).cloned().collect();
    let why = Cancellation {
        reason: "unknown".into(),
        message: "it was cancelled before this session with the scheduler began".into(),
        lost: false,
    };
    let why = Arc::new(why);
    let mut waits = Vec::new();
    for entry in entries {
        table.forget_name(&entry);
        waits.extend(entry.set(Outcome::Cancelled(why.clone())));
    }
    waits
}

impl Client {
    /// Everything that the table holds becomes known to a scheduler that knows nothing.
    fn submit_again(&self, table: &Table, link: &dyn Link<ClientToScheduler>) {
        let lineage = table.lineage();
        for function in lineage.into_iter().flat_map(|lineage| lineage.functions()) {
            link.send(ClientToScheduler::RegisterFunction(function.clone()));
        }
        let batches = lineage.map(|lineage| lineage.batches(table)).unwrap_or_default();
        let is_wanted = |task: &&TaskSpec| task.flags & TaskSpec::WANTED != 0;
        let tasks = batches.iter().flat_map(|batch| &batch.tasks).filter(is_wanted);
        let submitted: HashSet<Handle> = tasks.map(|task| task.handle).collect();
        let mut entries: Vec<&Arc<Entry>> = table.entries().collect();
        let mut inputs: Vec<&Arc<Entry>> =
            lineage.into_iter().flat_map(|lineage| lineage.inputs()).collect();
        inputs.retain(|entry| table.get(entry.handle).is_none());
        entries.extend(inputs.iter().copied());
        entries.sort_unstable_by_key(|entry| entry.handle);
        entries.dedup_by_key(|entry| entry.handle);
        self.claim_all(&entries, &submitted, link);
        let mut released: Vec<Handle> = inputs.iter().map(|entry| entry.handle).collect();
        released.extend(submitted.iter().filter(|handle| table.get(**handle).is_none()));
        for batch in batches {
            link.send(ClientToScheduler::Submit(batch));
        }
        let ids = lineage.map(|lineage| lineage.passing_functions()).unwrap_or_default();
        if !ids.is_empty() {
            link.send(ClientToScheduler::ForgetFunctions(Functions { ids }));
        }
        // What only unfinished tasks need is kept by these.
        released.sort_unstable();
        released.dedup();
        if !released.is_empty() {
            link.send(ClientToScheduler::Release(Handles { handles: released }));
        }
    }

    /// `submitted`: these come with a submission.
    fn claim_all(
        &self,
        entries: &[&Arc<Entry>],
        submitted: &HashSet<Handle>,
        link: &dyn Link<ClientToScheduler>,
    ) {
        let mut claims = Vec::new();
        for entry in entries {
            let outcome = entry.outcome();
            let is_finished = matches!(outcome, Outcome::Inline(_) | Outcome::Remote { .. });
            if is_finished && self.has(Fault::ClaimsLeaveOutFinished) {
                continue;
            }
            let value = match &outcome {
                Outcome::Inline(value) => Some(value.clone()),
                Outcome::Remote { .. } | Outcome::Pending => None,
                Outcome::Erred(_) | Outcome::Cancelled(_) | Outcome::Refused(_) => continue,
            };
            if let Outcome::Remote { .. } = outcome {
                // Its place means nothing any more; the scheduler tells the new one.
                let _ = entry.set(Outcome::Pending);
            }
            if value.is_none() && submitted.contains(&entry.handle) {
                // What was submitted here is submitted again.
                entry.is_of_other_work.store(false, Ordering::Relaxed);
                continue;
            }
            // Which work its value is of is not known here then.
            let is_other = entry.is_of_other_work.load(Ordering::Relaxed);
            let spec_hash = if is_other { 0 } else { entry.spec_hash };
            let (handle, key) = (entry.handle, entry.key.clone());
            claims.push(Claim { handle, key, spec_hash, value });
            if claims.len() >= CLAIMS {
                link.send(ClientToScheduler::Claim(std::mem::take(&mut claims)));
            }
        }
        if !claims.is_empty() {
            link.send(ClientToScheduler::Claim(claims));
        }
    }
}
