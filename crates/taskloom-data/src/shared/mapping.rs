//! Segments in this process's memory.

use super::large;
use super::pool::Home;
use super::view::PrivateView;
use crate::registry::{Registry, Span};
use bytes::Bytes;
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A segment, mapped for reading. The mapping goes with the last [`Bytes`] over it. Its descriptor
/// is read-only: it can be passed to other processes.
#[derive(Debug)]
pub struct Mapping {
    start: *const u8,
    length: usize,
    /// A read-only description. Closed before `home` looks whether the segment is unused.
    reader: OwnedFd,
    /// In the owner's process: where the segment goes.
    _home: Option<Home>,
}

// SAFETY: the memory is mapped read-only until the drop, and what any thread does with it needs
// no more than that.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

static MAPPINGS: Registry<Mapping> = Registry::new();

impl Span for Mapping {
    fn length(&self) -> usize {
        self.length
    }
}

impl Mapping {
    /// Maps the first `length` bytes of a segment that another process passed.
    ///
    /// # Errors
    /// When the file is no sealed segment of that size, or the process cannot map any more.
    pub fn of_peer(reader: OwnedFd, length: u64) -> io::Result<Arc<Self>> {
        let seals = rustix::fs::fcntl_get_seals(&reader)?;
        let size = rustix::fs::fstat(&reader)?.st_size;
        // A file that could shrink would kill its readers.
        if !seals.contains(SealFlags::SHRINK) || size < 0 || (size as u64) < length {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file that a peer passed is no sealed segment of the size that it claims",
            ));
        }
        Self::new(reader, length, None)
    }

    pub(super) fn new(reader: OwnedFd, length: u64, home: Option<Home>) -> io::Result<Arc<Self>> {
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length > 0)
            .ok_or(io::ErrorKind::InvalidInput)?;
        // The file's size is sealed.
        let start = large::map(length, ProtFlags::READ, MapFlags::SHARED, reader.as_fd(), 0)?;
        let mapping = Arc::new(Self { start: start.as_ptr(), length, reader, _home: home });
        MAPPINGS.insert(start.as_ptr() as usize, &mapping);
        Ok(mapping)
    }

    /// All of it. Slices of it stay traceable by [`place_of`].
    #[must_use]
    pub fn bytes(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Mapped(self.clone()))
    }

    #[must_use]
    pub fn length(&self) -> u64 {
        self.length as u64
    }
}

impl AsFd for Mapping {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        MAPPINGS.remove(self.start as usize);
        // SAFETY: mapped in `new`, and no `Bytes` over it is left: they hold the mapping.
        // Failing would mean that it was no mapping.
        let _ = unsafe { rustix::mm::munmap(self.start as *mut _, self.length) };
    }
}

struct Mapped(Arc<Mapping>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped for reading while `self.0` lives. The owner writes a segment only while
        // nobody has it mapped.
        unsafe { std::slice::from_raw_parts(self.0.start, self.0.length) }
    }
}

/// Where bytes lie in shared memory.
#[derive(Debug, Clone)]
pub struct Place {
    pub mapping: Arc<Mapping>,
    pub offset: u64,
}

impl Place {
    /// A writable view of `length` bytes from here; see [`PrivateView`].
    ///
    /// # Errors
    /// When the process cannot map any more.
    pub fn private_view(&self, length: usize) -> io::Result<PrivateView> {
        PrivateView::new(self.mapping.as_fd(), self.offset, length)
    }
}

/// Where `bytes` lie in shared memory; `None` when they do not.
#[must_use]
pub fn place_of(bytes: &Bytes) -> Option<Place> {
    let (mapping, offset) = MAPPINGS.find(bytes)?;
    Some(Place { mapping, offset: offset as u64 })
}

/// How the segments of a value lie in files.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub files: Vec<Arc<Mapping>>,
    /// Per segment the position in `files` and the offset there; `None`: it is not in shared
    /// memory.
    pub places: Vec<Option<(u32, u64)>>,
}

impl Layout {
    /// Where the segments of a value lie; `None` when none of them is in shared memory.
    #[must_use]
    pub fn of(segments: &[Bytes]) -> Option<Self> {
        let mut layout = Self::default();
        for segment in segments {
            let place = place_of(segment).map(|Place { mapping, offset }| {
                let known = layout.files.iter().position(|file| Arc::ptr_eq(file, &mapping));
                let file = known.unwrap_or_else(|| {
                    layout.files.push(mapping);
                    layout.files.len() - 1
                });
                (file as u32, offset)
            });
            layout.places.push(place);
        }
        (!layout.files.is_empty()).then_some(layout)
    }
}
