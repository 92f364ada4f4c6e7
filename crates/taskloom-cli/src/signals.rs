//! Waiting for SIGTERM and SIGINT, also in the main thread of a Python process.

use crate::{CommandError, failed};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Signal,
    /// What `until` waited for.
    Ended,
}

/// Catches SIGTERM and SIGINT from its creation on.
pub(crate) struct SignalWatch(Signals);

impl SignalWatch {
    pub(crate) fn new() -> Result<Self, CommandError> {
        Signals::new([SIGTERM, SIGINT]).map(Self).map_err(failed)
    }

    /// Blocks until a signal comes or `until`, on a thread of its own, returns.
    pub(crate) fn wait(
        mut self,
        until: impl FnOnce() + Send + 'static,
    ) -> Result<Wake, CommandError> {
        let handle = self.0.handle();
        let thread = std::thread::Builder::new().name("taskloom-wait".into());
        let wait = move || {
            until();
            handle.close();
        };
        thread.spawn(wait).map_err(failed)?;
        Ok(if self.0.forever().next().is_some() { Wake::Signal } else { Wake::Ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_work_ends_the_wait() {
        let watch = SignalWatch::new().unwrap();
        assert_eq!(watch.wait(|| {}).unwrap(), Wake::Ended);
    }
}
