//! Values as they travel: what goes into a frame, what is only referred to by descriptors, and
//! back.

use super::COPY_BELOW;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use taskloom_data::shared::{self, Mapping};
use taskloom_net::Channel;
use taskloom_net::out_queue::{File, OutQueue};
use taskloom_net::stream::MAX_FILES;
use taskloom_proto::handshake::Features;
use taskloom_proto::transfer::Layout;

/// A value, ready to leave over one connection.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    /// Of the segments.
    pub lengths: Vec<u64>,
    pub layout: Option<Layout>,
    pub files: Vec<File>,
    /// What goes behind the message: padding and the segments that are in no file.
    parts: Vec<Part>,
    /// Of the parts.
    pub data_bytes: u64,
}

#[derive(Debug)]
enum Part {
    Padding(usize),
    Segment(Bytes),
}

/// What the other side of a connection can read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    pub layouts: bool,
    /// Shared memory can be passed to it.
    pub files: bool,
}

impl Abilities {
    pub fn of(channel: &Channel) -> Self {
        let layouts = channel.features().contains(Features::SHARED_MEMORY);
        Self { layouts, files: layouts && channel.passes_files() }
    }

    /// The same side, which does not want files.
    pub fn in_frame(self) -> Self {
        Self { files: false, ..self }
    }
}

impl Parcel {
    pub fn pack(segments: Vec<Bytes>, abilities: Abilities) -> Self {
        let lengths = segments.iter().map(|segment| segment.len() as u64).collect();
        let shared = abilities.files.then(|| shared::Layout::of(&segments)).flatten();
        let shared = shared.filter(|layout| layout.files.len() <= MAX_FILES);
        let is_long = |segment: &Bytes| segment.len() >= COPY_BELOW;
        if shared.is_none() && !(abilities.layouts && segments.iter().any(is_long)) {
            let data_bytes = segments.iter().map(|segment| segment.len() as u64).sum();
            let parts = segments.into_iter().map(Part::Segment).collect();
            return Self { lengths, parts, data_bytes, ..Self::default() };
        }
        let shared = shared.unwrap_or_default();
        let mut places = shared.places.into_iter();
        let mut parcel = Self { lengths, ..Self::default() };
        let mut layout = Layout::default();
        for segment in segments {
            layout.places.push(match places.next().flatten() {
                Some(place) => place,
                None => (Layout::IN_FRAME, parcel.add(segment)),
            });
        }
        // The next value's part of the frame begins aligned, too.
        parcel.align();
        layout.data_bytes = parcel.data_bytes;
        layout.files = shared.files.iter().map(|file| file.length()).collect();
        parcel.files = shared.files.into_iter().map(|file| File::new(file)).collect();
        parcel.layout = Some(layout);
        parcel
    }

    /// Adds a segment to the frame's data; its offset.
    fn add(&mut self, segment: Bytes) -> u64 {
        if segment.len() >= COPY_BELOW {
            self.align();
        }
        let offset = self.data_bytes;
        self.data_bytes += segment.len() as u64;
        self.parts.push(Part::Segment(segment));
        offset
    }

    fn align(&mut self) {
        let gap = shared::aligned(self.data_bytes) - self.data_bytes;
        if gap > 0 {
            self.parts.push(Part::Padding(gap as usize));
            self.data_bytes += gap;
        }
    }

    /// Appends the data behind the message.
    pub fn push_data(self, queue: &mut OutQueue) {
        for part in self.parts {
            match part {
                Part::Padding(length) => queue.append(|out| out.resize(out.len() + length, 0)),
                Part::Segment(segment) => queue.push(segment),
            }
        }
    }
}

/// Why a value could not be taken out of a frame.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The peer does not keep to the format.
    Malformed(String),
    /// Its files cannot be mapped here: it is to be asked for in a frame.
    Unmappable(io::Error),
}

impl From<&str> for Unreadable {
    fn from(what: &str) -> Self {
        Self::Malformed(what.into())
    }
}

/// Takes a value off the front of a frame's data, and its files off the connection's. Segments shorter
/// than `copy_below` bytes are copied out of the frame.
pub(super) fn unpack(
    lengths: &[u64],
    layout: Option<&Layout>,
    copy_below: usize,
    data: &mut Bytes,
    files: &mut VecDeque<OwnedFd>,
) -> Result<Vec<Bytes>, Unreadable> {
    let Some(layout) = layout else {
        let segments = super::take_segments(data, lengths, copy_below);
        return segments.ok_or_else(|| "a value's segments do not match its data".into());
    };
    let own = usize::try_from(layout.data_bytes).ok().filter(|own| *own <= data.len());
    let own = own.ok_or("a value claims more data than there is")?;
    let mut own = data.split_to(own);
    if layout.files.len() > files.len() {
        return Err("a value's descriptors did not come".into());
    }
    // All of them, also after a failure: the next value's follow.
    let files: Vec<_> = files.drain(..layout.files.len()).zip(&layout.files).collect();
    let map = |(file, length): (OwnedFd, &u64)| Mapping::of_peer(file, *length);
    let mapped = files.into_iter().map(map).collect::<io::Result<Vec<Arc<Mapping>>>>();
    let mapped: Vec<Bytes> =
        mapped.map_err(Unreadable::Unmappable)?.iter().map(Mapping::bytes).collect();
    if lengths.len() != layout.places.len() {
        return Err("a value's segments do not match its layout".into());
    }
    let segment = |(length, (file, offset)): (&u64, &(u32, u64))| {
        let source = match *file {
            Layout::IN_FRAME => &own,
            file => mapped.get(file as usize)?,
        };
        let range =
            usize::try_from(*offset).ok()?..usize::try_from(offset.checked_add(*length)?).ok()?;
        (range.end <= source.len()).then(|| match range.len() {
            0 => Bytes::new(),
            length if *file == Layout::IN_FRAME && length < copy_below => {
                Bytes::copy_from_slice(&source[range])
            }
            _ => source.slice(range),
        })
    };
    let segments = lengths.iter().zip(&layout.places).map(segment).collect::<Option<Vec<_>>>();
    let segments = segments.ok_or("a value's segments lie outside of its data")?;
    own.clear();
    Ok(segments)
}
