//! Connections that carry nothing but ranges of large values. Small answers and calls of actors
//! have a connection of their own, so they never stand behind bulk.

use super::client::{FetchError, Shared};
use super::download::{Asked, Download};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use taskloom_net::framed::Bounds;
use taskloom_net::{Channel, Framed, Protocol};
use taskloom_proto::frame::{Frame, Landing};
use taskloom_proto::peer::PeerMessage;
use taskloom_proto::transfer::RangeReply;

use crate::io::Io;

/// One more connection per so many bytes that are to come, up to the maximum: over long or
/// shared lines one connection alone does not fill the line.
const BYTES_PER_STREAM: u64 = 64 * 1024 * 1024;
const MAX_STREAMS: usize = 4;
/// Ranges under way per connection: the next one is asked for before the last one is here.
const WINDOW: usize = 2;
/// Connections that nothing was asked over for this long are closed.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// Lost connections after which the downloads of an address are given up.
const MAX_FAILURES: u32 = 3;

/// The bulk connections to one address.
pub(super) struct Streams {
    address: String,
    client: Weak<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    downloads: VecDeque<Arc<Download>>,
    open: Vec<Arc<Stream>>,
    connecting: usize,
    failures: u32,
    /// Counts the downloads ever begun, to tell idle connections.
    begun: u64,
    /// Whether a look at idle connections is due.
    idle_armed: bool,
    ended: bool,
}

#[derive(Default)]
struct Stream {
    /// Set before anything is asked.
    channel: OnceLock<Arc<Channel>>,
    state: Mutex<Asking>,
}

impl Stream {
    fn close(&self, reason: &str) {
        if let Some(channel) = self.channel.get() {
            channel.close(reason);
        }
    }
}

#[derive(Default)]
struct Asking {
    last_request: u64,
    pending: BTreeMap<u64, (Arc<Download>, Asked)>,
    closed: bool,
}

impl Streams {
    pub fn new(address: &str, client: Weak<Shared>) -> Arc<Self> {
        Arc::new(Self { address: address.into(), client, state: Mutex::default() })
    }

    /// Begins to fetch a value. Gives it back if these connections have been ended.
    pub fn begin(self: &Arc<Self>, download: Arc<Download>) -> Option<Arc<Download>> {
        let missing = {
            let mut state = self.state.lock();
            if state.ended {
                return Some(download);
            }
            state.begun += 1;
            state.downloads.retain(|download| !download.is_over());
            state.downloads.push_back(download);
            let bytes: u64 = state.downloads.iter().map(|download| download.total_bytes()).sum();
            let wanted = (bytes / BYTES_PER_STREAM + 1).min(MAX_STREAMS as u64) as usize;
            let missing = wanted.saturating_sub(state.open.len() + state.connecting);
            state.connecting += missing;
            missing
        };
        self.connect(missing);
        self.pump_all();
        None
    }

    fn connect(self: &Arc<Self>, count: usize) {
        for _ in 0..count {
            let Some(client) = self.client.upgrade() else { return };
            let me = self.clone();
            let open = move || match me.client.upgrade() {
                Some(client) => me.open_one(&client),
                None => me.connect_failed(&FetchError::Closed.to_string()),
            };
            let thread = std::thread::Builder::new().name("taskloom-connect".into());
            if let Err(error) = thread.stack_size(128 * 1024).spawn(open) {
                let (me, reason) = (self.clone(), format!("cannot start a thread: {error}"));
                let _ = client.io().after(Duration::ZERO, move || me.connect_failed(&reason));
            }
        }
    }

    fn open_one(self: &Arc<Self>, client: &Shared) {
        let connected = match client.connect(&self.address) {
            Ok(connected) => connected,
            Err(error) => return self.connect_failed(&error.to_string()),
        };
        let remote = client.io().remote();
        let stream = Arc::new(Stream::default());
        let protocol = Receiving { streams: self.clone(), stream: Some(stream.clone()) };
        let framed = Framed::connected(connected, remote, Bounds::DATA, Box::new(protocol));
        stream.channel.get_or_init(|| framed.sender().clone());
        {
            let mut state = self.state.lock();
            state.connecting -= 1;
            if state.ended {
                return;
            }
            state.open.push(stream.clone());
        }
        framed.start(remote);
        self.pump(&stream);
    }

    /// Other connections go on; without any, nothing will come.
    fn connect_failed(&self, reason: &str) {
        let downloads = {
            let mut state = self.state.lock();
            state.connecting -= 1;
            if state.connecting > 0 || !state.open.is_empty() {
                return;
            }
            std::mem::take(&mut state.downloads)
        };
        downloads.iter().for_each(|download| download.fail(reason));
    }

    fn pump_all(&self) {
        let open = self.state.lock().open.clone();
        open.iter().for_each(|stream| self.pump(stream));
    }

    /// Asks for as many ranges as the connection may have under way.
    fn pump(&self, stream: &Stream) {
        let Some(channel) = stream.channel.get() else { return };
        let mut asking = stream.state.lock();
        while !asking.closed && asking.pending.len() < WINDOW {
            let Some((download, asked)) = self.next_range() else { break };
            asking.last_request += 1;
            let request = asking.last_request;
            let message = asked.message(request, download.offer.transfer, download.wishes);
            asking.pending.insert(request, (download, asked));
            super::pending::send(channel, &PeerMessage::Range(message), Vec::new());
        }
    }

    /// Downloads take turns.
    fn next_range(&self) -> Option<(Arc<Download>, Asked)> {
        let mut state = self.state.lock();
        for _ in 0..state.downloads.len() {
            let download = state.downloads.pop_front()?;
            if download.is_over() {
                continue;
            }
            let asked = download.take_next();
            state.downloads.push_back(download.clone());
            if let Some(asked) = asked {
                return Some((download, asked));
            }
        }
        if state.downloads.is_empty() && !std::mem::replace(&mut state.idle_armed, true) {
            self.close_when_idle(state.begun);
        }
        None
    }

    /// Whether values are on their way.
    pub fn is_busy(&self) -> bool {
        self.state.lock().downloads.iter().any(|download| !download.is_over())
    }

    fn close_when_idle(&self, begun: u64) {
        let (client, address) = (self.client.clone(), self.address.clone());
        let Some(shared) = client.upgrade() else { return };
        let idle_time = shared.idle_time().map_or(IDLE_TIME, |time| time.min(IDLE_TIME));
        let _ = shared.io().after(idle_time, move || {
            let streams = client.upgrade().and_then(|client| client.known_streams(&address));
            if let Some(streams) = streams {
                streams.close_if_idle(begun);
            }
        });
    }

    fn close_if_idle(&self, begun: u64) {
        let idle = {
            let mut state = self.state.lock();
            state.idle_armed = false;
            if state.begun != begun || !state.downloads.is_empty() {
                return;
            }
            std::mem::take(&mut state.open)
        };
        idle.iter().for_each(|stream| stream.close("idle"));
    }

    /// Whether there was nothing to end; then nothing more is begun here.
    pub fn end_if_unused(&self) -> bool {
        let mut state = self.state.lock();
        state.downloads.retain(|download| !download.is_over());
        let is_unused =
            state.downloads.is_empty() && state.open.is_empty() && state.connecting == 0;
        state.ended |= is_unused;
        is_unused
    }

    /// Ends all; downloads fail.
    pub fn end(&self, reason: &str) {
        let (open, downloads) = {
            let mut state = self.state.lock();
            state.ended = true;
            (std::mem::take(&mut state.open), std::mem::take(&mut state.downloads))
        };
        open.iter().for_each(|stream| stream.close(reason));
        downloads.iter().for_each(|download| download.fail(reason));
    }

    /// A connection is gone, and what it was at is open again.
    fn lost(self: &Arc<Self>, stream: &Arc<Stream>, reason: &str) {
        let reconnect = {
            let mut state = self.state.lock();
            state.open.retain(|open| !Arc::ptr_eq(open, stream));
            state.downloads.retain(|download| !download.is_over());
            let is_needed = !state.ended && !state.downloads.is_empty();
            if is_needed {
                state.failures += 1;
            }
            let reconnect = is_needed && state.open.is_empty() && state.connecting == 0;
            if reconnect && state.failures < MAX_FAILURES {
                state.connecting += 1;
                true
            } else {
                let give_up =
                    if reconnect { std::mem::take(&mut state.downloads) } else { VecDeque::new() };
                drop(state);
                give_up.iter().for_each(|download| download.fail(reason));
                false
            }
        };
        if reconnect {
            self.connect(1);
        }
        self.pump_all();
    }

    fn answered(&self) {
        self.state.lock().failures = 0;
    }
}

/// The receiving half of a bulk connection.
struct Receiving {
    streams: Arc<Streams>,
    /// `None` after its end.
    stream: Option<Arc<Stream>>,
}

fn read_reply(kind: u8, head: &Bytes) -> Result<RangeReply, String> {
    match PeerMessage::read_body(kind, head).map_err(|error| error.to_string())? {
        PeerMessage::RangeReply(reply) => Ok(reply),
        _ => Err("something else than an answer to a range".into()),
    }
}

impl Receiving {
    fn take(&self, request: u64) -> Result<(Arc<Download>, Asked), String> {
        let stream = self.stream.as_ref().ok_or("an answer after the end")?;
        let asked = stream.state.lock().pending.remove(&request);
        asked.ok_or_else(|| "an answer to a range that was not asked for".into())
    }

    fn on_reply(&self, reply: &RangeReply, data: &[u8]) -> Result<(), String> {
        let (download, asked) = self.take(reply.request)?;
        download.take_answer(asked, reply, data)?;
        self.go_on();
        Ok(())
    }

    fn go_on(&self) {
        self.streams.answered();
        if let Some(stream) = &self.stream {
            self.streams.pump(stream);
        }
    }

    fn lost(&mut self, reason: &str) {
        let Some(stream) = self.stream.take() else { return };
        let pending = {
            let mut asking = stream.state.lock();
            asking.closed = true;
            std::mem::take(&mut asking.pending)
        };
        for (download, asked) in pending.into_values() {
            download.put_back(asked);
        }
        self.streams.lost(&stream, reason);
    }
}

impl Protocol<Io> for Receiving {
    fn on_frame(&mut self, _: &mut Io, frame: Frame) -> Result<(), String> {
        let reply = read_reply(frame.kind, &frame.head)?;
        self.on_reply(&reply, &frame.data)
    }

    fn place_for(&mut self, kind: u8, head: &Bytes, length: usize) -> Option<BytesMut> {
        let reply = read_reply(kind, head).ok()?;
        if reply.status != RangeReply::OK || reply.codec != 0 {
            return None;
        }
        let stream = self.stream.as_ref()?;
        let mut asking = stream.state.lock();
        let (_, asked) = asking.pending.get_mut(&reply.request)?;
        (asked.length == length && !asked.digest_only).then(|| std::mem::take(&mut asked.memory))
    }

    fn on_placed(&mut self, _: &mut Io, landing: Landing) -> Result<(), String> {
        let reply = read_reply(landing.kind, &landing.head)?;
        let (download, asked) = self.take(reply.request)?;
        download.take_answer(Asked { memory: landing.data, ..asked }, &reply, &[])?;
        self.go_on();
        Ok(())
    }

    fn on_cut_off(&mut self, landing: Landing) {
        let Ok(reply) = read_reply(landing.kind, &landing.head) else { return };
        let Some(stream) = &self.stream else { return };
        if let Some((_, asked)) = stream.state.lock().pending.get_mut(&reply.request)
            && asked.memory.capacity() == 0
        {
            asked.memory = landing.data;
        }
    }

    fn on_batch_end(&mut self, _: &mut Io) {}

    fn on_closed(&mut self, _: &mut Io, reason: &str) {
        self.lost(reason);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // Does nothing after `on_closed`.
        self.lost("the connection's thread ended");
    }
}
