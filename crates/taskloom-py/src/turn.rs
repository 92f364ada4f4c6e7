//! One thread at a time unpickles.
//!
//! Unpickling imports modules. Python's import locks are taken child first when a pickle names
//! `package.module`, and parent first when code says `import package`: two threads that do both
//! at once run into each other, Python breaks the tie by handing out half-made modules, and a
//! first import that failed often cannot be repeated in the process. Several executor threads
//! that start at the same time do exactly that. Nothing is lost by taking turns: the interpreter
//! lets one thread at a time run anyway.

use crate::ending::detached;
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Who waits longer goes ahead without a turn: user code that runs while unpickling may itself wait
/// for another thread.
const PATIENCE: Duration = Duration::from_secs(5);

/// The thread whose turn it is, and how often it took it.
static OWNER: Mutex<Option<(ThreadId, usize)>> = Mutex::new(None);
static FREE: Condvar = Condvar::new();

/// The calling thread's turn, until dropped.
pub struct Turn(());

impl Turn {
    /// `None` when it took too long.
    pub fn take(py: Python<'_>) -> Option<Self> {
        let me = thread::current().id();
        if Self::try_take(&mut OWNER.lock(), me) {
            return Some(Self(()));
        }
        detached(py, || {
            let deadline = Instant::now() + PATIENCE;
            let mut owner = OWNER.lock();
            while !Self::try_take(&mut owner, me) {
                if FREE.wait_until(&mut owner, deadline).timed_out() {
                    return None;
                }
            }
            Some(Self(()))
        })
    }

    fn try_take(owner: &mut Option<(ThreadId, usize)>, me: ThreadId) -> bool {
        match owner {
            Some((thread, depth)) if *thread == me => *depth += 1,
            Some(_) => return false,
            None => *owner = Some((me, 1)),
        }
        true
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut owner = OWNER.lock();
        let is_last = owner.as_mut().is_some_and(|(_, depth)| {
            *depth -= 1;
            *depth == 0
        });
        if is_last {
            *owner = None;
            drop(owner);
            FREE.notify_one();
        }
    }
}
