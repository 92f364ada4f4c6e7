//! Memory for values, without network and without Python.
//!
//! - [`shared`]: segments of memory that processes of one host map instead of copying.
//! - [`files`]: values on disk that are read without a copy.
//! - [`compression`]: for values between hosts.
//! - [`digest`]: tells whether two copies of a part of a value are the same.

pub mod compression;
pub mod files;
mod registry;
pub mod shared;

/// Equal bytes have equal digests; different ones do not, unless by design.
#[must_use]
pub fn digest(bytes: &[u8]) -> (u64, u64) {
    let digest = xxhash_rust::xxh3::xxh3_128(bytes);
    ((digest >> 64) as u64, digest as u64)
}
