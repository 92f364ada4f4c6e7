//! Bytes on their way to a socket: encoded messages are gathered into chunks, large values are
//! referred to, and all leave by vectored writes without being copied together.
//!
//! The queue of a session keeps what was written until the other side has acknowledged it, so that
//! another connection can write it again.

use crate::stream::Stream;
use bytes::Bytes;
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
enum Bulk {
    /// The files leave with the first byte, and are not sent again.
    Chunk {
        bytes: Vec<u8>,
        files: Vec<File>,
    },
    Value(Bytes),
}

#[derive(Debug)]
struct Part {
    bulk: Bulk,
    written: usize,
}

impl Part {
    fn files(&self) -> &[File] {
        match &self.bulk {
            Bulk::Chunk { files, .. } => files,
            Bulk::Value(_) => &[],
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bulk {
            Bulk::Chunk { bytes, .. } => bytes,
            Bulk::Value(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes()[self.written..]
    }

    fn is_written(&self) -> bool {
        self.written == self.len()
    }
}

/// The bytes of one connection, or of one session, that are still of use.
#[derive(Debug, Default)]
pub struct OutQueue {
    parts: VecDeque<Part>,
    /// All parts before this one are written.
    at: usize,
    unsent: usize,
    /// Written, and not acknowledged.
    kept: usize,
    /// Position of the first part's first byte in the session.
    start: u64,
    keeps: bool,
    /// The last chunk that was of no use any more, kept for its allocation.
    spare: Vec<u8>,
}

impl OutQueue {
    /// A queue that keeps what was written until it is acknowledged.
    #[must_use]
    pub fn keeping() -> Self {
        Self { keeps: true, ..Self::default() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unsent == 0
    }

    /// Bytes that are still to be written.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Bytes that use memory: unsent, or not acknowledged.
    #[must_use]
    pub fn held(&self) -> usize {
        self.unsent + self.kept
    }

    fn chunk(&mut self) -> &mut Vec<u8> {
        let open = self.parts.back().is_some_and(
            |part| matches!(&part.bulk, Bulk::Chunk { bytes, .. } if bytes.len() < CHUNK_BYTES),
        );
        if !open {
            let bulk = Bulk::Chunk { bytes: std::mem::take(&mut self.spare), files: Vec::new() };
            self.parts.push_back(Part { bulk, written: 0 });
        }
        match self.parts.back_mut() {
            Some(Part { bulk: Bulk::Chunk { bytes, .. }, .. }) => bytes,
            _ => unreachable!("a chunk was pushed above"),
        }
    }

    /// Appends what `write` appends to the buffer that it gets. It must not remove anything.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let chunk = self.chunk();
        let before = chunk.len();
        write(chunk);
        let added = chunk.len() - before;
        self.unsent += added;
    }

    /// As [`OutQueue::append`], which must append something; the other side gets the descriptors
    /// with its first byte. Only for connections that pass descriptors
    /// ([`crate::Channel::passes_files`]), at most [`crate::stream::MAX_FILES`].
    pub fn append_with_files(&mut self, files: Vec<File>, write: impl FnOnce(&mut Vec<u8>)) {
        if !files.is_empty() {
            let bulk = Bulk::Chunk { bytes: Vec::new(), files };
            self.parts.push_back(Part { bulk, written: 0 });
        }
        self.append(write);
    }

    /// Appends a value; a long one is not copied.
    pub fn push(&mut self, value: Bytes) {
        if value.len() < COPY_BELOW {
            self.append(|chunk| chunk.extend_from_slice(&value));
        } else {
            self.unsent += value.len();
            self.parts.push_back(Part { bulk: Bulk::Value(value), written: 0 });
        }
    }

    /// Writes until nothing is left (`true`) or the socket takes no more (`false`).
    pub fn write_to(&mut self, stream: &Stream) -> io::Result<bool> {
        while !self.is_empty() {
            let written = {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let mut count = 0;
                for (slice, part) in slices.iter_mut().zip(self.parts.range(self.at..)) {
                    if count > 0 && !part.files().is_empty() {
                        break;
                    }
                    *slice = IoSlice::new(part.rest());
                    count += 1;
                }
                let files = self.parts.get(self.at).map_or(&[][..], Part::files);
                let files: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.0.as_fd()).collect();
                stream.write_slices(&slices[..count], &files)
            };
            match written {
                Ok(written) => {
                    if let Some(Part { bulk: Bulk::Chunk { files, .. }, .. }) =
                        self.parts.get_mut(self.at)
                    {
                        files.clear();
                    }
                    self.note_written(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn note_written(&mut self, mut written: usize) {
        self.unsent -= written;
        if self.keeps {
            self.kept += written;
        }
        while let Some(part) = self.parts.get_mut(self.at) {
            let step = part.rest().len().min(written);
            part.written += step;
            written -= step;
            if !part.is_written() {
                return;
            }
            if !self.keeps {
                self.pop();
            } else if self.at + 1 < self.parts.len() {
                self.at += 1;
            } else {
                // The last chunk may grow: it stays the one to write.
                return;
            }
        }
    }

    fn pop(&mut self) {
        if let Some(Part { bulk: Bulk::Chunk { mut bytes, .. }, .. }) = self.parts.pop_front()
            && bytes.capacity() <= 2 * CHUNK_BYTES
        {
            bytes.clear();
            self.spare = bytes;
        }
    }

    // Sessions.

    /// The other side has received the session up to this position. Fails when that was never
    /// written.
    pub fn acknowledge(&mut self, upto: u64) -> Result<(), String> {
        self.check(upto)?;
        while let Some(part) = self.parts.front() {
            let (length, end) = (part.len(), self.start + part.len() as u64);
            if end > upto || !part.is_written() {
                break;
            }
            self.start = end;
            self.kept -= length;
            self.at = self.at.saturating_sub(1);
            self.pop();
        }
        Ok(())
    }

    fn check(&self, position: u64) -> Result<(), String> {
        let sent = self.start + self.kept as u64;
        if position > sent {
            return Err(format!(
                "the other side claims {position} bytes of a session of which {sent} were sent"
            ));
        }
        Ok(())
    }

    /// Prepares for another connection, whose other side has received the session up to this
    /// position: what follows it is to be written again.
    pub fn rewind(&mut self, received: u64) -> Result<(), String> {
        self.check(received)?;
        let Some(mut skip) = received.checked_sub(self.start) else {
            return Err(format!(
                "the other side wants the session from position {received} on, and has \
                 acknowledged it up to {}",
                self.start
            ));
        };
        (self.at, self.unsent, self.kept) = (0, 0, 0);
        for part in &mut self.parts {
            let length = part.len();
            part.written = usize::try_from(skip).unwrap_or(length).min(length);
            skip -= part.written as u64;
            self.kept += part.written;
            self.unsent += length - part.written;
        }
        self.acknowledge(received)?;
        while self.parts.get(self.at).is_some_and(Part::is_written)
            && self.at + 1 < self.parts.len()
        {
            self.at += 1;
        }
        Ok(())
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
        assert_eq!(queue.held(), expected.len());
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

    /// Small and large pieces, 1,000 bytes to the step.
    fn fill(queue: &mut OutQueue, steps: std::ops::Range<u32>) -> Vec<u8> {
        let mut all = Vec::new();
        for step in steps {
            let size = if step % 5 == 0 { 9_000 } else { 1_000 };
            let bytes: Vec<u8> = (0..size).map(|n| (n * 7 + step) as u8).collect();
            if step % 5 == 0 {
                queue.push(Bytes::from(bytes.clone()));
            } else {
                queue.append(|chunk| chunk.extend_from_slice(&bytes));
            }
            all.extend(bytes);
        }
        all
    }

    #[test]
    fn a_session_goes_on_at_any_position_that_was_not_acknowledged() {
        for received in [0u64, 1, 999, 12_345, 51_000, 139_999] {
            let mut queue = OutQueue::keeping();
            let mut sent = fill(&mut queue, 0..50);
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            // As much as the socket takes: the connection breaks in the middle of the rest.
            let _ = queue.write_to(&Stream::Unix(ours)).unwrap();
            drop(theirs);
            queue.acknowledge(received / 2).unwrap();
            sent.extend(fill(&mut queue, 50..60));
            let written = queue.start + queue.kept as u64;
            let received = received.min(written);
            queue.rewind(received).unwrap();
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let reader = std::thread::spawn(move || {
                let mut got = Vec::new();
                theirs.read_to_end(&mut got).unwrap();
                got
            });
            assert!(queue.write_to(&Stream::Unix(ours)).unwrap());
            assert!(reader.join().unwrap() == sent[received as usize..]);
            assert_eq!(queue.held() as u64 + queue.start, sent.len() as u64);
            queue.acknowledge(sent.len() as u64).unwrap();
            assert_eq!((queue.held(), queue.parts.len()), (0, 0));
        }
    }

    #[test]
    fn positions_that_make_no_sense_are_refused() {
        let mut queue = OutQueue::keeping();
        fill(&mut queue, 1..5);
        assert!(queue.acknowledge(1).unwrap_err().contains("0 were sent"));
        assert!(queue.rewind(1).is_err());
        let (ours, _theirs) = UnixStream::pair().unwrap();
        queue.write_to(&Stream::Unix(ours)).unwrap();
        queue.acknowledge(4_000).unwrap();
        assert!(queue.rewind(3_999).unwrap_err().contains("acknowledged it up to 4000"));
        queue.rewind(4_000).unwrap();
    }
}
