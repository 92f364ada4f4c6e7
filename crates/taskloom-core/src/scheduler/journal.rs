//! Records that are kept for people: bounded per name and in all, the oldest go first.

use super::Map;
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::Hash;

/// How much a [`Journal`] keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records of one name.
    pub records: usize,
    /// Bytes of one name.
    pub bytes: usize,
    /// Bytes of all names: beyond it the names go that were not written to for longest.
    pub total_bytes: usize,
}

/// Bounded lists of records by name.
#[derive(Debug)]
pub struct Journal<K, T> {
    pages: Map<K, Page<T>>,
    limits: Limits,
    total_bytes: usize,
    last_write: u64,
}

#[derive(Debug)]
struct Page<T> {
    records: VecDeque<(usize, T)>,
    bytes: usize,
    /// The number of its last write.
    written: u64,
}

/// What a record costs beside its content, and a name beside its records.
const OVERHEAD: usize = 64;

impl<K: Eq + Hash + Clone, T> Journal<K, T> {
    pub fn new(limits: Limits) -> Self {
        Self { pages: Map::default(), limits, total_bytes: 0, last_write: 0 }
    }

    /// Adds a record of about `bytes` bytes.
    pub fn write(&mut self, name: &K, bytes: usize, record: T) {
        let bytes = bytes.saturating_add(OVERHEAD);
        self.last_write += 1;
        let page = self.pages.entry_ref(name).or_insert_with(|| Page {
            records: VecDeque::new(),
            bytes: 0,
            written: 0,
        });
        page.written = self.last_write;
        page.bytes += bytes;
        self.total_bytes += bytes;
        page.records.push_back((bytes, record));
        while page.records.len() > self.limits.records.max(1)
            || (page.bytes > self.limits.bytes && page.records.len() > 1)
        {
            let Some((bytes, _)) = page.records.pop_front() else { break };
            page.bytes -= bytes;
            self.total_bytes -= bytes;
        }
        if self.total_bytes > self.limits.total_bytes {
            self.drop_oldest();
        }
    }

    /// An eighth goes at once, so that the search is rare.
    fn drop_oldest(&mut self) {
        let mut pages: Vec<(u64, K)> =
            self.pages.iter().map(|(name, page)| (page.written, name.clone())).collect();
        pages.sort_unstable_by_key(|(written, _)| *written);
        // The last one was written to right now.
        pages.pop();
        let goal = self.limits.total_bytes / 8 * 7;
        for (_, name) in pages {
            if self.total_bytes <= goal {
                return;
            }
            self.forget(&name);
        }
    }

    pub fn forget<Q: Eq + Hash + ?Sized>(&mut self, name: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(page) = self.pages.remove(name) {
            self.total_bytes -= page.bytes;
        }
    }

    /// The records of a name, oldest first.
    pub fn of<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> impl Iterator<Item = &T>
    where
        K: Borrow<Q>,
    {
        self.pages.get(name).into_iter().flat_map(|page| page.records.iter().map(|(_, r)| r))
    }

    pub fn names(&self) -> impl Iterator<Item = &K> {
        self.pages.keys()
    }

    /// # Errors
    /// The sums are wrong, or a bound is broken.
    pub fn validate(&self) -> Result<(), String> {
        let mut total = 0;
        for page in self.pages.values() {
            let bytes: usize = page.records.iter().map(|(bytes, _)| *bytes).sum();
            if bytes != page.bytes || page.records.is_empty() {
                return Err("a page of a journal counts its bytes wrongly".into());
            }
            total += bytes;
        }
        let largest = self.pages.values().map(|page| page.bytes).max().unwrap_or(0);
        if total != self.total_bytes || total > self.limits.total_bytes.max(largest) {
            return Err(format!("a journal keeps {total} bytes, not {}", self.total_bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Journal<String, u32> {
        Journal::new(Limits { records: 3, bytes: 1000, total_bytes: 2000 })
    }

    fn kept(journal: &Journal<String, u32>, name: &str) -> Vec<u32> {
        journal.validate().unwrap();
        journal.of(name).copied().collect()
    }

    #[test]
    fn the_oldest_records_of_a_name_go_first() {
        let mut journal = journal();
        (0..5).for_each(|n| journal.write(&"a".to_string(), 1, n));
        assert_eq!(kept(&journal, "a"), [2, 3, 4]);
        assert!(kept(&journal, "b").is_empty());
    }

    #[test]
    fn a_large_record_displaces_the_older_ones_and_is_itself_kept() {
        let mut journal = journal();
        journal.write(&"a".to_string(), 1, 1);
        journal.write(&"a".to_string(), 5000, 2);
        assert_eq!(kept(&journal, "a"), [2]);
    }

    #[test]
    fn beyond_the_bound_the_names_go_that_were_not_written_to_for_longest() {
        let mut journal = journal();
        for name in ["a", "b", "c"] {
            journal.write(&name.to_string(), 500, 1);
        }
        journal.write(&"a".to_string(), 100, 2);
        journal.write(&"d".to_string(), 500, 1);
        assert!(kept(&journal, "b").is_empty());
        assert_eq!(kept(&journal, "a"), [1, 2]);
        assert_eq!(kept(&journal, "d"), [1]);
    }
}
