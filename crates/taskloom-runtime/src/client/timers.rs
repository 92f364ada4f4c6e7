//! What a client does later, and who calls it back: its IO thread, or whoever drives it by hand.

use crate::io::IoThread;
use std::time::Duration;

/// Calls back later. Callers may hold any lock, so it is never done at once, on their thread.
pub trait Timers: Send + Sync {
    /// Calls back once, after `delay`.
    fn after(&self, delay: Duration, callback: Box<dyn FnOnce() + Send>);
}

impl Timers for IoThread {
    fn after(&self, delay: Duration, callback: Box<dyn FnOnce() + Send>) {
        let _ = Self::after(self, delay, callback);
    }
}
