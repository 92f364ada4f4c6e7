//! Values that processes of one host share: written once, mapped by every reader.
//!
//! A *segment* is an anonymous memory file (`memfd`). Its owner writes a value into it and passes a
//! read-only descriptor to readers, which map it. The kernel frees the memory with the last
//! descriptor and mapping, so nothing has a name in a file system and nothing is left behind by
//! a process that is killed. The size of a segment is sealed: a reader's mapping never faults.
//!
//! - [`Pool`]: the owner's segments. Fresh pages cost more than copying into known ones, so
//!   segments are used again; the kernel says when no reader is left ([`segment`]).
//! - [`Pool::allocate`]: memory that is a segment from the start, so that a value that is made in it
//!   need not be copied ([`born`]).
//! - [`Mapping`]: one segment in this process. Its parts travel as plain [`bytes::Bytes`];
//!   [`place_of`] tells where in shared memory some bytes lie.
//! - [`PrivateView`]: a part of a segment that may be written to: the kernel copies the pages that
//!   are, and nobody else sees it.
//!
//! Docs: `docs/design/data-plane.md`.

mod born;
#[cfg(test)]
mod born_tests;
mod large;
mod mapping;
mod pool;
mod segment;
#[cfg(test)]
mod tests;
mod view;
mod window;

pub use born::{
    held_with_private, is_born_shared, keep_as_is, length_of, release, resize_in_place,
    share_in_place,
};
pub use mapping::{Layout, Mapping, Place, place_of};
pub use pool::{Pool, PoolLimits, PoolUse};
pub use view::PrivateView;

/// Buffers of a value begin at multiples of this, which suits vector instructions.
pub const ALIGNMENT: u64 = 64;

/// `position` rounded up to [`ALIGNMENT`].
#[must_use]
pub fn aligned(position: u64) -> u64 {
    position.next_multiple_of(ALIGNMENT)
}
