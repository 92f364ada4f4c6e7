//! Files in memory: what was written to disk is read without a copy.
//!
//! A [`FileMap`] is private to this process: what is written to it is copied by the kernel, page by
//! page, and never reaches the file. The file may be removed meanwhile; it must not shrink. A page
//! that the kernel has taken back and cannot read again ends the process, so whoever maps a file
//! reads it once before, where an error is an answer.

use crate::registry::{Registry, Span};
use bytes::Bytes;
use rustix::fd::AsFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::sync::Arc;

/// The first bytes of a file, mapped. The mapping goes with the last [`Bytes`] or [`FilePart`].
#[derive(Debug)]
struct FileMap {
    start: *mut u8,
    length: usize,
}

// SAFETY: the mapping belongs to this value until the drop; what is in it is plain memory.
unsafe impl Send for FileMap {}
// SAFETY: shared references give the address only; see `Mapped` and `FilePart` for who uses it.
unsafe impl Sync for FileMap {}

static MAPS: Registry<FileMap> = Registry::new();

impl Span for FileMap {
    fn length(&self) -> usize {
        self.length
    }
}

/// The first `length` bytes of a file, which must be as long and not shrink while they are used.
///
/// # Errors
/// When the file is shorter, or the process cannot map any more.
pub fn map(file: impl AsFd, length: usize) -> io::Result<Bytes> {
    let size = rustix::fs::fstat(&file)?.st_size;
    if length == 0 || u64::try_from(size).is_ok_and(|size| size < length as u64) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the kernel picks.
    let start =
        unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::PRIVATE, file, 0)? };
    let map = Arc::new(FileMap { start: start.cast(), length });
    MAPS.insert(start as usize, &map);
    Ok(Bytes::from_owner(Mapped(map)))
}

impl Drop for FileMap {
    fn drop(&mut self) {
        MAPS.remove(self.start as usize);
        // SAFETY: mapped by `map`, and nobody is left who knows the address.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

struct Mapped(Arc<FileMap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped while `self.0` lives. A value's bytes are given to the one who decodes
        // them, and only what he makes of them is written to.
        unsafe { std::slice::from_raw_parts(self.0.start, self.0.length) }
    }
}

/// A part of a mapped file that may be written to, for its only user.
#[derive(Debug)]
pub struct FilePart {
    map: Arc<FileMap>,
    offset: usize,
    length: usize,
}

impl FilePart {
    /// The part that these bytes are, if they are one.
    #[must_use]
    pub fn of(bytes: &Bytes) -> Option<Self> {
        let (map, offset) = MAPS.find(bytes)?;
        Some(Self { map, offset, length: bytes.len() })
    }

    /// The first byte; [`FilePart::len`] bytes from it may be read and written while this lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.map.start.add(self.offset) }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: a part has at least a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_part_can_be_written_to_and_the_file_stays_as_it_is() {
        let content: Vec<u8> = (0..10_000).map(|i| i as u8).collect();
        let file = file(&content);
        let bytes = map(&file, content.len()).unwrap();
        assert!(bytes == content);
        let part = FilePart::of(&bytes.slice(5_000..5_010)).unwrap();
        drop(bytes);
        assert_eq!(part.len(), 10);
        // SAFETY: within the part, which nobody else uses.
        unsafe { part.as_ptr().write(255) };
        // SAFETY: as above.
        assert_eq!(unsafe { part.as_ptr().read() }, 255);
        assert!(map(&file, content.len()).unwrap() == content);
    }

    #[test]
    fn other_bytes_are_no_part_of_a_file() {
        let mapped = map(file(&[1; 4096]), 4096).unwrap();
        assert!(FilePart::of(&Bytes::from(vec![1; 4096])).is_none());
        assert!(FilePart::of(&Bytes::new()).is_none());
        let start = mapped.as_ptr() as usize;
        drop(mapped);
        assert!(!MAPS.contains(start));
    }

    #[test]
    fn a_file_that_is_too_short_is_refused() {
        assert!(map(file(&[1; 10]), 11).is_err());
        assert!(map(file(&[]), 0).is_err());
    }
}
