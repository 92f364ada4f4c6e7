//! Connections that nobody uses are closed after a while; who asks again gets a new one.

use super::client::Shared;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Looks in a row that find a connection unused, after which it is closed.
pub(super) const LOOKS: u32 = 4;

impl Shared {
    /// Looks for unused connections as long as there are any. Call it when one was added.
    pub(super) fn watch_idle(self: &Arc<Self>) {
        let Some(limit) = self.idle_time() else { return };
        if !self.looks_for_idle.swap(true, Ordering::AcqRel) {
            self.look_after(limit / LOOKS);
        }
    }

    fn look_after(self: &Arc<Self>, pause: Duration) {
        let client = Arc::downgrade(self);
        let _ = self.io().after(pause, move || {
            if let Some(client) = client.upgrade() {
                client.close_idle(pause);
            }
        });
    }

    fn close_idle(self: &Arc<Self>, pause: Duration) {
        for peer in self.open_peers() {
            // The worker holds what is downloaded for as long as this connection lives.
            let streams = self.known_streams(peer.address());
            let is_busy = streams.is_some_and(|streams| streams.is_busy());
            if peer.close_if_idle(is_busy) {
                self.remove(&peer);
            }
        }
        self.sweep_streams();
        if self.has_peers_or_rests() {
            self.look_after(pause);
        }
    }
}
