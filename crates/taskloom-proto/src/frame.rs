//! Frames: `kind u8 | flags u8 | reserved u16 | head length u32 | data length u64`, head, data.
//!
//! The head is a message; the data is raw bytes that go from socket to owner without a copy.
//! Both lengths are bounded, and memory is reserved as bytes arrive, not as a header claims.

use bytes::{Bytes, BytesMut};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 16;

/// Bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    pub head_bytes: u32,
    pub data_bytes: u64,
}

impl FrameLimits {
    /// Before the peer has proved that it knows the token.
    pub const HANDSHAKE: Self = Self { head_bytes: 4 * 1024, data_bytes: 0 };
    /// Between scheduler and clients, workers, supervisors: messages only.
    pub const CONTROL: Self = Self { head_bytes: 256 * 1024 * 1024, data_bytes: 0 };
    /// Between those who pass values.
    pub const DATA: Self = Self { head_bytes: 64 * 1024 * 1024, data_bytes: 1 << 40 };
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {got} bytes is larger than the {limit} that this connection allows")]
    TooLarge { got: u64, limit: u64 },
    #[error("not a taskloom frame (reserved bits are set): is the other side a taskloom process?")]
    Garbage,
}

/// One frame of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub head: Bytes,
    pub data: Bytes,
}

/// Appends a frame's header and head; `data_len` bytes of data must follow it on the wire.
pub fn write_frame(
    out: &mut Vec<u8>,
    kind: u8,
    data_len: u64,
    write_head: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&data_len.to_le_bytes());
    write_head(out);
    let head_len = (out.len() - start - HEADER_BYTES) as u32;
    out[start + 4..start + 8].copy_from_slice(&head_len.to_le_bytes());
}

/// Room offered to reads, at first and at most, in bytes.
const READ_LITTLE: usize = 4 * 1024;
const READ_MUCH: usize = 64 * 1024;
/// Frames with at least this much data have it read straight into memory of its own.
const LAND_FROM: usize = 128 * 1024;
/// Memory that is reserved for a frame's data before it arrives: untouched memory costs nothing,
/// and growing copies. Control connections carry no data.
const LAND_AHEAD: usize = 1024 * 1024 * 1024;

/// Cuts received bytes into frames.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    limits: FrameLimits,
    landing: Option<Landing>,
    read_ahead: usize,
}

/// A frame without the whole of its data, which goes from the socket to where it stays.
#[derive(Debug)]
pub struct Landing {
    pub kind: u8,
    pub head: Bytes,
    /// What has arrived.
    pub data: BytesMut,
    length: usize,
    /// Whether the receiver said where the data shall go.
    is_placed: bool,
}

impl Landing {
    /// Bytes that have not arrived.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.length - self.data.len()
    }
}

impl FrameReader {
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self { buffer: BytesMut::new(), limits, landing: None, read_ahead: READ_LITTLE }
    }

    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// How much room to offer to a read: little until much comes, since a scheduler has thousands
    /// of connections on which little is said.
    #[must_use]
    pub fn read_ahead(&self) -> usize {
        self.read_ahead
    }

    /// A read filled all the room that was offered: the next may get more.
    pub fn read_further_ahead(&mut self) {
        self.read_ahead = (self.read_ahead * 4).min(READ_MUCH);
    }

    /// Where the next received bytes go: at least `at_least` bytes of room, more when a large
    /// frame is under way. Commit with [`BytesMut::set_len`] or by writing through `BufMut`.
    pub fn room(&mut self, at_least: usize) -> &mut BytesMut {
        /// How far memory is reserved ahead of what has arrived.
        const AHEAD: usize = 64 * 1024 * 1024;
        let missing = self.missing().min(AHEAD.max(self.buffer.len()));
        self.buffer.reserve(missing.max(at_least));
        &mut self.buffer
    }

    /// The frame whose data the next received bytes are, if there is one, with room for at least
    /// one of them. No more than [`Landing::missing`] bytes may be added.
    pub fn landing(&mut self) -> Option<&mut Landing> {
        let landing = self.landing.as_mut().filter(|landing| landing.missing() > 0)?;
        if landing.data.len() == landing.data.capacity() {
            landing.data.reserve(landing.missing().min(landing.data.len().max(LAND_AHEAD)));
        }
        Some(landing)
    }

    /// The next frame when it is whole and its data went to the place that was named for it.
    pub fn take_placed(&mut self) -> Option<Landing> {
        self.landing.take_if(|landing| landing.missing() == 0 && landing.is_placed)
    }

    /// The frame whose data the stream's end cut off.
    pub fn take_landing(&mut self) -> Option<Landing> {
        self.landing.take()
    }

    /// Adds received bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether frames may have data, which may go to places of their own.
    #[must_use]
    pub fn carries_data(&self) -> bool {
        self.limits.data_bytes > 0
    }

    /// Bytes received and not yet returned as frames.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes the frame under way still lacks in the buffer; 0 when that is not known yet.
    fn missing(&self) -> usize {
        match self.lengths() {
            Ok(Some((head, data))) => {
                let data = if data >= LAND_FROM { 0 } else { data };
                (HEADER_BYTES + head).saturating_add(data).saturating_sub(self.buffer.len())
            }
            _ => 0,
        }
    }

    fn lengths(&self) -> Result<Option<(usize, usize)>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        if header[1..4] != [0, 0, 0] {
            return Err(FrameError::Garbage);
        }
        let mut head = [0; 4];
        head.copy_from_slice(&header[4..8]);
        let mut data = [0; 8];
        data.copy_from_slice(&header[8..16]);
        let (head, data) = (u32::from_le_bytes(head), u64::from_le_bytes(data));
        if head > self.limits.head_bytes {
            let limit = u64::from(self.limits.head_bytes);
            return Err(FrameError::TooLarge { got: u64::from(head), limit });
        }
        if data > self.limits.data_bytes {
            return Err(FrameError::TooLarge { got: data, limit: self.limits.data_bytes });
        }
        Ok(Some((head as usize, data as usize)))
    }

    /// The next whole frame, if it is there. After an error the stream is unusable.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.next_frame_into(|_, _, _| None)
    }

    /// As [`FrameReader::next_frame`]; for a frame with much data, `place` is asked where it shall
    /// go: kind, head and length of the data to an empty buffer with that much room. Without
    /// one, memory is reserved here. A frame that got a place comes by
    /// [`FrameReader::take_placed`].
    pub fn next_frame_into(
        &mut self,
        place: impl FnOnce(u8, &Bytes, usize) -> Option<BytesMut>,
    ) -> Result<Option<Frame>, FrameError> {
        let is_whole = |landing: &mut Landing| landing.missing() == 0 && !landing.is_placed;
        if let Some(landing) = self.landing.take_if(is_whole) {
            let Landing { kind, head, data, .. } = landing;
            return Ok(Some(Frame { kind, head, data: data.freeze() }));
        }
        if self.landing.is_some() {
            return Ok(None);
        }
        let Some((head, data)) = self.lengths()? else { return Ok(None) };
        if data >= LAND_FROM && self.buffer.len() >= HEADER_BYTES + head {
            self.land(head, data, place);
            return self.next_frame();
        }
        if self.buffer.len() < HEADER_BYTES + head + data {
            return Ok(None);
        }
        let kind = self.buffer[0];
        let mut frame = self.buffer.split_to(HEADER_BYTES + head + data).freeze();
        let mut rest = frame.split_off(HEADER_BYTES);
        let data = rest.split_off(head);
        Ok(Some(Frame { kind, head: rest, data }))
    }

    /// Takes the head off the buffer, and what has arrived of the data to its own place.
    fn land(
        &mut self,
        head: usize,
        length: usize,
        place: impl FnOnce(u8, &Bytes, usize) -> Option<BytesMut>,
    ) {
        let kind = self.buffer[0];
        let head =
            Bytes::copy_from_slice(&self.buffer.split_to(HEADER_BYTES + head)[HEADER_BYTES..]);
        let suits = |data: &BytesMut| data.is_empty() && data.capacity() >= length;
        let place = place(kind, &head, length).filter(suits);
        let is_placed = place.is_some();
        let mut data = place.unwrap_or_else(|| BytesMut::with_capacity(length.min(LAND_AHEAD)));
        data.extend_from_slice(&self.buffer.split_to(length.min(self.buffer.len())));
        self.landing = Some(Landing { kind, head, data, length, is_placed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, head: &[u8], data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, kind, data.len() as u64, |out| out.extend_from_slice(head));
        out.extend_from_slice(data);
        out
    }

    #[test]
    fn frames_survive_any_split_of_the_stream() {
        let mut stream = frame(3, b"head", b"data!");
        stream.extend(frame(4, b"", b""));
        for cut in 0..=stream.len() {
            let mut reader = FrameReader::new(FrameLimits::DATA);
            let mut got = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                reader.extend(part);
                while let Some(frame) = reader.next_frame().unwrap() {
                    got.push((frame.kind, frame.head.to_vec(), frame.data.to_vec()));
                }
            }
            let expected =
                vec![(3, b"head".to_vec(), b"data!".to_vec()), (4, Vec::new(), Vec::new())];
            assert_eq!(got, expected, "cut at {cut}");
        }
    }

    #[test]
    fn large_data_goes_to_the_place_that_is_named_for_it() {
        let data: Vec<u8> = (0..LAND_FROM + 5).map(|n| n as u8).collect();
        let mut stream = frame(3, b"head", &data);
        stream.extend(frame(4, b"", b"next"));
        for first in [10, HEADER_BYTES + 4, HEADER_BYTES + 100, stream.len() - 3] {
            let mut reader = FrameReader::new(FrameLimits::DATA);
            let place = BytesMut::with_capacity(data.len());
            let address = place.as_ptr();
            let mut place = Some(place);
            let mut rest = &stream[..];
            let mut got = Vec::new();
            while got.len() < 2 {
                let frame = reader.next_frame_into(|kind, head, length| {
                    assert_eq!((kind, &head[..], length), (3, &b"head"[..], data.len()));
                    place.take()
                });
                got.extend(frame.unwrap());
                got.extend(reader.take_placed().map(|Landing { kind, head, data, .. }| Frame {
                    kind,
                    head,
                    data: data.freeze(),
                }));
                let step = if rest.len() == stream.len() { first } else { 1000 };
                let step = match reader.landing() {
                    Some(landing) => {
                        let step = step.min(landing.missing()).min(rest.len());
                        landing.data.extend_from_slice(&rest[..step]);
                        step
                    }
                    None => {
                        reader.extend(&rest[..step.min(rest.len())]);
                        step.min(rest.len())
                    }
                };
                rest = &rest[step..];
            }
            assert!(got[0].data == data && got[1].data == "next", "first part of {first}");
            assert_eq!(got[0].data.as_ptr(), address);
        }
    }

    #[test]
    fn an_oversized_claim_is_refused_before_memory_is_reserved() {
        let mut reader = FrameReader::new(FrameLimits::HANDSHAKE);
        reader.extend(&frame(1, &[0; 5000], b"")[..HEADER_BYTES]);
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLarge { got: 5000, .. })));
        let mut reader = FrameReader::new(FrameLimits::DATA);
        let mut header = vec![1, 0, 0, 0, 0, 0, 0, 0];
        header.extend((1u64 << 39).to_le_bytes());
        reader.extend(&header);
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(reader.room(1).capacity() <= 65 * 1024 * 1024);
        assert!(reader.landing().unwrap().data.capacity() <= LAND_AHEAD);
    }

    #[test]
    fn an_http_request_is_garbage_not_a_frame() {
        let mut reader = FrameReader::new(FrameLimits::HANDSHAKE);
        reader.extend(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(reader.next_frame(), Err(FrameError::Garbage));
    }
}
