//! The way to workers that cannot be reached: by the scheduler, which passes the connection on.
//!
//! Clients need it, who may be in another network than the workers. A detour that worked is taken
//! first the next time, so that the price of trying in vain is paid once for each worker.

use super::client::CONNECT_TIME;
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::time::Duration;
use taskloom_net::connect::Connected;
use taskloom_net::{Address, ConnectError, connect_through};
use taskloom_proto::handshake::Token;

/// How long the direct way is tried before the detour; a network that drops packets answers never.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Detour {
    relay: Address,
    /// Whether the direct way is not tried.
    always: bool,
    /// Workers that were reached this way only.
    taken: Mutex<HashSet<String>>,
}

impl Detour {
    pub(super) fn new(relay: Address, always: bool) -> Self {
        Self { relay, always, taken: Mutex::default() }
    }

    pub(super) fn forget(&self, address: &str) {
        self.taken.lock().remove(address);
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.taken.lock().len()
    }

    /// Connects by whichever way works. `direct` is given the time it has. Blocks.
    pub(super) fn connect(
        &self,
        address: &str,
        token: &Token,
        direct: impl Fn(Duration) -> Result<Connected, ConnectError>,
    ) -> Result<Connected, ConnectError> {
        let by_relay = || connect_through(&self.relay, address, token, CONNECT_TIME);
        if self.always {
            return by_relay();
        }
        if self.taken.lock().contains(address) {
            return by_relay().or_else(|relayed| {
                self.taken.lock().remove(address);
                direct(PATIENCE).map_err(|direct| both(direct, &relayed))
            });
        }
        let in_vain = match direct(PATIENCE) {
            Err(error @ ConnectError::Unreachable { .. }) => error,
            other => return other,
        };
        let connected = by_relay().map_err(|relayed| both(in_vain, &relayed))?;
        self.taken.lock().insert(address.into());
        Ok(connected)
    }
}

/// Why neither way leads there.
fn both(direct: ConnectError, relayed: &ConnectError) -> ConnectError {
    match direct {
        ConnectError::Unreachable { address, seconds, reason } => {
            let reason = format!("{reason}; by way of the scheduler: {relayed}");
            ConnectError::Unreachable { address, seconds, reason }
        }
        other => other,
    }
}
