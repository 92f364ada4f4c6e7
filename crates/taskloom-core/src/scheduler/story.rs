//! The recorded transitions of all keys: what `client.story(key)` shows.

use super::task::State;
use foldhash::fast::FixedState;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use taskloom_types::{Key, Nanos, WorkerNo};

/// One transition of one task.
#[derive(Debug, Clone, Copy)]
pub struct Chapter {
    key_hash: u64,
    pub at: Nanos,
    pub from: State,
    pub to: State,
    /// The worker concerned; 0 for none.
    pub worker: WorkerNo,
}

/// The last transitions, up to a bound.
#[derive(Debug, Default)]
pub struct StoryBook {
    chapters: VecDeque<Chapter>,
    hasher: FixedState,
}

impl StoryBook {
    /// Chapters kept: about 1 MB when full.
    const LIMIT: usize = 20_000;

    fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    pub fn record(&mut self, key: &Key, at: Nanos, from: State, to: State, worker: WorkerNo) {
        if self.chapters.len() == Self::LIMIT {
            self.chapters.pop_front();
        }
        let key_hash = self.hash(key);
        self.chapters.push_back(Chapter { key_hash, at, from, to, worker });
    }

    pub fn of<'a>(&'a self, key: &Key) -> impl Iterator<Item = &'a Chapter> + use<'a> {
        let key_hash = self.hash(key);
        self.chapters.iter().filter(move |chapter| chapter.key_hash == key_hash)
    }
}
