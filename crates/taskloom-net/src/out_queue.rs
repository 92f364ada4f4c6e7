//! Bytes on their way to a socket: encoded messages are gathered into chunks, large values are
//! referred to, and all leave by vectored writes without being copied together.

use crate::stream::Stream;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Messages are gathered into chunks of about this size, which one write can pass to the kernel.
const CHUNK_BYTES: usize = 256 * 1024;
/// Shorter values are copied behind the message: that is cheaper than a slice of their own.
const COPY_BELOW: usize = 4 * 1024;
/// Slices offered to one write; the kernel takes up to 1024.
const MAX_SLICES: usize = 64;

#[derive(Debug)]
enum Part {
    Chunk { bytes: Vec<u8>, written: usize },
    Value(Bytes),
}

impl Part {
    fn rest(&self) -> &[u8] {
        match self {
            Self::Chunk { bytes, written } => &bytes[*written..],
            Self::Value(bytes) => bytes,
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
            self.parts.push_back(Part::Chunk { bytes, written: 0 });
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
                    *slice = IoSlice::new(part.rest());
                    count += 1;
                }
                stream.write_slices(&slices[..count])
            };
            match written {
                Ok(written) => self.drop_written(written),
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
