//! Bytes on their way to a socket: encoded messages are gathered into chunks, large values are
//! referred to, and all leave by vectored writes without being copied together.

use crate::stream::Stream;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Messages are gathered into chunks of about this size, which one write can pass to the kernel.
const CHUNK_BYTES: usize = 256 * 1024;
/// Shorter values are copied behind the message: that is cheaper than a slice of their own.
const COPY_BELOW: usize = 4 * 1024;
/// Slices offered to one write; the kernel takes up to 1024.
const MAX_SLICES: usize = 64;

/// Something whose descriptor is passed to the other side; kept until it was.
#[derive(Clone)]
pub struct File(Arc<dyn AsFd + Send + Sync>);

impl File {
    #[must_use]
    pub fn new(file: Arc<dyn AsFd + Send + Sync>) -> Self {
        Self(file)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?})", self.0.as_fd())
    }
}

#[derive(Debug)]
enum Part {
    /// The files leave with the first byte.
    Chunk {
        bytes: Vec<u8>,
        written: usize,
        files: Vec<File>,
    },
    Value(Bytes),
}

impl Part {
    fn rest(&self) -> &[u8] {
        match self {
            Self::Chunk { bytes, written, .. } => &bytes[*written..],
            Self::Value(bytes) => bytes,
        }
    }

    fn files(&self) -> &[File] {
        match self {
            Self::Chunk { files, .. } => files,
            Self::Value(_) => &[],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Chunk { written, .. } => *written += count,
            Self::Value(bytes) => bytes.advance(count),
        }
    }
}

/// The unsent bytes of one connection.
#[derive(Debug, Default)]
pub struct OutQueue {
    parts: VecDeque<Part>,
    bytes: usize,
    /// The last chunk that was written whole, kept for its allocation.
    spare: Vec<u8>,
}

impl OutQueue {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Unsent bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    fn chunk(&mut self) -> &mut Vec<u8> {
        let open = matches!(
            self.parts.back(),
            Some(Part::Chunk { bytes, .. }) if bytes.len() < CHUNK_BYTES
        );
        if !open {
            let bytes = std::mem::take(&mut self.spare);
            self.parts.push_back(Part::Chunk { bytes, written: 0, files: Vec::new() });
        }
        match self.parts.back_mut() {
            Some(Part::Chunk { bytes, .. }) => bytes,
            _ => unreachable!("a chunk was pushed above"),
        }
    }

    /// Appends what `write` appends to the buffer that it gets. It must not remove anything.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let chunk = self.chunk();
        let before = chunk.len();
        write(chunk);
        let added = chunk.len() - before;
        self.bytes += added;
    }

    /// As [`OutQueue::append`], which must append something; the other side gets the descriptors
    /// with its first byte. Only for connections that pass descriptors
    /// ([`crate::Channel::passes_files`]), at most [`crate::stream::MAX_FILES`].
    pub fn append_with_files(&mut self, files: Vec<File>, write: impl FnOnce(&mut Vec<u8>)) {
        if !files.is_empty() {
            self.parts.push_back(Part::Chunk { bytes: Vec::new(), written: 0, files });
        }
        self.append(write);
    }

    /// Appends a value; a long one is not copied.
    pub fn push(&mut self, value: Bytes) {
        if value.len() < COPY_BELOW {
            self.append(|chunk| chunk.extend_from_slice(&value));
        } else {
            self.bytes += value.len();
            self.parts.push_back(Part::Value(value));
        }
    }

    /// Writes until nothing is left (`true`) or the socket takes no more (`false`).
    pub fn write_to(&mut self, stream: &Stream) -> io::Result<bool> {
        while !self.is_empty() {
            let written = {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let mut count = 0;
                for (slice, part) in slices.iter_mut().zip(&self.parts) {
                    if count > 0 && !part.files().is_empty() {
                        break;
                    }
                    *slice = IoSlice::new(part.rest());
                    count += 1;
                }
                let files = self.parts.front().map_or(&[][..], Part::files);
                let files: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.0.as_fd()).collect();
                stream.write_slices(&slices[..count], &files)
            };
            match written {
                Ok(written) => {
                    if let Some(Part::Chunk { files, .. }) = self.parts.front_mut() {
                        files.clear();
                    }
                    self.drop_written(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn drop_written(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(part) = self.parts.front_mut() {
            let rest = part.rest().len();
            if rest > written {
                return part.advance(written);
            }
            written -= rest;
            if let Some(Part::Chunk { mut bytes, .. }) = self.parts.pop_front()
                && bytes.capacity() <= 2 * CHUNK_BYTES
            {
                bytes.clear();
                self.spare = bytes;
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_with_the_bytes_that_they_were_queued_with() {
        use crate::stream::FileReader;
        use std::io::Write;
        use taskloom_proto::frame::{FrameLimits, FrameReader, write_frame};
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (ours, theirs) = (Stream::Unix(ours), Stream::Unix(theirs));
        let mut queue = OutQueue::default();
        let (mut reader, mut files) = (FrameReader::new(FrameLimits::DATA), FileReader::default());
        let mut expected = Vec::new();
        for kind in 0..20u8 {
            let file = |n: u8| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&[kind, n]).unwrap();
                File::new(Arc::new(file))
            };
            let count = kind % 3;
            let data = Bytes::from(vec![kind; usize::from(kind % 4) * 100_000]);
            queue.append_with_files((0..count).map(file).collect(), |out| {
                write_frame(out, kind, data.len() as u64, |out| out.push(kind));
            });
            queue.push(data.clone());
            expected.push((kind, data, count));
        }
        let mut got = Vec::new();
        while got.len() < expected.len() {
            queue.write_to(&ours).unwrap();
            theirs.fill(&mut reader, 1 << 20, Some(&mut files)).unwrap();
            while let Some(frame) = reader.next_frame().unwrap() {
                let count = frame.kind % 3;
                for (n, file) in files.files.drain(..usize::from(count)).enumerate() {
                    let mut content = [0; 2];
                    rustix::io::pread(file, &mut content, 0).unwrap();
                    assert_eq!(content, [frame.kind, n as u8]);
                }
                got.push((frame.kind, frame.data, count));
            }
        }
        assert!(got == expected);
        assert!(files.files.is_empty() && !files.lost);
    }

    #[test]
    fn chunks_and_values_arrive_in_order_through_a_slow_socket() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Stream::Unix(ours);
        let mut queue = OutQueue::default();
        let mut expected = Vec::new();
        for round in 0..50u8 {
            let small = vec![round; 100];
            let large = vec![round; 70_000];
            queue.append(|chunk| chunk.extend_from_slice(&small));
            queue.push(Bytes::from(large.clone()));
            queue.push(Bytes::from(small.clone()));
            expected.extend([small.clone(), large, small].concat());
        }
        assert_eq!(queue.len(), expected.len());
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            theirs.read_exact(&mut got).unwrap();
            assert!(got == expected);
        });
        while !queue.write_to(&ours).unwrap() {
            std::thread::yield_now();
        }
        assert!(queue.is_empty() && queue.parts.is_empty());
        reader.join().unwrap();
    }
}
