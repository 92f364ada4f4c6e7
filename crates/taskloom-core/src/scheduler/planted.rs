//! Asks whether one of the scheduler's rules is broken on purpose: see `crate::planted`.

pub use crate::planted::Fault;

use super::Scheduler;

impl Scheduler {
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
