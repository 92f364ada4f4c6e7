//! Memory of this process by where it starts, so that bytes can be traced to what holds them.

use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Something that holds memory in one piece.
pub(crate) trait Span {
    /// In bytes.
    fn length(&self) -> usize;
}

/// Each is put in once it is there, and taken out by its own drop.
#[derive(Debug)]
pub(crate) struct Registry<T>(RwLock<BTreeMap<usize, Weak<T>>>);

impl<T: Span> Registry<T> {
    pub const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    pub fn insert(&self, start: usize, holder: &Arc<T>) {
        self.0.write().insert(start, Arc::downgrade(holder));
    }

    pub fn remove(&self, start: usize) {
        self.0.write().remove(&start);
    }

    /// What holds these bytes, and how far from its start they begin.
    pub fn find(&self, bytes: &Bytes) -> Option<(Arc<T>, usize)> {
        if bytes.is_empty() {
            return None;
        }
        let at = bytes.as_ptr() as usize;
        let spans = self.0.read();
        let (start, holder) = spans.range(..=at).next_back()?;
        // Succeeds when `bytes` hold it. Another's last holder may be dropping it just now: then
        // this is the last, and its drop takes the lock.
        let (start, holder) = (*start, holder.upgrade());
        drop(spans);
        let (holder, offset) = (holder?, at - start);
        (offset + bytes.len() <= holder.length()).then_some((holder, offset))
    }

    #[cfg(test)]
    pub fn contains(&self, start: usize) -> bool {
        self.0.read().contains_key(&start)
    }
}
