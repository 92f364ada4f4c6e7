//! Asks whether one of the worker's rules is broken on purpose: see `crate::planted`.

pub(super) use crate::planted::Fault;

use super::Worker;

impl Worker {
    #[cfg(feature = "planted")]
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.config.planted == Some(fault)
    }

    #[cfg(not(feature = "planted"))]
    #[inline]
    pub(super) fn has(&self, _fault: Fault) -> bool {
        false
    }
}
