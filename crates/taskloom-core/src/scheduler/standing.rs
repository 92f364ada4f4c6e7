//! Who looks for work. Every worker stands in one list, so that to place a task costs the same
//! with ten workers and with ten thousand: nobody is asked twice who has nothing new to say.

use super::worker_table::{WorkerSlot, WorkerTable};

/// Where a worker stands with regard to new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// It gets nothing more until something changes there: its threads are busy and what is
    /// queued is not to be sent ahead, or it takes no work.
    #[default]
    Out,
    /// Something changed there: the next placement looks at it.
    Due,
    /// It has a free thread, and found nothing to take.
    Idle,
    /// Its threads are busy; it found nothing to take ahead.
    Roomy,
}

/// One list, longest standing first; the links are in the workers' records.
#[derive(Debug, Clone, Copy)]
struct List {
    first: WorkerSlot,
    last: WorkerSlot,
    len: usize,
}

impl Default for List {
    fn default() -> Self {
        Self { first: WorkerSlot::NONE, last: WorkerSlot::NONE, len: 0 }
    }
}

/// A worker's place in its list.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub standing: Standing,
    before: WorkerSlot,
    after: WorkerSlot,
}

impl Default for Place {
    fn default() -> Self {
        Self { standing: Standing::Out, before: WorkerSlot::NONE, after: WorkerSlot::NONE }
    }
}

/// The lists of all workers that are not [`Standing::Out`].
#[derive(Debug, Default)]
pub struct Standings {
    due: List,
    idle: List,
    roomy: List,
}

impl Standings {
    fn list(&self, standing: Standing) -> List {
        match standing {
            Standing::Out => List::default(),
            Standing::Due => self.due,
            Standing::Idle => self.idle,
            Standing::Roomy => self.roomy,
        }
    }

    fn list_mut(&mut self, standing: Standing) -> Option<&mut List> {
        match standing {
            Standing::Out => None,
            Standing::Due => Some(&mut self.due),
            Standing::Idle => Some(&mut self.idle),
            Standing::Roomy => Some(&mut self.roomy),
        }
    }

    pub fn len(&self, standing: Standing) -> usize {
        self.list(standing).len
    }

    /// Who has stood there longest.
    pub fn first(&self, standing: Standing) -> Option<WorkerSlot> {
        let first = self.list(standing).first;
        (first != WorkerSlot::NONE).then_some(first)
    }

    /// Those who stand there, longest first.
    pub fn iter<'a>(
        &self,
        workers: &'a WorkerTable,
        standing: Standing,
    ) -> impl Iterator<Item = WorkerSlot> + use<'a> {
        let after = |slot: &WorkerSlot| {
            let after = workers.get(*slot)?.place.after;
            (after != WorkerSlot::NONE).then_some(after)
        };
        std::iter::successors(self.first(standing), after)
    }

    /// Moves a worker to the end of a list, also of the one where it stands.
    pub fn put(&mut self, workers: &mut WorkerTable, slot: WorkerSlot, standing: Standing) {
        self.unlink(workers, slot);
        let last = match self.list_mut(standing) {
            None => return,
            Some(list) => {
                list.len += 1;
                if list.first == WorkerSlot::NONE {
                    list.first = slot;
                }
                std::mem::replace(&mut list.last, slot)
            }
        };
        if let Some(before) = workers.get_mut(last) {
            before.place.after = slot;
        }
        workers[slot].place = Place { standing, before: last, after: WorkerSlot::NONE };
    }

    fn unlink(&mut self, workers: &mut WorkerTable, slot: WorkerSlot) {
        let Place { standing, before, after } = std::mem::take(&mut workers[slot].place);
        let Some(list) = self.list_mut(standing) else { return };
        list.len -= 1;
        match workers.get_mut(before) {
            Some(before) => before.place.after = after,
            None => list.first = after,
        }
        match workers.get_mut(after) {
            Some(after) => after.place.before = before,
            None => list.last = before,
        }
    }

    /// # Errors
    /// A list and the workers' records disagree.
    pub fn validate(&self, workers: &WorkerTable) -> Result<(), String> {
        for standing in [Standing::Due, Standing::Idle, Standing::Roomy] {
            let listed: Vec<_> = self.iter(workers, standing).take(workers.len() + 1).collect();
            let is_other = |slot: &WorkerSlot| workers[*slot].place.standing != standing;
            if listed.len() != self.len(standing) || listed.iter().any(is_other) {
                return Err(format!("the list of workers that are {standing:?} is wrong"));
            }
            let counted = workers.iter().filter(|w| w.place.standing == standing).count();
            if counted != listed.len() {
                return Err(format!("{counted} workers are {standing:?}, not {}", listed.len()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::worker_table::WorkerRecord;
    use super::*;
    use taskloom_proto::worker::RegisterWorker;
    use taskloom_types::{Nanos, WorkerNo};

    fn table(count: u32) -> (WorkerTable, Vec<WorkerSlot>) {
        let mut workers = WorkerTable::default();
        let join = |number| {
            let info = RegisterWorker { name: format!("w{number}"), ..RegisterWorker::default() };
            workers.insert(WorkerRecord::new(WorkerNo(number), info, Nanos(0)))
        };
        let slots = (1..=count).map(join).collect();
        (workers, slots)
    }

    #[test]
    fn who_is_put_again_goes_to_the_end_and_every_move_keeps_the_lists_whole() {
        let (mut workers, slots) = table(5);
        let mut standings = Standings::default();
        for slot in &slots {
            standings.put(&mut workers, *slot, Standing::Idle);
        }
        for slot in [slots[0], slots[2], slots[4]] {
            standings.put(&mut workers, slot, Standing::Idle);
            standings.validate(&workers).unwrap();
        }
        let order: Vec<_> = standings.iter(&workers, Standing::Idle).collect();
        assert_eq!(order, [slots[1], slots[3], slots[0], slots[2], slots[4]]);
        for (slot, standing) in
            [(slots[3], Standing::Due), (slots[1], Standing::Out), (slots[4], Standing::Roomy)]
        {
            standings.put(&mut workers, slot, standing);
            standings.validate(&workers).unwrap();
        }
        let order: Vec<_> = standings.iter(&workers, Standing::Idle).collect();
        assert_eq!(order, [slots[0], slots[2]]);
        assert_eq!(standings.first(Standing::Due), Some(slots[3]));
        assert_eq!(standings.first(Standing::Out), None);
    }
}
