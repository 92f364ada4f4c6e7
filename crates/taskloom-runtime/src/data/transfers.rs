//! The serving side of large values over sockets: each is held for its reader, who asks for it in
//! ranges. So nothing large stands in a queue before small answers, the reader sets the pace, may
//! use several connections, and may go on with another worker.

use super::helper::Helper;
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use taskloom_data::compression::{Codec, compress};
use taskloom_data::digest;
use taskloom_net::Channel;
use taskloom_net::token::random_u64;
use taskloom_proto::peer::PeerMessage;
use taskloom_proto::transfer::{Range, RangeReply};

/// Values with at least this much to send over a socket go in ranges, in bytes.
pub(super) const LARGE_FROM: u64 = 8 * 1024 * 1024;

/// More than a reader asks for in one range: as much is compressed, or stands in a queue, at once.
const MAX_RANGE: u64 = 16 * 1024 * 1024;

#[derive(Debug)]
struct Transfer {
    /// The connection over which the value was asked for; the transfer ends with it.
    connection: usize,
    segments: Vec<Bytes>,
}

/// Values that readers are at.
#[derive(Debug)]
pub(super) struct Transfers {
    open: Mutex<Open>,
    /// Plain bytes of values that left in ranges.
    served_bytes: AtomicU64,
    /// Compresses and takes digests.
    pub(super) helper: Helper,
}

impl Default for Transfers {
    fn default() -> Self {
        let (open, served_bytes) = (Mutex::default(), AtomicU64::new(0));
        Self { open, served_bytes, helper: Helper::new("taskloom-ranges") }
    }
}

#[derive(Debug, Default)]
struct Open {
    transfers: HashMap<u64, Transfer>,
    /// Those that live: an answer may be ready only after its connection has gone.
    connections: HashSet<usize>,
}

impl Transfers {
    pub fn connect(&self, connection: usize) {
        self.open.lock().connections.insert(connection);
    }

    /// Holds a value; its name, unless the connection has gone or the system gives no random
    /// numbers.
    pub fn begin(&self, connection: usize, segments: Vec<Bytes>) -> Option<u64> {
        let name = random_u64().ok()?;
        let mut open = self.open.lock();
        if !open.connections.contains(&connection) {
            return None;
        }
        open.transfers.insert(name, Transfer { connection, segments });
        Some(name)
    }

    pub fn end(&self, name: u64) {
        let ended = self.open.lock().transfers.remove(&name);
        // Freeing a large value takes a while: not under the lock.
        drop(ended);
    }

    pub fn disconnect(&self, connection: usize) {
        let ended: Vec<_> = {
            let mut open = self.open.lock();
            open.connections.remove(&connection);
            open.transfers.extract_if(|_, transfer| transfer.connection == connection).collect()
        };
        drop(ended);
    }

    /// Transfers that are open.
    pub fn count(&self) -> usize {
        self.open.lock().transfers.len()
    }

    pub fn served_bytes(&self) -> u64 {
        self.served_bytes.load(Ordering::Relaxed)
    }

    fn find(&self, range: &Range) -> Option<Bytes> {
        let open = self.open.lock();
        let segment = open.transfers.get(&range.transfer)?.segments.get(range.segment as usize)?;
        let end = range.offset.checked_add(range.length)?;
        let fits = end <= segment.len() as u64 && range.length <= MAX_RANGE;
        fits.then(|| segment.slice(range.offset as usize..end as usize))
    }

    /// Answers at once if only bytes are to be sent, and soon otherwise.
    pub fn answer(self: &Arc<Self>, range: Range, channel: &Arc<Channel>) {
        /// What every byte of the range must be looked at for.
        const WORK: u8 = Range::DIGEST | Range::DIGEST_ONLY | Range::LZ4 | Range::ZSTD;
        if range.wishes & WORK == 0 {
            return self.answer_now(&range, channel);
        }
        let (transfers, channel) = (Arc::downgrade(self), channel.clone());
        self.helper.run(move || {
            // Without them the server is gone, and so is its connection.
            if let Some(transfers) = transfers.upgrade() {
                transfers.answer_now(&range, &channel);
            }
        });
    }

    fn answer_now(&self, range: &Range, channel: &Channel) {
        let mut reply = RangeReply { request: range.request, ..RangeReply::default() };
        let Some(part) = self.find(range) else {
            reply.status = RangeReply::GONE;
            return send(channel, reply, Bytes::new());
        };
        if range.wishes & (Range::DIGEST | Range::DIGEST_ONLY) != 0 {
            reply.digest = digest(&part);
        }
        if range.wishes & Range::DIGEST_ONLY != 0 {
            return send(channel, reply, Bytes::new());
        }
        self.served_bytes.fetch_add(range.length, Ordering::Relaxed);
        let data = match wished_codec(range.wishes) {
            Codec::Plain => part,
            wished => {
                let (codec, packed) = compress(wished, &part);
                reply.codec = codec as u8;
                match packed {
                    Cow::Owned(packed) => Bytes::from(packed),
                    Cow::Borrowed(_) => part,
                }
            }
        };
        send(channel, reply, data);
    }
}

fn wished_codec(wishes: u8) -> Codec {
    match wishes {
        wishes if wishes & Range::ZSTD != 0 => Codec::Zstd,
        wishes if wishes & Range::LZ4 != 0 => Codec::Lz4,
        _ => Codec::Plain,
    }
}

fn send(channel: &Channel, reply: RangeReply, data: Bytes) {
    super::pending::send(channel, &PeerMessage::RangeReply(reply), vec![data]);
}
