//! The serving side of the data plane.

use super::calls::{ActorRequest, CallReplier};
use super::memory::is_shared;
use super::parcel::{Abilities, Parcel, Unreadable, unpack};
use super::parting::{Guest, Guests, OnAlone};
use super::shards::ShardServer;
use super::transfers::{LARGE_FROM, Transfers};
use super::{COPY_BELOW, take_segments};
use crate::io::{Io, IoThread};
use bytes::Bytes;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use taskloom_net::framed::Bounds;
use taskloom_net::listener::Service;
use taskloom_net::stream::MAX_FILES;
use taskloom_net::{Address, Channel, ListenError, ListenOptions, Listener, Protocol, Remote};
use taskloom_proto::ErrorInfo;
use taskloom_proto::actor::{ActorCall, ActorLife};
use taskloom_proto::frame::{Frame, write_frame};
use taskloom_proto::handshake::{Role, Token};
use taskloom_proto::peer::{Fetch, FetchItem, FetchReply, PeerMessage, Put, PutReply};
use taskloom_proto::rejoin::Named;
use taskloom_proto::session::{Resume, Welcome};
use taskloom_types::TaskId;

/// Bytes of values in one reply, unless a single value is larger: the asker sees progress, and
/// a small value does not wait behind all large ones.
const REPLY_BYTES: u64 = 64 * 1024 * 1024;

/// Where a data server finds and puts values. Called on the IO thread: return soon. The repliers
/// may be used later, from any thread.
pub trait DataStore: Send + Sync {
    fn fetch(&self, tasks: Vec<TaskId>, reply: FetchReplier);
    /// Takes a scattered value of `size_bytes` as estimated by its sender.
    fn put(&self, value: Named, size_bytes: u64, segments: Vec<Bytes>, reply: PutReplier);
    /// Calls an actor that lives here. Those that come over one connection begin in its order.
    fn call(&self, actor: ActorLife, request: ActorRequest, reply: CallReplier);
}

/// A store's answer about one task.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredItem {
    pub task: TaskId,
    pub value: StoredValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StoredValue {
    /// The encoded value's segments.
    Here(Vec<Bytes>),
    /// This process does not hold it.
    Missing,
    /// It is here but cannot be serialized.
    Failed(ErrorInfo),
    /// Ask again: not all values are to be encoded at once. At least one item of a reply must
    /// be something else.
    Later,
}

/// Answers one fetch. Dropped without an answer, it says that nothing is held.
#[derive(Debug)]
pub struct FetchReplier {
    channel: Arc<Channel>,
    request: u64,
    /// What to answer for when the store drops this.
    asked: Vec<TaskId>,
    abilities: Abilities,
    /// For large values, when the asker can ask for ranges.
    transfers: Option<Arc<Transfers>>,
    answered: bool,
}

impl FetchReplier {
    /// Whether the asker can map values that are in shared memory.
    #[must_use]
    pub fn maps_memory(&self) -> bool {
        self.abilities.files
    }

    /// Sends the items, in the order asked. What does not fit is asked for again by the other
    /// side.
    pub fn reply(mut self, items: Vec<StoredItem>) {
        self.send(items);
    }

    /// Holds a value for the asker, when much of it would go through the socket.
    fn offer(&self, segments: &[Bytes]) -> Option<u64> {
        let transfers = self.transfers.as_ref()?;
        let total: u64 = segments.iter().map(|segment| segment.len() as u64).sum();
        if total < LARGE_FROM || self.abilities.files && is_shared(segments) {
            return None;
        }
        transfers.begin(connection_of(&self.channel), segments.to_vec())
    }

    fn send(&mut self, items: Vec<StoredItem>) {
        self.answered = true;
        let mut head = FetchReply { request: self.request, items: Vec::with_capacity(items.len()) };
        let (mut parcels, mut files, mut total) = (Vec::new(), Vec::new(), 0);
        for item in items {
            let mut entry = FetchItem { task: item.task, ..FetchItem::default() };
            match item.value {
                StoredValue::Here(segments) => {
                    if let Some(transfer) = self.offer(&segments) {
                        entry.status = FetchItem::LARGE;
                        entry.segments =
                            segments.iter().map(|segment| segment.len() as u64).collect();
                        entry.transfer = transfer;
                        head.items.push(entry);
                        continue;
                    }
                    let mut parcel = Parcel::pack(segments, self.abilities);
                    let fits = total + parcel.data_bytes <= REPLY_BYTES
                        && files.len() + parcel.files.len() <= MAX_FILES;
                    if fits || parcels.is_empty() {
                        total += parcel.data_bytes;
                        files.append(&mut parcel.files);
                        entry.segments = std::mem::take(&mut parcel.lengths);
                        entry.layout = parcel.layout.take();
                        parcels.push(parcel);
                    } else {
                        entry.status = FetchItem::LATER;
                    }
                }
                StoredValue::Missing => entry.status = FetchItem::MISSING,
                StoredValue::Later => entry.status = FetchItem::LATER,
                StoredValue::Failed(error) => {
                    entry.status = FetchItem::FAILED;
                    entry.error = Some(error);
                }
            }
            head.items.push(entry);
        }
        self.channel.queue(|queue| {
            let message = PeerMessage::FetchReply(head);
            queue.append_with_files(files, |out| {
                write_frame(out, message.kind(), total, |out| message.write_body(out));
            });
            parcels.into_iter().for_each(|parcel| parcel.push_data(queue));
        });
        self.channel.flush();
    }
}

/// Names a connection while it lives.
fn connection_of(channel: &Arc<Channel>) -> usize {
    Arc::as_ptr(channel) as usize
}

impl Drop for FetchReplier {
    fn drop(&mut self) {
        if !self.answered {
            let missing = |task| StoredItem { task, value: StoredValue::Missing };
            let items = std::mem::take(&mut self.asked).into_iter().map(missing).collect();
            self.send(items);
        }
    }
}

/// Answers one put. Dropped without an answer, it says so as an error.
#[derive(Debug)]
pub struct PutReplier {
    channel: Arc<Channel>,
    request: u64,
    answered: bool,
}

impl PutReplier {
    pub fn reply(mut self, result: Result<(), String>) {
        self.send(result.err().unwrap_or_default(), false);
    }

    /// The value came in memory that cannot be mapped here.
    fn ask_in_frame(mut self, reason: String) {
        self.send(reason, true);
    }

    fn send(&mut self, error: String, in_frame: bool) {
        self.answered = true;
        let message = PeerMessage::PutReply(PutReply { request: self.request, error, in_frame });
        self.channel.queue(|queue| {
            queue.append(|out| write_frame(out, message.kind(), 0, |out| message.write_body(out)));
        });
        self.channel.flush();
    }
}

impl Drop for PutReplier {
    fn drop(&mut self) {
        if !self.answered {
            self.send("the worker is closing".into(), false);
        }
    }
}

/// Serves a store's values. Dropping it stops listening; open connections end with their peers.
pub struct DataServer {
    address: Address,
    sources: Vec<taskloom_net::event_loop::Source>,
    socket_files: Vec<PathBuf>,
    pub(super) transfers: Arc<Transfers>,
    guests: Arc<Guests>,
    remote: Arc<Remote<Io>>,
}

impl DataServer {
    /// Listens on `address` (port 0 picks a free one). `epoch` is the scheduler's.
    pub fn listen(
        io: &IoThread,
        address: &str,
        options: ListenOptions,
        token: &Token,
        epoch: u64,
        store: Arc<dyn DataStore>,
    ) -> Result<Self, ListenError> {
        let listener = Listener::bind(&address.parse()?, options)?;
        let shards = Arc::new(ShardServer::default());
        let transfers = Arc::new(Transfers::default());
        let guests = Arc::new(Guests::default());
        let (held, room, remote) = (transfers.clone(), guests.clone(), io.remote().clone());
        let protocol = move || -> Box<dyn Protocol<Io>> {
            Box::new(Serving {
                store: store.clone(),
                transfers: held.clone(),
                shards: shards.clone(),
                guests: room.clone(),
                remote: remote.clone(),
                guest: None,
                files: VecDeque::new(),
            })
        };
        let service = Service {
            token: token.clone(),
            epoch,
            bounds: Bounds::DATA,
            protocol: Box::new(protocol),
        };
        let remote = io.remote().clone();
        let (address, socket_files) = (listener.address().clone(), listener.socket_files());
        let sources = listener.serve(&remote, service);
        Ok(Self { address, sources, socket_files, transfers, guests, remote })
    }

    /// Takes no new connections, and takes leave of those who ask here: what was answered arrives,
    /// and callers of actors learn which calls have begun. Calls `on_alone` when they are gone, or
    /// when nothing moves any more. Only the first call counts.
    pub fn part(&self, on_alone: OnAlone) {
        self.stop_listening();
        self.guests.part(&self.remote, on_alone);
    }

    fn stop_listening(&self) {
        // The process may end before its IO thread gets to it.
        for path in &self.socket_files {
            let _ = std::fs::remove_file(path);
        }
        self.sources.iter().for_each(|source| self.remote.remove(*source));
    }

    /// Large values that are held for readers, and the bytes of such values that have left.
    #[must_use]
    pub fn transfers(&self) -> (usize, u64) {
        (self.transfers.count(), self.transfers.served_bytes())
    }

    /// The address for peers, such as `tcp://127.0.0.1:40001`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for DataServer {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

/// One peer's connection.
struct Serving {
    store: Arc<dyn DataStore>,
    shards: Arc<ShardServer>,
    transfers: Arc<Transfers>,
    guests: Arc<Guests>,
    remote: Arc<Remote<Io>>,
    guest: Option<Arc<Guest>>,
    /// Descriptors of frames that have not been read yet.
    files: VecDeque<OwnedFd>,
}

impl Serving {
    fn fetch(&self, channel: &Arc<Channel>, fetch: Fetch) {
        let abilities = Abilities::of(channel);
        let reply = FetchReplier {
            channel: channel.clone(),
            request: fetch.request,
            asked: fetch.tasks.clone(),
            abilities: if fetch.in_frame { abilities.in_frame() } else { abilities },
            transfers: fetch.ranges.then(|| self.transfers.clone()),
            answered: false,
        };
        self.store.fetch(fetch.tasks, reply);
    }

    fn put(&mut self, channel: &Arc<Channel>, put: Put, mut data: Bytes) -> Result<(), String> {
        let reply = PutReplier { channel: channel.clone(), request: put.request, answered: false };
        match unpack(&put.segments, put.layout.as_ref(), COPY_BELOW, &mut data, &mut self.files) {
            Ok(segments) if data.is_empty() => {
                self.store.put(put.value, put.size_bytes, segments, reply);
                Ok(())
            }
            Ok(_) => Err("a value's segments do not match its data".into()),
            Err(Unreadable::Malformed(reason)) => Err(reason),
            Err(Unreadable::Unmappable(error)) => {
                reply.ask_in_frame(error.to_string());
                Ok(())
            }
        }
    }

    fn call(&self, guest: &Arc<Guest>, call: ActorCall, mut data: Bytes) -> Result<(), String> {
        let segments = take_segments(&mut data, &call.segments, COPY_BELOW);
        let segments = segments.filter(|_| data.is_empty());
        let segments = segments.ok_or("the arguments' segments do not match the data")?;
        let reply = CallReplier::new(guest.clone(), call.request);
        let ActorCall { actor, kind, name, deps, .. } = call;
        self.store.call(actor, ActorRequest { kind, name, deps, segments }, reply);
        Ok(())
    }
}

impl Protocol<Io> for Serving {
    fn on_open(
        &mut self,
        _: &mut Io,
        channel: &Arc<Channel>,
        role: Role,
        _: Option<Resume>,
    ) -> Result<Welcome, String> {
        if role != Role::Peer {
            return Err("this is a worker; connect to its scheduler".into());
        }
        let guest = Guest::new(channel.clone());
        if !self.guests.welcome(&guest) {
            return Err("the worker leaves".into());
        }
        self.transfers.connect(connection_of(channel));
        self.guest = Some(guest);
        Ok(Welcome::default())
    }

    fn on_frame(&mut self, _: &mut Io, frame: Frame) -> Result<(), String> {
        // What comes behind the last word is answered by it.
        let Some(guest) = self.guest.clone().filter(|guest| !guest.has_parted()) else {
            return Ok(());
        };
        let channel = guest.channel();
        let message = PeerMessage::read_body(frame.kind, &frame.head);
        match message.map_err(|error| error.to_string())? {
            PeerMessage::Fetch(fetch) => self.fetch(channel, fetch),
            PeerMessage::Put(put) => self.put(channel, put, frame.data)?,
            PeerMessage::ActorCall(call) => self.call(&guest, call, frame.data)?,
            PeerMessage::ReadShards(asked) => self.shards.read(channel, asked),
            PeerMessage::Range(range) => {
                guest.note_bulk();
                self.transfers.answer(range, channel);
            }
            PeerMessage::EndTransfer(end) => self.transfers.end(end.transfer),
            PeerMessage::FetchReply(_)
            | PeerMessage::PutReply(_)
            | PeerMessage::RangeReply(_)
            | PeerMessage::ActorReply(_)
            | PeerMessage::Parting(_)
            | PeerMessage::ShardsReply(_) => return Err("an answer to nothing".into()),
        }
        Ok(())
    }

    fn on_files(&mut self, _: &mut Io, files: Vec<OwnedFd>, lost: bool) -> Result<(), String> {
        self.files.extend(files);
        match lost {
            true => Err("this process has too many open files to take another".into()),
            false => Ok(()),
        }
    }

    fn on_batch_end(&mut self, _: &mut Io) {}

    fn on_closed(&mut self, _: &mut Io, _: &str) {
        if let Some(guest) = self.guest.take() {
            self.transfers.disconnect(connection_of(guest.channel()));
            self.guests.on_left(&guest, &self.remote);
        }
    }
}
