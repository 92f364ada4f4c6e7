//! One large value on its way here, in ranges. What has arrived when a worker is lost is kept for a
//! while: another worker's copy is continued from there, if it proves to be the same.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use taskloom_data::compression::{Codec, decompress};
use taskloom_data::digest;
use taskloom_proto::transfer::{Range, RangeReply};
use taskloom_types::TaskId;

/// Bytes asked for at a time. Large enough that asking costs nothing, small enough that several
/// connections share a value and that a small answer never waits long.
const RANGE_BYTES: usize = 4 * 1024 * 1024;
/// The largest value that is believed to exist, in bytes.
const MAX_BYTES: u64 = 1 << 40;

/// What a worker said about a value that it holds for this reader.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    pub task: TaskId,
    pub transfer: u64,
    pub lengths: Vec<u64>,
}

/// Given the segments, or why there are none.
pub(super) type OnDone = Box<dyn FnOnce(Result<Vec<Bytes>, String>) + Send>;

/// A part of a value and the memory for it.
#[derive(Debug)]
struct Piece {
    segment: u32,
    offset: u64,
    length: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// To be asked for.
    Open(BytesMut),
    /// Came from another worker: to be compared with this one's.
    Doubtful(BytesMut),
    /// A connection has it.
    Busy,
    Done(BytesMut),
}

/// What a connection asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub at: usize,
    /// Empty memory for the part; the part itself where only its digest is asked for.
    pub memory: BytesMut,
    pub digest_only: bool,
    pub segment: u32,
    pub offset: u64,
    pub length: usize,
}

impl Asked {
    pub fn message(&self, request: u64, transfer: u64, wishes: u8) -> Range {
        let wishes = if self.digest_only { Range::DIGEST_ONLY } else { wishes };
        let (segment, offset, length) = (self.segment, self.offset, self.length as u64);
        Range { request, transfer, segment, offset, length, wishes }
    }
}

/// What has come of a value whose worker was lost.
#[derive(Debug)]
pub(super) struct Partial {
    task: TaskId,
    lengths: Vec<u64>,
    pieces: Vec<Piece>,
    since: Instant,
}

pub(super) struct Download {
    pub offer: Offer,
    /// How parts are asked for; bits such as [`Range::LZ4`].
    pub wishes: u8,
    state: Mutex<State>,
}

struct State {
    pieces: Vec<Piece>,
    /// Positions of pieces that nobody asks for.
    open: VecDeque<usize>,
    unfinished: usize,
    /// Taken when it is over.
    on_done: Option<OnDone>,
    resumed_bytes: u64,
}

impl Download {
    /// Reserves memory. Gives `on_done` back when there is not enough.
    pub fn new(
        offer: Offer,
        wishes: u8,
        partial: Option<Partial>,
        on_done: OnDone,
    ) -> Result<Self, (OnDone, String)> {
        let pieces = match partial {
            Some(partial) => partial.pieces,
            None => match reserve(&offer.lengths) {
                Ok(pieces) => pieces,
                Err(reason) => return Err((on_done, reason)),
            },
        };
        let open: VecDeque<_> = (0..pieces.len()).collect();
        let unfinished = pieces.len();
        let on_done = Some(on_done);
        let state = State { pieces, open, unfinished, on_done, resumed_bytes: 0 };
        Ok(Self { offer, wishes, state: Mutex::new(state) })
    }

    pub fn total_bytes(&self) -> u64 {
        self.offer.lengths.iter().sum()
    }

    /// Bytes that did not have to be fetched again.
    pub fn resumed_bytes(&self) -> u64 {
        self.state.lock().resumed_bytes
    }

    /// The next part to ask for.
    pub fn take_next(&self) -> Option<Asked> {
        let mut state = self.state.lock();
        let at = state.open.pop_front()?;
        let piece = state.pieces.get_mut(at)?;
        let (memory, digest_only) = match std::mem::replace(&mut piece.stage, Stage::Busy) {
            Stage::Open(memory) => (memory, false),
            Stage::Doubtful(memory) => (memory, true),
            other @ (Stage::Busy | Stage::Done(_)) => {
                piece.stage = other;
                return None;
            }
        };
        let (segment, offset, length) = (piece.segment, piece.offset, piece.length);
        Some(Asked { at, memory, digest_only, segment, offset, length })
    }

    /// A part did not come: it is asked for again.
    pub fn put_back(&self, asked: Asked) {
        let mut state = self.state.lock();
        let Asked { at, mut memory, digest_only, .. } = asked;
        // Gone when the download is over.
        let Some(piece) = state.pieces.get_mut(at) else { return };
        piece.stage = match digest_only {
            true => Stage::Doubtful(memory),
            false => {
                memory.clear();
                Stage::Open(memory)
            }
        };
        state.open.push_back(at);
    }

    /// An answer, with its data in `data`, or in `asked.memory` where they were read straight into
    /// it. An error means that the worker does not keep to the protocol.
    pub fn take_answer(
        &self,
        mut asked: Asked,
        reply: &RangeReply,
        data: &[u8],
    ) -> Result<(), String> {
        if reply.status != RangeReply::OK {
            self.put_back(asked);
            self.fail("the worker does not hold the value for this reader any more");
            return Ok(());
        }
        if asked.digest_only {
            self.compare(asked, reply.digest);
            return Ok(());
        }
        if asked.memory.is_empty() {
            let codec = Codec::from_number(reply.codec);
            let plain = match codec {
                None => Err("a range in an unknown codec"),
                Some(Codec::Plain) => Ok(None),
                Some(codec) => match decompress(codec, data, asked.length) {
                    Some(plain) => Ok(Some(plain)),
                    None => Err("a range that cannot be decompressed"),
                },
            };
            match plain {
                Ok(plain) => asked.memory.extend_from_slice(plain.as_deref().unwrap_or(data)),
                Err(reason) => {
                    self.put_back(asked);
                    return Err(reason.into());
                }
            }
        }
        let damaged = asked.memory.len() != asked.length
            || self.wishes & Range::DIGEST != 0 && digest(&asked.memory) != reply.digest;
        if damaged {
            self.put_back(asked);
            return Err("a range whose bytes do not match its length or checksum".into());
        }
        self.finish(asked);
        Ok(())
    }

    fn compare(&self, asked: Asked, theirs: (u64, u64)) {
        if digest(&asked.memory) == theirs {
            self.state.lock().resumed_bytes += asked.length as u64;
            return self.finish(asked);
        }
        self.put_back(Asked { digest_only: false, ..asked });
    }

    /// A part is here. The last one ends the download.
    fn finish(&self, asked: Asked) {
        let ended = {
            let mut state = self.state.lock();
            let Some(piece) = state.pieces.get_mut(asked.at) else { return };
            piece.stage = Stage::Done(asked.memory);
            state.unfinished -= 1;
            match state.unfinished {
                0 => {
                    let pieces = std::mem::take(&mut state.pieces);
                    state.on_done.take().map(|on_done| (on_done, pieces))
                }
                _ => None,
            }
        };
        if let Some((on_done, pieces)) = ended {
            on_done(join(self.offer.lengths.len(), pieces));
        }
    }

    /// A value without a byte is here already.
    pub fn finish_if_empty(&self) {
        let on_done = {
            let mut state = self.state.lock();
            if state.unfinished > 0 { None } else { state.on_done.take() }
        };
        if let Some(on_done) = on_done {
            on_done(join(self.offer.lengths.len(), Vec::new()));
        }
    }

    pub fn is_over(&self) -> bool {
        self.state.lock().on_done.is_none()
    }

    /// Ends it without the value. What has come stays in it, for [`Download::into_partial`].
    pub fn fail(&self, reason: &str) {
        let on_done = self.state.lock().on_done.take();
        if let Some(on_done) = on_done {
            on_done(Err(reason.to_string()));
        }
    }

    /// What has come, when it was something, and when no connection is at it any more: what one
    /// still writes to cannot be put together.
    pub fn into_partial(&self) -> Option<Partial> {
        let mut state = self.state.lock();
        let is_busy = |piece: &Piece| matches!(piece.stage, Stage::Busy);
        let has_come = |piece: &Piece| matches!(piece.stage, Stage::Done(_) | Stage::Doubtful(_));
        if state.pieces.iter().any(is_busy) || !state.pieces.iter().any(has_come) {
            return None;
        }
        let mut pieces = std::mem::take(&mut state.pieces);
        for piece in &mut pieces {
            piece.stage = match std::mem::replace(&mut piece.stage, Stage::Busy) {
                Stage::Done(memory) => Stage::Doubtful(memory),
                other => other,
            };
        }
        let (task, lengths) = (self.offer.task, self.offer.lengths.clone());
        Some(Partial { task, lengths, pieces, since: Instant::now() })
    }
}

/// Memory for a value, one allocation per segment.
fn reserve(lengths: &[u64]) -> Result<Vec<Piece>, String> {
    let total = lengths.iter().try_fold(0u64, |sum, length| sum.checked_add(*length));
    if total.is_none_or(|total| total > MAX_BYTES) {
        return Err("the worker offers a value larger than any memory".into());
    }
    let mut pieces = Vec::new();
    for (segment, &length) in lengths.iter().enumerate() {
        let length = length as usize;
        // Fails where the reservation below would end the process.
        if Vec::<u8>::new().try_reserve_exact(length).is_err() {
            return Err(format!("there is no memory for a value of {length} bytes"));
        }
        let mut rest = BytesMut::with_capacity(length);
        let mut offset = 0;
        while offset < length {
            let next = (length - offset).min(RANGE_BYTES);
            let memory = match offset + next < length {
                true => {
                    let behind = rest.split_off(next);
                    std::mem::replace(&mut rest, behind)
                }
                false => std::mem::take(&mut rest),
            };
            let stage = Stage::Open(memory);
            pieces.push(Piece {
                segment: segment as u32,
                offset: offset as u64,
                length: next,
                stage,
            });
            offset += next;
        }
    }
    Ok(pieces)
}

/// The segments. Pieces lie side by side in memory: nothing is copied.
fn join(segments: usize, pieces: Vec<Piece>) -> Result<Vec<Bytes>, String> {
    let mut joined: Vec<BytesMut> = (0..segments).map(|_| BytesMut::new()).collect();
    for piece in pieces {
        let Stage::Done(memory) = piece.stage else {
            return Err("a part of the value is missing".into());
        };
        match &mut joined[piece.segment as usize] {
            first if first.is_empty() => *first = memory,
            before => before.unsplit(memory),
        }
    }
    Ok(joined.into_iter().map(BytesMut::freeze).collect())
}

/// What has come of values whose workers were lost.
#[derive(Default)]
pub(super) struct Partials {
    kept: Mutex<Vec<Partial>>,
}

impl Partials {
    /// How many are kept, and how long: a replica is asked next, at once.
    const MAX: usize = 8;
    pub const KEEP: Duration = Duration::from_secs(60);

    pub fn keep(&self, partial: Partial) {
        let mut kept = self.kept.lock();
        kept.retain(|old| old.since.elapsed() < Self::KEEP && old.task != partial.task);
        if kept.len() >= Self::MAX {
            kept.remove(0);
        }
        kept.push(partial);
    }

    /// What fits the offer. Other parts of that task's value are of no use any more.
    pub fn take(&self, offer: &Offer) -> Option<Partial> {
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|partial| partial.task == offer.task)?;
        Some(kept.remove(at)).filter(|partial| partial.lengths == offer.lengths)
    }

    /// Frees what is too old to be of use.
    pub fn sweep(&self) {
        self.kept.lock().retain(|old| old.since.elapsed() < Self::KEEP);
    }

    pub fn clear(&self) {
        self.kept.lock().clear();
    }
}
