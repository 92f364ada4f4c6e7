//! Asks whether one of the client's rules is broken on purpose: see `taskloom_core::planted`.

pub(super) use taskloom_core::planted::Fault;

use super::Client;

impl Client {
    /// Breaks a rule of this client from now on.
    #[cfg(feature = "planted")]
    pub fn plant(&self, fault: Fault) {
        // It is broken already, if it was before.
        let _ = self.planted.set(fault);
    }

    #[cfg(feature = "planted")]
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.planted.get() == Some(&fault)
    }

    #[cfg(not(feature = "planted"))]
    #[inline]
    pub(super) fn has(&self, _fault: Fault) -> bool {
        false
    }
}
