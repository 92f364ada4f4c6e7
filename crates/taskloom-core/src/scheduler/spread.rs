//! Copies of a large result to many workers: each holder serves a few at a time, and who has got a
//! copy serves others. So the copies spread as a tree, and no line carries all of them.
//!
//! A copy that waits for its turn always waits for one that is under way: when that ends, in
//! whatever way, the next ones begin.

use super::Scheduler;
use super::replicas::Copy;
use super::task::State;
use super::worker_table::WorkerSlot;
use std::collections::{BTreeMap, VecDeque};
use taskloom_types::{TaskId, WorkerNo};

/// Copies that a holder serves at a time.
const FAN_OUT: usize = 2;

/// The copies of one result.
#[derive(Debug, Default)]
struct Spread {
    /// Turns of holders that are free; one entry per copy that the holder may serve.
    turns: VecDeque<WorkerNo>,
    /// Workers that wait for a turn. Some may not want a copy any more.
    waiting: VecDeque<WorkerNo>,
    /// Copies under way.
    ordered: usize,
}

#[derive(Debug, Default)]
pub struct Spreads {
    open: BTreeMap<TaskId, Spread>,
}

impl Spreads {
    pub(super) fn forget(&mut self, task: TaskId) {
        self.open.remove(&task);
    }
}

impl Scheduler {
    /// A new copy: ordered at once, or when a holder has a turn for it.
    pub(super) fn begin_or_queue(&mut self, index: u32, slot: WorkerSlot) {
        let (id, number) = (self.tasks.id(index), self.workers[slot].number);
        if self.tasks[index].size_bytes < self.config.spread_bytes {
            if let Some(copy) = self.replication.copies.get_mut(&(id, number)) {
                copy.is_ordered = true;
            }
            return self.order_copy(index, slot, None);
        }
        if !self.replication.spreads.open.contains_key(&id) {
            let turns = self.turns_of_holders(index);
            let spread = Spread { turns, ..Spread::default() };
            self.replication.spreads.open.insert(id, spread);
        }
        if let Some(spread) = self.replication.spreads.open.get_mut(&id) {
            spread.waiting.push_back(number);
        }
        self.use_turns(id);
    }

    fn turns_of_holders(&self, index: u32) -> VecDeque<WorkerNo> {
        let replicas = &self.tasks[index].replicas;
        let holders = replicas.iter().filter_map(|slot| Some(self.workers.get(*slot)?.number));
        let holders: Vec<_> = holders.collect();
        // One turn of each before the second of any.
        (0..FAN_OUT).flat_map(|_| holders.iter().copied()).collect()
    }

    /// A worker holds the result from now on, and can serve others.
    pub(super) fn offer_turns(&mut self, id: TaskId, holder: WorkerNo) {
        if let Some(spread) = self.replication.spreads.open.get_mut(&id) {
            spread.turns.extend([holder; FAN_OUT]);
        }
    }

    /// A copy has ended, well or not: its holder serves the next one.
    pub(super) fn end_turn(&mut self, id: TaskId, copy: &Copy) {
        let Some(spread) = self.replication.spreads.open.get_mut(&id) else { return };
        if let Some(source) = copy.source {
            spread.ordered -= 1;
            spread.turns.push_back(source);
        }
        self.use_turns(id);
    }

    /// Orders as many of the waiting copies as there are turns. If nothing is under way and no turn
    /// is left, the holders of now get new ones.
    fn use_turns(&mut self, id: TaskId) {
        while let Some((target, source)) = self.next_turn(id) {
            let slots = (self.tasks.get(id), self.workers.slot(target), self.workers.slot(source));
            let (Some(index), Some(slot), Some(from)) = slots else { continue };
            let Some(spread) = self.replication.spreads.open.get_mut(&id) else { return };
            spread.ordered += 1;
            if let Some(copy) = self.replication.copies.get_mut(&(id, target)) {
                copy.is_ordered = true;
                copy.source = Some(source);
            }
            self.order_copy(index, slot, Some(from));
        }
    }

    fn next_turn(&mut self, id: TaskId) -> Option<(WorkerNo, WorkerNo)> {
        let index = self.tasks.get(id).filter(|index| self.tasks[*index].state == State::Memory);
        let target = self.next_waiting(id)?;
        let source = self.next_source(id, index);
        let spread = self.replication.spreads.open.get_mut(&id)?;
        if source.is_none() {
            spread.waiting.push_front(target);
        }
        Some((target, source?))
    }

    /// A worker that still wants a copy. Without one, and with nothing under way, the spread is over.
    fn next_waiting(&mut self, id: TaskId) -> Option<WorkerNo> {
        let copies = &self.replication.copies;
        let spread = self.replication.spreads.open.get_mut(&id)?;
        while let Some(target) = spread.waiting.pop_front() {
            if copies.get(&(id, target)).is_some_and(|copy| !copy.is_ordered) {
                return Some(target);
            }
        }
        if spread.ordered == 0 {
            self.replication.spreads.open.remove(&id);
        }
        None
    }

    /// A holder with a turn.
    fn next_source(&mut self, id: TaskId, index: Option<u32>) -> Option<WorkerNo> {
        let index = index?;
        let needs_turns = {
            let spread = self.replication.spreads.open.get(&id)?;
            spread.ordered == 0 && !spread.turns.iter().any(|turn| self.holds(*turn, index))
        };
        let fresh = needs_turns.then(|| self.turns_of_holders(index));
        let spread = self.replication.spreads.open.get_mut(&id)?;
        if let Some(turns) = fresh {
            spread.turns = turns;
        }
        loop {
            let turn = self.replication.spreads.open.get_mut(&id)?.turns.pop_front()?;
            if self.holds(turn, index) {
                return Some(turn);
            }
        }
    }

    fn holds(&self, worker: WorkerNo, index: u32) -> bool {
        let slot = self.workers.slot(worker);
        slot.is_some_and(|slot| self.tasks[index].replicas.contains(&slot))
    }

    /// # Errors
    /// A copy that waits for a turn that will never come, or wrong counts.
    pub(super) fn validate_spreads(&self) -> Result<(), String> {
        let copies = &self.replication.copies;
        for (name, copy) in copies.iter().filter(|(_, copy)| !copy.is_ordered) {
            let spread = self.replication.spreads.open.get(&name.0);
            let waits = spread.is_some_and(|s| s.ordered > 0 && s.waiting.contains(&name.1));
            if !waits || copy.source.is_some() {
                return Err("a copy waits for a turn that will not come".into());
            }
        }
        for (id, spread) in &self.replication.spreads.open {
            let range = (*id, WorkerNo(0))..=(*id, WorkerNo(u32::MAX));
            let ordered = copies.range(range).filter(|(_, copy)| copy.source.is_some()).count();
            if ordered != spread.ordered || ordered == 0 {
                return Err("the copies under way of a large result are counted wrongly".into());
            }
        }
        Ok(())
    }
}
