//! A queue of runnable tasks by priority, with lazy removal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use taskloom_types::Priority;

/// An entry is valid while its task is queued under the same stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub priority: Priority,
    pub stamp: u32,
    pub task: u32,
}

/// Entries of tasks that left by another way stay until they come to the top, or until they are
/// the majority.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    live: usize,
}

impl Queue {
    pub fn push(&mut self, entry: Entry) {
        self.heap.push(Reverse(entry));
        self.live += 1;
    }

    /// Tasks in the queue, without the entries that are no longer valid.
    pub fn len(&self) -> usize {
        self.live
    }

    /// The first valid entry; drops invalid ones before it.
    pub fn peek(&mut self, is_valid: impl Fn(&Entry) -> bool) -> Option<Entry> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if is_valid(entry) {
                return Some(*entry);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the entry that [`Queue::peek`] has just returned.
    pub fn pop(&mut self) {
        /// An empty queue keeps room for so many entries; the rest of its memory is given back.
        const KEEP: usize = 1024;
        self.heap.pop();
        self.live -= 1;
        if self.heap.is_empty() && self.heap.capacity() > KEEP {
            self.heap.shrink_to(KEEP);
        }
    }

    /// A task left the queue by another way: its entry is no longer valid.
    pub fn forget_one(&mut self, is_valid: impl Fn(&Entry) -> bool) {
        self.live -= 1;
        if self.heap.len() > 64 && self.heap.len() > 2 * self.live {
            self.heap.retain(|Reverse(entry)| is_valid(entry));
        }
    }

    /// Takes all valid entries.
    pub fn drain(&mut self, is_valid: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.live = 0;
        let mut entries: Vec<Entry> = self.heap.drain().map(|Reverse(entry)| entry).collect();
        entries.retain(is_valid);
        entries.sort_unstable();
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskloom_types::Generation;

    fn entry(order: u64) -> Entry {
        let priority = Priority::new(0, Generation(0), order);
        Entry { priority, stamp: order as u32, task: order as u32 }
    }

    #[test]
    fn entries_come_by_priority_and_invalid_ones_are_dropped() {
        let mut queue = Queue::default();
        [3, 1, 2].into_iter().for_each(|order| queue.push(entry(order)));
        let not_one = |entry: &Entry| entry.task != 1;
        queue.forget_one(not_one);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.peek(not_one), Some(entry(2)));
        queue.pop();
        assert_eq!(queue.drain(not_one), [entry(3)]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_queue_of_mostly_invalid_entries_shrinks() {
        let mut queue = Queue::default();
        (0..1000).for_each(|order| queue.push(entry(order)));
        for gone in 0..900u32 {
            queue.forget_one(|entry| entry.task > gone);
        }
        assert!(queue.heap.len() <= 2 * queue.live + 1);
    }
}
