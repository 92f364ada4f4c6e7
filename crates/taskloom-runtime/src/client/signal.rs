//! Tells one waiter that something has happened, whatever it was and however often.

use super::wait::Wait;
use parking_lot::Mutex;
use std::sync::Arc;

/// What happens while nobody waits is noticed by the next who wants to.
#[derive(Debug, Default)]
pub(super) struct Signal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_raised: bool,
    wait: Option<Arc<Wait>>,
}

impl Signal {
    /// Something has happened: ends the wait that was armed last.
    pub(super) fn raise(&self) {
        let wait = {
            let mut state = self.state.lock();
            state.is_raised = true;
            state.wait.take()
        };
        if let Some(wait) = wait {
            wait.count_down(false);
        }
    }

    /// What has happened so far counts no more.
    pub(super) fn clear(&self) {
        self.state.lock().is_raised = false;
    }

    /// Has the next [`Signal::raise`] end the wait that `make_wait` returns for a count of one. False,
    /// without a call of it, when something has happened since the last [`Signal::clear`].
    #[must_use]
    pub(super) fn arm(&self, make_wait: impl FnOnce(usize) -> Arc<Wait>) -> bool {
        let mut state = self.state.lock();
        if !state.is_raised {
            state.wait = Some(make_wait(1));
        }
        !state.is_raised
    }

    /// Nobody waits any more.
    pub(super) fn disarm(&self) {
        self.state.lock().wait = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_before_somebody_waits_is_noticed() {
        let signal = Signal::default();
        signal.raise();
        assert!(!signal.arm(|_| unreachable!("it has happened")));
        signal.clear();
        let wait = Wait::new(1, false);
        assert!(signal.arm(|_| wait.clone()));
        assert!(!wait.is_done());
        signal.raise();
        signal.raise();
        assert!(wait.is_done());
    }

    #[test]
    fn who_waits_no_more_is_not_told() {
        let signal = Signal::default();
        let wait = Wait::new(1, false);
        assert!(signal.arm(|_| wait.clone()));
        signal.disarm();
        signal.raise();
        assert!(!wait.is_done());
    }
}
