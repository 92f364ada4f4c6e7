//! What a client keeps of its submissions until their futures have ended, so that it can submit them
//! again to a scheduler that was started again. Only clients that talk over a socket do: an embedded
//! scheduler ends with its client's process.
//!
//! Kept is the encoded message, as it was sent. It goes when all wanted tasks of the submission have
//! ended or were released: a finished result is then claimed by its key, and a lost one is lost.

use super::entry::Entry;
use super::table::{Map, Table};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use taskloom_proto::client::{ClientToScheduler, RegisterFunction, SubmitBatch, TaskSpec};
use taskloom_proto::frame::HEADER_BYTES;
use taskloom_types::{FunctionId, Handle};

/// Submissions that are looked at, by turns, when something has arrived; the oldest and the newest are
/// looked at each time.
const LOOKS: usize = 32;

/// The submissions of one client that have not ended.
#[derive(Default)]
pub(super) struct Lineage {
    submissions: BTreeMap<u64, Kept>,
    functions: Map<FunctionId, KeptFunction>,
    /// How many submissions need a task of an earlier one, which may have been let go before it ended.
    needed: Map<Handle, (u32, Arc<Entry>)>,
    /// Where the next look begins.
    next_look: u64,
}

#[derive(Default)]
struct Kept {
    /// Encoded [`SubmitBatch`]es, in order.
    frames: Vec<Bytes>,
    /// What has not ended, and what comes after it.
    wanted: Runs,
    is_whole: bool,
    functions: Vec<FunctionId>,
    /// Inputs from earlier submissions, which may have been released since.
    inputs: Vec<Arc<Entry>>,
}

/// Handles in their order. Those of a submission mostly follow each other, and need no memory each.
#[derive(Default)]
struct Runs(VecDeque<(u64, u64)>);

impl Runs {
    fn push(&mut self, Handle(handle): Handle) {
        match self.0.back_mut() {
            Some((_, end)) if *end == handle => *end += 1,
            _ => self.0.push_back((handle, handle + 1)),
        }
    }

    fn first(&self) -> Option<Handle> {
        self.0.front().map(|(first, _)| Handle(*first))
    }

    fn pop_first(&mut self) {
        if let Some((first, end)) = self.0.front_mut() {
            *first += 1;
            if first == end {
                self.0.pop_front();
            }
        }
    }
}

struct KeptFunction {
    function: RegisterFunction,
    /// Pieces that name it.
    uses: u32,
    /// Whether the scheduler is to keep it too.
    is_known: bool,
}

/// What a piece will be kept by.
pub(super) struct Noted {
    submission: u64,
    wanted: Vec<Handle>,
    is_last: bool,
    functions: Vec<FunctionId>,
    inputs: Vec<Arc<Entry>>,
}

impl Noted {
    pub(super) fn new(batch: &SubmitBatch, table: &Table) -> Self {
        let first = batch.tasks.first().map_or(Handle(0), |task| task.handle);
        let is_wanted = |task: &&TaskSpec| task.flags & TaskSpec::WANTED != 0;
        let wanted = batch.tasks.iter().filter(is_wanted).map(|task| task.handle).collect();
        let mut inputs: Vec<Arc<Entry>> = Vec::new();
        let mut last = Handle(0);
        for dep in batch.tasks.iter().flat_map(|task| &task.deps) {
            // Handles grow: later ones are this piece's own.
            if *dep >= first || *dep == last {
                continue;
            }
            last = *dep;
            inputs.extend(table.get(*dep).cloned());
        }
        let (submission, is_last) = (batch.submission, batch.last);
        Self { submission, wanted, is_last, functions: batch.functions.clone(), inputs }
    }
}

impl Lineage {
    pub(super) fn keep(&mut self, noted: Noted, frame: Bytes) {
        for id in &noted.functions {
            if let Some(function) = self.functions.get_mut(id) {
                function.uses += 1;
            }
        }
        let kept = self.submissions.entry(noted.submission).or_default();
        kept.frames.push(frame);
        noted.wanted.into_iter().for_each(|handle| kept.wanted.push(handle));
        kept.is_whole |= noted.is_last;
        kept.functions.extend(noted.functions);
        for input in &noted.inputs {
            self.needed.entry(input.handle).or_insert_with(|| (0, input.clone())).0 += 1;
        }
        kept.inputs.extend(noted.inputs);
    }

    /// A submission is not kept any more, nor for its sake what it needs.
    fn let_go(&mut self, inputs: &[Arc<Entry>]) {
        for input in inputs {
            if let Some((count, _)) = self.needed.get_mut(&input.handle) {
                *count -= 1;
                if *count == 0 {
                    self.needed.remove(&input.handle);
                }
            }
        }
    }

    pub(super) fn keep_function(&mut self, function: RegisterFunction) {
        let id = function.id;
        let new = KeptFunction { function, uses: 0, is_known: true };
        self.functions.entry(id).or_insert(new).is_known = true;
    }

    pub(super) fn forget_function(&mut self, id: FunctionId) {
        if let Some(function) = self.functions.get_mut(&id) {
            function.is_known = false;
            if function.uses == 0 {
                self.functions.remove(&id);
            }
        }
    }

    /// Something has ended: drops what is not needed any more. Its price does not grow with the number
    /// of submissions; what is missed now is seen some turns later.
    pub(super) fn drop_ended(&mut self, table: &Table) {
        let looked_at: Vec<u64> = self
            .submissions
            .range(self.next_look..)
            .take(LOOKS)
            .map(|(number, _)| *number)
            .collect();
        self.next_look = match looked_at.last() {
            Some(last) if looked_at.len() == LOOKS => last + 1,
            _ => 0,
        };
        looked_at.into_iter().for_each(|submission| self.drop_if_ended(submission, table));
        while let Some(oldest) = self.submissions.keys().next().copied() {
            self.drop_if_ended(oldest, table);
            if self.submissions.contains_key(&oldest) {
                break;
            }
        }
        // With a submission goes what was kept for it alone: earlier ones.
        while let Some(newest) = self.submissions.keys().next_back().copied() {
            self.drop_if_ended(newest, table);
            if self.submissions.contains_key(&newest) {
                break;
            }
        }
    }

    fn drop_if_ended(&mut self, submission: u64, table: &Table) {
        let Some(kept) = self.submissions.get_mut(&submission) else { return };
        let has_ended = |handle: &Handle| match table.get(*handle) {
            Some(entry) => !entry.is_pending(),
            // What was let go before it ended may still be needed, and nobody tells of its end.
            None => self.needed.get(handle).is_none_or(|(_, entry)| !entry.is_pending()),
        };
        while kept.wanted.first().is_some_and(|handle| has_ended(&handle)) {
            kept.wanted.pop_first();
        }
        if kept.wanted.first().is_some() || !kept.is_whole {
            return;
        }
        let Some(kept) = self.submissions.remove(&submission) else { return };
        self.let_go(&kept.inputs);
        for id in kept.functions {
            let Some(function) = self.functions.get_mut(&id) else { continue };
            function.uses = function.uses.saturating_sub(1);
            if function.uses == 0 && !function.is_known {
                self.functions.remove(&id);
            }
        }
    }

    // For a new session.

    /// All functions that the scheduler is to know.
    pub(super) fn functions(&self) -> impl Iterator<Item = &RegisterFunction> {
        self.functions.values().map(|kept| &kept.function)
    }

    /// Functions that were to serve for their pieces only.
    pub(super) fn passing_functions(&self) -> Vec<FunctionId> {
        let passing = self.functions.iter().filter(|(_, kept)| !kept.is_known);
        passing.map(|(id, _)| *id).collect()
    }

    /// Inputs from submissions that are not kept.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.submissions.values().flat_map(|kept| &kept.inputs)
    }

    /// The pieces to be submitted again, without the tasks that have failed or were cancelled.
    pub(super) fn batches(&self, table: &Table) -> Vec<SubmitBatch> {
        let frames = self.submissions.values().flat_map(|kept| &kept.frames);
        let mut batches: Vec<SubmitBatch> = frames.filter_map(decode).collect();
        for batch in &mut batches {
            // The task that submitted this is one of an earlier session.
            batch.parent = None;
            batch.tasks.retain(|task| {
                table.get(task.handle).is_none_or(|entry| !entry.outcome().is_failure())
            });
        }
        batches
    }
}

fn decode(frame: &Bytes) -> Option<SubmitBatch> {
    let (kind, body) = (*frame.first()?, frame.get(HEADER_BYTES..)?);
    match ClientToScheduler::read_body(kind, &Bytes::copy_from_slice(body)) {
        Ok(ClientToScheduler::Submit(batch)) => Some(batch),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_come_out_in_the_order_in_which_they_went_in() {
        let mut runs = Runs::default();
        let handles: Vec<u64> = (3..10).chain([12, 13, 20]).chain(15..17).collect();
        handles.iter().for_each(|handle| runs.push(Handle(*handle)));
        assert_eq!(runs.0.len(), 4);
        for handle in handles {
            assert_eq!(runs.first(), Some(Handle(handle)));
            runs.pop_first();
        }
        assert_eq!(runs.first(), None);
        runs.pop_first();
    }
}
