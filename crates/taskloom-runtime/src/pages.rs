//! Bytes that many pages hold: they go back to the system when they are dropped. An allocator keeps
//! such memory for later, and a client that has submitted much has no later use for it.

use bytes::Bytes;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::ptr::NonNull;

/// From here on the faults of the pages cost less than a copy.
const MAPPED_BYTES: usize = 64 * 1024;

/// A copy.
pub(crate) fn in_own_pages(bytes: &[u8]) -> Bytes {
    let pages = (bytes.len() >= MAPPED_BYTES).then(|| Pages::copy_of(bytes)).flatten();
    pages.map_or_else(|| Bytes::copy_from_slice(bytes), Bytes::from_owner)
}

struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: nobody writes to the memory after it was filled.
unsafe impl Send for Pages {}

impl Pages {
    /// `None`: the system gives no more mappings.
    fn copy_of(bytes: &[u8]) -> Option<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses a place where nothing is.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), bytes.len(), protection, MapFlags::PRIVATE)
        };
        let start = NonNull::new(start.ok()?.cast::<u8>())?;
        // SAFETY: the mapping is as long as `bytes`, and new.
        unsafe { start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Some(Self { start, length: bytes.len() })
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped and were filled; nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's alone. It fails only for what is no mapping.
        let _ = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_any_length_is_equal_and_outlives_its_slices() {
        for length in [0, 1, MAPPED_BYTES - 1, MAPPED_BYTES, 3 * MAPPED_BYTES + 5] {
            let original: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let copy = in_own_pages(&original);
            let tail = copy.slice(length / 2..);
            assert!(copy == original);
            drop(copy);
            assert!(tail == original[length / 2..]);
        }
    }
}
