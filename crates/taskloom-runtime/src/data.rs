//! Values between workers and clients: who wants bytes asks the process that has them.
//!
//! [`DataServer`] answers from a [`DataStore`]; [`DataClient`] asks, over one connection per
//! address. Values are never copied on the way: they leave by vectored writes, and arrive as
//! slices of the buffer that the socket was read into. Within a host, large ones are in shared
//! memory ([`SharedMemory`]), and only descriptors travel; over sockets they are asked for in
//! ranges. Calls of actors take the same way.
//!
//! Docs: `docs/design/data-plane.md`.

mod calls;
mod client;
mod detour;
mod download;
mod helper;
mod idle;
mod memory;
mod options;
mod parcel;
mod parting;
mod pending;
mod server;
mod shards;
mod streams;
mod transfers;

pub use calls::{ActorAnswer, ActorRequest, CallCallback, CallReplier};
pub use client::{DataClient, FetchCallback, FetchError, FetchOutcome, Fetched, PutCallback};
pub use memory::{Allocator, SHARE_FROM, Shared, SharedMemory, is_shared};
pub use parting::OnAlone;
pub use server::{DataServer, DataStore, FetchReplier, PutReplier, StoredItem, StoredValue};
pub use shards::{ShardsCallback, remove_shard_directories, shard_directory};

use bytes::Bytes;

/// Shorter segments are copied out of the receive buffer, so that a small value that is kept
/// does not keep a large buffer alive.
const COPY_BELOW: usize = 16 * 1024;

/// Cuts the next segments off `data`, and copies those shorter than `copy_below`; `None` when the
/// lengths claim more than is there.
fn take_segments(data: &mut Bytes, lengths: &[u64], copy_below: usize) -> Option<Vec<Bytes>> {
    let take = |&length: &u64| {
        let length = usize::try_from(length).ok().filter(|length| *length <= data.len())?;
        let segment = data.split_to(length);
        Some(if length < copy_below { Bytes::copy_from_slice(&segment) } else { segment })
    };
    lengths.iter().map(take).collect()
}

#[cfg(test)]
mod tests;
