//! Clients that cannot reach a worker are passed on to it. Only to workers that the scheduler knows,
//! and only for who has proved the token; the worker asks for that proof again.

use super::server::Server;
use std::sync::Arc;
use std::time::Duration;
use taskloom_net::connect::open_plain;
use taskloom_net::relay::Admitted;
use taskloom_net::{Address, Channel, Relay, Stream};
use taskloom_proto::frame::Frame;
use taskloom_proto::relay::{RelayTo, Relayed};

/// How long a worker may take to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);

impl Server {
    /// What was passed on so far is for the scheduler's rules to tell.
    pub(super) fn note_relayed(&mut self) {
        if let Some(relay) = &self.relay {
            let totals = relay.totals();
            self.core.note_relayed(totals.connections, totals.bytes);
        }
    }

    /// Takes a connection out of the scheduler's loop and joins it to a worker's.
    ///
    /// # Errors
    /// The request is damaged.
    pub(super) fn pass_on(&mut self, channel: &Channel, frame: &Frame) -> Result<(), String> {
        let wish = RelayTo::of_frame(frame).map_err(|error| error.to_string())?;
        let near = channel.detach().map_err(|error| error.to_string())?;
        match self.prepare_passing(&wish.address) {
            Ok((relay, admitted, target)) => pass_on_apart(relay, admitted, near, target),
            Err(reason) => refuse(&near, &reason),
        }
        Ok(())
    }

    fn prepare_passing(
        &mut self,
        address: &str,
    ) -> Result<(Arc<Relay>, Admitted, Address), String> {
        if !self.core.has_worker_at(address) {
            return Err(format!("no worker is at {address}"));
        }
        let target: Address = address.parse().map_err(|error| format!("{error}"))?;
        let relay = match &self.relay {
            Some(relay) => relay.clone(),
            None => {
                let relay = Relay::start().map_err(|error| error.to_string())?;
                self.relay.insert(Arc::new(relay)).clone()
            }
        };
        let admitted = relay.admit()?;
        Ok((relay, admitted, target))
    }
}

/// Connecting blocks: the scheduler's thread does not wait for it.
fn pass_on_apart(relay: Arc<Relay>, admitted: Admitted, near: Stream, target: Address) {
    let thread = std::thread::Builder::new().name("taskloom-pass-on".into());
    // When no thread can be started the socket closes, which says enough.
    let _ = thread.stack_size(128 * 1024).spawn(move || match open_plain(&target, CONNECT_TIME) {
        Ok(far) => relay.carry(admitted, near, far, &Relayed::default().to_frame()),
        Err(error) => refuse(&near, &error.to_string()),
    });
}

/// The socket closes after this.
fn refuse(near: &Stream, reason: &str) {
    let answer = Relayed { reason: reason.into() }.to_frame();
    // A fresh socket takes these few bytes; if not, its end says enough.
    let _ = near.write_slices(&[std::io::IoSlice::new(&answer)], &[]);
}
