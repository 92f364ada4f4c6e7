//! The asking side of the data plane.

use super::COPY_BELOW;
use super::detour::Detour;
use super::download::{Download, Offer, Partials};
use super::idle::LOOKS;
use super::memory::SharedMemory;
use super::options::Options;
use super::parcel::Abilities;
use super::pending::{AnswersCallback, Joint, Pending, PendingFetch, PendingPut, send};
use super::streams::Streams;
use crate::io::{Io, IoThread};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use taskloom_net::connect::Connected;
use taskloom_net::framed::Bounds;
use taskloom_net::runtime_dir::companion_to_connect;
use taskloom_net::{Address, Channel, ConnectError, ConnectOptions, Framed, Protocol, connect};
use taskloom_proto::ErrorInfo;
use taskloom_proto::actor::ActorReply;
use taskloom_proto::frame::Frame;
use taskloom_proto::handshake::{Role, Token};
use taskloom_proto::parting::Parting;
use taskloom_proto::peer::{FetchReply, PeerMessage, PutReply};
use taskloom_proto::rejoin::Named;
use taskloom_proto::shards::ShardsReply;
use taskloom_proto::transfer::EndTransfer;
use taskloom_types::TaskId;

/// What a peer said about one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    pub task: TaskId,
    pub outcome: FetchOutcome,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FetchOutcome {
    /// The encoded value's segments.
    Value(Vec<Bytes>),
    /// The peer does not hold it.
    Missing,
    /// The peer holds it but cannot serialize it.
    Failed(ErrorInfo),
}

/// Why a peer gave no answer at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("{0}")]
    Unreachable(String),
    #[error("lost the connection to {address}: {reason}")]
    Lost { address: String, reason: String },
    #[error("{address} refused the value: {reason}")]
    Refused { address: String, reason: String },
    #[error("the data client is closed")]
    Closed,
}

/// Called once, on the IO thread or a connecting thread, never inside [`DataClient::fetch`].
pub type FetchCallback = Box<dyn FnOnce(Result<Vec<Fetched>, FetchError>) + Send>;
/// As [`FetchCallback`].
pub type PutCallback = Box<dyn FnOnce(Result<(), FetchError>) + Send>;

/// How long a peer may take to accept a connection.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Fetches values from peers and puts values there. One connection per address, made at first
/// use; cheap to clone.
#[derive(Clone)]
pub struct DataClient {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    io: Arc<IoThread>,
    token: Token,
    options: Options,
    memory: SharedMemory,
    /// Peers from which shared memory cannot be mapped here.
    in_frame: Mutex<HashSet<String>>,
    /// For large values; `None` after [`DataClient::close`].
    streams: Mutex<Option<HashMap<String, Arc<Streams>>>>,
    partials: Partials,
    resumed_bytes: AtomicU64,
    detour: OnceLock<Detour>,
    /// Whether a look for unused connections is to come.
    pub(super) looks_for_idle: AtomicBool,
    /// `None` after [`DataClient::close`].
    peers: Mutex<Option<HashMap<String, Arc<Peer>>>>,
}

impl DataClient {
    #[must_use]
    pub fn new(io: Arc<IoThread>, token: Token) -> Self {
        Self::with_options(io, token, Options::get())
    }

    pub(super) fn with_options(io: Arc<IoThread>, token: Token, options: Options) -> Self {
        let memory = SharedMemory::new(io.clone(), options.shared_memory);
        Self {
            shared: Arc::new(Shared {
                io,
                token,
                options,
                memory,
                in_frame: Mutex::default(),
                streams: Mutex::new(Some(HashMap::new())),
                partials: Partials::default(),
                resumed_bytes: AtomicU64::new(0),
                detour: OnceLock::new(),
                looks_for_idle: AtomicBool::new(false),
                peers: Mutex::new(Some(HashMap::new())),
            }),
        }
    }

    /// Workers that cannot be reached, or all of them, are reached by way of the scheduler at
    /// `relay`. Before the first question.
    pub fn allow_detour(&self, relay: Address, always: bool) {
        let _ = self.shared.detour.set(Detour::new(relay, always));
    }

    /// Bytes of values that did not have to be fetched again after their worker was lost.
    #[must_use]
    pub fn resumed_bytes(&self) -> u64 {
        self.shared.resumed_bytes.load(Ordering::Relaxed)
    }

    /// This process's shared memory.
    #[must_use]
    pub fn memory(&self) -> &SharedMemory {
        &self.shared.memory
    }

    /// Whether the worker at `address` can probably map this process's memory: it is on this
    /// host, as far as one can tell without asking.
    #[must_use]
    pub fn is_near(&self, address: &str) -> bool {
        let known = {
            let peers = self.shared.peers.lock();
            let peer = peers.as_ref().and_then(|peers| peers.get(address));
            peer.and_then(|peer| peer.state.lock().channel.clone())
        };
        match known {
            Some(channel) => Abilities::of(&channel).files,
            None => address.parse::<Address>().is_ok_and(|address| has_local_socket(&address)),
        }
    }

    /// Asks the worker at `address` for values; answers are in the order asked.
    pub fn fetch(&self, address: &str, tasks: Vec<TaskId>, on_reply: FetchCallback) {
        self.fetch_with(address, tasks, COPY_BELOW, on_reply);
    }

    /// As [`DataClient::fetch`], for values that are read and dropped at once: nothing is copied out
    /// of what came, so that a short segment keeps all that came with it.
    pub fn fetch_to_read(&self, address: &str, tasks: Vec<TaskId>, on_reply: FetchCallback) {
        self.fetch_with(address, tasks, 0, on_reply);
    }

    fn fetch_with(
        &self,
        address: &str,
        tasks: Vec<TaskId>,
        copy_below: usize,
        on_reply: FetchCallback,
    ) {
        let answers = tasks.iter().map(|_| None).collect();
        let open = (0..tasks.len()).collect();
        let in_frame =
            !self.shared.memory.is_enabled() || self.shared.in_frame.lock().contains(address);
        let (client, from) = (self.shared.clone(), address.to_string());
        let on_answers: AnswersCallback = Box::new(move |answers| match answers {
            Ok(answers) => Joint::finish(&client, &from, answers, on_reply),
            Err(error) => on_reply(Err(error)),
        });
        let fetch = PendingFetch { tasks, answers, open, in_frame, copy_below, on_answers };
        self.ask(address, Pending::Fetch(fetch));
    }

    /// Gives the worker at `address` a value of `size_bytes` as estimated.
    pub fn put(
        &self,
        address: &str,
        value: Named,
        size_bytes: u64,
        segments: Vec<Bytes>,
        on_reply: PutCallback,
    ) {
        let put = PendingPut { value, size_bytes, segments, in_frame: false, on_reply };
        self.ask(address, Pending::Put(put));
    }

    /// Workers to which there is a connection, or will be soon.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open_peers().len()
    }

    /// Addresses for which something is kept.
    #[cfg(test)]
    pub(super) fn known_addresses(&self) -> usize {
        let streams = self.shared.streams.lock().as_ref().map_or(0, HashMap::len);
        let detours = self.shared.detour.get().map_or(0, Detour::known);
        self.connections() + streams + detours
    }

    /// A worker is gone: it will not be connected to any more. Connections that there are end by
    /// themselves.
    pub fn forget(&self, address: &str) {
        if let Some(detour) = self.shared.detour.get() {
            detour.forget(address);
        }
    }

    /// Ends the connections to a worker that was given up; what was asked there fails. Not to be
    /// called under a lock that a callback takes.
    pub fn cut(&self, address: &str) {
        let peer = self.shared.peers.lock().as_mut().and_then(|peers| peers.remove(address));
        if let Some(peer) = peer {
            let reason = "the scheduler has heard nothing from this worker and given it up".into();
            peer.end(&FetchError::Lost { address: address.into(), reason });
        }
        let streams = self.shared.streams.lock().as_mut().and_then(|all| all.remove(address));
        if let Some(streams) = streams {
            streams.end("the worker was given up");
        }
    }

    /// Ends all connections; what was asked, and what will be asked, fails.
    pub fn close(&self) {
        let peers = self.shared.peers.lock().take();
        for peer in peers.into_iter().flatten().map(|(_, peer)| peer) {
            peer.end(&FetchError::Closed);
        }
        let streams = self.shared.streams.lock().take();
        for streams in streams.into_iter().flatten().map(|(_, streams)| streams) {
            streams.end("the data client is closed");
        }
        self.shared.partials.clear();
    }

    pub(super) fn ask(&self, address: &str, mut pending: Pending) {
        // A peer that ended a moment ago refuses; then a new connection is made.
        for _ in 0..2 {
            let Some(peer) = self.peer(address) else { break };
            match peer.ask(pending) {
                None => return,
                Some(refused) => {
                    self.shared.remove(&peer);
                    pending = refused;
                }
            }
        }
        // Not on the caller's stack: he may hold a lock that the callback takes.
        let _ = self.shared.io.after(Duration::ZERO, || pending.fail(FetchError::Closed));
    }

    fn peer(&self, address: &str) -> Option<Arc<Peer>> {
        let mut peers = self.shared.peers.lock();
        let peers = peers.as_mut()?;
        if let Some(peer) = peers.get(address) {
            return Some(peer.clone());
        }
        let client = Arc::downgrade(&self.shared);
        let peer = Arc::new(Peer { address: address.into(), client, state: Mutex::default() });
        peers.insert(address.into(), peer.clone());
        self.shared.watch_idle();
        connect_in_background(&self.shared, &peer);
        Some(peer)
    }
}

impl Shared {
    pub(super) fn io(&self) -> &Arc<IoThread> {
        &self.io
    }

    pub(super) fn idle_time(&self) -> Option<Duration> {
        self.options.idle_time
    }

    pub(super) fn open_peers(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().iter().flat_map(|peers| peers.values()).cloned().collect()
    }

    /// Whether there are connections to look after. If not, the next one has to say so.
    pub(super) fn has_peers_or_rests(&self) -> bool {
        // Under the lock under which connections are added.
        let peers = self.peers.lock();
        let has_some = peers.as_ref().is_some_and(|peers| !peers.is_empty());
        self.looks_for_idle.store(has_some, Ordering::Release);
        has_some
    }

    /// Connects to a worker's data server. Blocks.
    pub(super) fn connect(&self, address: &str) -> Result<Connected, ConnectError> {
        let target: Address = address.parse()?;
        let direct = |timeout| {
            connect(&target, Role::Peer, &self.token, ConnectOptions { timeout, retry: false })
        };
        match self.detour.get() {
            None => direct(CONNECT_TIME),
            Some(detour) => detour.connect(address, &self.token, direct),
        }
    }

    pub(super) fn known_streams(&self, address: &str) -> Option<Arc<Streams>> {
        self.streams.lock().as_ref()?.get(address).cloned()
    }

    /// Forgets the addresses that nothing is downloaded from.
    pub(super) fn sweep_streams(&self) {
        if let Some(all) = self.streams.lock().as_mut() {
            all.retain(|_, streams| !streams.end_if_unused());
        }
    }

    fn streams(self: &Arc<Self>, address: &str) -> Option<Arc<Streams>> {
        let mut streams = self.streams.lock();
        let new = || Streams::new(address, Arc::downgrade(self));
        Some(streams.as_mut()?.entry(address.into()).or_insert_with(new).clone())
    }

    /// Fetches a value that a worker holds for us.
    pub(super) fn download(
        self: &Arc<Self>,
        address: &str,
        offer: Offer,
        joint: &Arc<Joint>,
        at: usize,
    ) {
        let (name, wishes) = (offer.transfer, self.options.wishes(address));
        let partial = self.partials.take(&offer);
        let (joint, client, from) = (joint.clone(), Arc::downgrade(self), address.to_string());
        let slot: Arc<OnceLock<Weak<Download>>> = Arc::default();
        let known = slot.clone();
        let on_done = Box::new(move |result: Result<Vec<Bytes>, String>| {
            let download = known.get().and_then(Weak::upgrade);
            if let (Some(client), Some(download)) = (client.upgrade(), download) {
                client.end_download(&from, name, &download, result.is_ok());
            }
            let address = from;
            joint.add(at, result.map_err(|reason| FetchError::Lost { address, reason }));
        });
        match Download::new(offer, wishes, partial, on_done) {
            Ok(download) => {
                let download = Arc::new(download);
                slot.get_or_init(|| Arc::downgrade(&download));
                download.finish_if_empty();
                self.begin(address, download);
            }
            Err((on_done, reason)) => on_done(Err(reason)),
        }
    }

    fn begin(self: &Arc<Self>, address: &str, mut download: Arc<Download>) {
        // Connections that were given up a moment ago refuse; then there are new ones.
        for _ in 0..2 {
            let Some(streams) = self.streams(address) else { break };
            match streams.begin(download) {
                None => return,
                Some(refused) => download = refused,
            }
        }
        download.fail("the data client is closed");
    }

    fn end_download(self: &Arc<Self>, address: &str, name: u64, download: &Download, ok: bool) {
        self.resumed_bytes.fetch_add(download.resumed_bytes(), Ordering::Relaxed);
        if !ok && let Some(partial) = download.into_partial() {
            self.partials.keep(partial);
            self.sweep_partials();
        }
        let peer = self.peers.lock().as_ref().and_then(|peers| peers.get(address).cloned());
        let channel = peer.and_then(|peer| peer.state.lock().channel.clone());
        if let Some(channel) = channel {
            let message = PeerMessage::EndTransfer(EndTransfer { transfer: name });
            send(&channel, &message, Vec::new());
        }
    }

    /// What is kept and never asked for again goes.
    fn sweep_partials(self: &Arc<Self>) {
        let client = Arc::downgrade(self);
        let _ = self.io.after(Partials::KEEP, move || {
            if let Some(client) = client.upgrade() {
                client.partials.sweep();
            }
        });
    }

    pub(super) fn remove(&self, peer: &Peer) {
        let mut peers = self.peers.lock();
        if let Some(peers) = peers.as_mut()
            && peers.get(&peer.address).is_some_and(|known| std::ptr::eq(&raw const **known, peer))
        {
            peers.remove(&peer.address);
        }
    }
}

/// Whether a process of this host serves there, over a socket that passes descriptors.
fn has_local_socket(address: &Address) -> bool {
    match address {
        Address::Unix(_) => true,
        Address::Tcp { host, port } => {
            let ip = host.parse::<IpAddr>();
            ip.is_ok_and(|ip| companion_to_connect(SocketAddr::new(ip, *port)).is_some())
        }
    }
}

/// Connecting blocks, for a moment on one host and longer where a host is gone: neither the
/// caller nor the IO thread should wait for it.
fn connect_in_background(shared: &Arc<Shared>, peer: &Arc<Peer>) {
    let (client, target) = (shared.clone(), peer.clone());
    let thread = std::thread::Builder::new().name("taskloom-connect".into());
    let started = thread.stack_size(128 * 1024).spawn(move || {
        if let Err(error) = open(&client, &target) {
            client.remove(&target);
            target.end(&FetchError::Unreachable(error.to_string()));
        }
    });
    if let Err(error) = started {
        let (client, target) = (shared.clone(), peer.clone());
        let reason = format!("cannot start a thread to connect to {}: {error}", peer.address);
        let _ = shared.io.after(Duration::ZERO, move || {
            client.remove(&target);
            target.end(&FetchError::Unreachable(reason));
        });
    }
}

fn open(client: &Arc<Shared>, peer: &Arc<Peer>) -> Result<(), ConnectError> {
    let connected = client.connect(&peer.address)?;
    let remote = client.io.remote();
    let protocol = Box::new(Asking { peer: peer.clone(), files: VecDeque::new() });
    let framed = Framed::connected(connected, remote, Bounds::DATA, protocol);
    peer.opened(framed.sender());
    framed.start(remote);
    Ok(())
}

/// One address.
pub(super) struct Peer {
    address: String,
    client: Weak<Shared>,
    state: Mutex<PeerState>,
}

#[derive(Default)]
struct PeerState {
    /// `None` while connecting.
    channel: Option<Arc<Channel>>,
    last_request: u64,
    /// In the order of their numbers, so that what was asked first is sent first.
    pending: BTreeMap<u64, Pending>,
    ended: bool,
    /// Looks in a row that found it unused.
    idle_looks: u32,
}

impl PeerState {
    fn ask(&mut self, mut pending: Pending) {
        self.idle_looks = 0;
        self.last_request += 1;
        if let Some(channel) = &self.channel {
            pending.send(self.last_request, channel);
        }
        self.pending.insert(self.last_request, pending);
    }
}

impl Peer {
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Closes the connection if looks enough have found it unused; says whether it did. A question
    /// that comes at this moment is given back, and asked over a new connection.
    pub(super) fn close_if_idle(&self, is_busy: bool) -> bool {
        let mut state = self.state.lock();
        let is_used = is_busy || state.channel.is_none() || !state.pending.is_empty();
        state.idle_looks = if is_used { 0 } else { state.idle_looks + 1 };
        if state.ended || state.idle_looks < LOOKS {
            return false;
        }
        state.ended = true;
        let channel = state.channel.take();
        drop(state);
        if let Some(channel) = channel {
            channel.close("idle");
        }
        true
    }

    /// Gives the question back when the connection has ended.
    fn ask(&self, pending: Pending) -> Option<Pending> {
        let mut state = self.state.lock();
        if state.ended {
            return Some(pending);
        }
        state.ask(pending);
        None
    }

    fn opened(&self, channel: &Arc<Channel>) {
        let mut state = self.state.lock();
        if state.ended {
            return channel.abort("closed by this side");
        }
        for (request, pending) in &mut state.pending {
            pending.send(*request, channel);
        }
        state.channel = Some(channel.clone());
    }

    fn end(&self, error: &FetchError) {
        let (pending, channel) = {
            let mut state = self.state.lock();
            state.ended = true;
            (std::mem::take(&mut state.pending), state.channel.take())
        };
        if let Some(channel) = channel {
            channel.abort("closed by this side");
        }
        for pending in pending.into_values() {
            pending.fail(error.clone());
        }
    }

    fn take(&self, request: u64) -> Result<Pending, String> {
        let pending = self.state.lock().pending.remove(&request);
        pending.ok_or_else(|| "an answer to a question that was not asked".into())
    }

    fn on_fetched(
        &self,
        reply: FetchReply,
        data: Bytes,
        files: &mut VecDeque<OwnedFd>,
    ) -> Result<(), String> {
        let pending = match self.take(reply.request)? {
            Pending::Fetch(fetch) => fetch,
            other => {
                self.restore(reply.request, other);
                return Err("a fetch's answer to something else".into());
            }
        };
        self.merge(reply, data, files, pending)
    }

    /// Adds the answers; asks again for what the reply had no room for.
    fn merge(
        &self,
        reply: FetchReply,
        data: Bytes,
        files: &mut VecDeque<OwnedFd>,
        mut pending: PendingFetch,
    ) -> Result<(), String> {
        if let Err(reason) = pending.add(&reply, data, files) {
            self.restore(reply.request, Pending::Fetch(pending));
            return Err(reason);
        }
        if pending.open.is_empty() {
            let answers = pending.answers.into_iter().flatten();
            let answers = pending.tasks.into_iter().zip(answers).collect();
            (pending.on_answers)(Ok(answers));
        } else if let Some(refused) = self.ask(Pending::Fetch(pending)) {
            refused.fail(FetchError::Closed);
        }
        Ok(())
    }

    /// Puts a question back that will fail with the connection.
    fn restore(&self, request: u64, pending: Pending) {
        self.state.lock().pending.insert(request, pending);
    }

    fn on_put_done(&self, reply: PutReply) -> Result<(), String> {
        match self.take(reply.request)? {
            Pending::Put(put) if reply.in_frame && !put.in_frame => {
                let put = Pending::Put(PendingPut { in_frame: true, ..put });
                if let Some(refused) = self.ask(put) {
                    refused.fail(FetchError::Closed);
                }
                Ok(())
            }
            Pending::Put(put) => {
                let address = self.address.clone();
                (put.on_reply)(match reply.error {
                    reason if reason.is_empty() => Ok(()),
                    reason => Err(FetchError::Refused { address, reason }),
                });
                Ok(())
            }
            other => {
                self.restore(reply.request, other);
                Err("a put's answer to something else".into())
            }
        }
    }

    fn on_shards(&self, reply: &ShardsReply, data: Bytes) -> Result<(), String> {
        match self.take(reply.request)? {
            Pending::Shards(shards) => shards.answer(reply, data).map_err(|(shards, reason)| {
                self.restore(reply.request, Pending::Shards(shards));
                reason.into()
            }),
            other => {
                self.restore(reply.request, other);
                Err("pieces of files for another question".into())
            }
        }
    }

    /// The worker leaves: calls that have not begun there may be made elsewhere, and nothing else is
    /// answered.
    fn on_parting(&self, parting: &Parting) {
        if let Some(client) = self.client.upgrade() {
            client.remove(self);
        }
        let mut pending = {
            let mut state = self.state.lock();
            state.ended = true;
            std::mem::take(&mut state.pending)
        };
        let begun: BTreeMap<_, _> = parting
            .begun
            .iter()
            .filter_map(|request| Some((*request, pending.remove(request)?)))
            .collect();
        let (calls, others): (Vec<_>, Vec<_>) =
            pending.into_values().partition(|question| matches!(question, Pending::Call(_)));
        for call in calls {
            call.fail(FetchError::Unreachable(format!("the worker at {} leaves", self.address)));
        }
        for question in begun.into_values().chain(others) {
            question.fail(self.lost("the worker leaves"));
        }
        self.end(&FetchError::Closed);
    }

    fn lost(&self, reason: &str) -> FetchError {
        FetchError::Lost { address: self.address.clone(), reason: reason.into() }
    }

    fn on_called(&self, reply: ActorReply, data: Bytes) -> Result<(), String> {
        let request = reply.request;
        match self.take(request)? {
            Pending::Call(call) => call.answer(reply, data).map_err(|(call, reason)| {
                self.restore(request, Pending::Call(call));
                reason
            }),
            other => {
                self.restore(request, other);
                Err("an actor's answer to something else".into())
            }
        }
    }
}

/// The receiving half of a peer's connection.
struct Asking {
    peer: Arc<Peer>,
    /// Descriptors of frames that have not been read yet.
    files: VecDeque<OwnedFd>,
}

impl Asking {
    fn lost(&self, reason: &str) {
        if let Some(client) = self.peer.client.upgrade() {
            client.remove(&self.peer);
        }
        self.peer.end(&self.peer.lost(reason));
    }
}

impl Protocol<Io> for Asking {
    fn on_frame(&mut self, _: &mut Io, frame: Frame) -> Result<(), String> {
        let message = PeerMessage::read_body(frame.kind, &frame.head);
        match message.map_err(|error| error.to_string())? {
            PeerMessage::Parting(parting) => {
                self.peer.on_parting(&parting);
                Ok(())
            }
            PeerMessage::FetchReply(reply) => {
                self.peer.on_fetched(reply, frame.data, &mut self.files)
            }
            PeerMessage::PutReply(reply) => self.peer.on_put_done(reply),
            PeerMessage::ActorReply(reply) => self.peer.on_called(reply, frame.data),
            PeerMessage::ShardsReply(reply) => self.peer.on_shards(&reply, frame.data),
            PeerMessage::RangeReply(_) => {
                Err("an answer to a range over another connection".into())
            }
            PeerMessage::Fetch(_)
            | PeerMessage::Put(_)
            | PeerMessage::Range(_)
            | PeerMessage::EndTransfer(_)
            | PeerMessage::ActorCall(_)
            | PeerMessage::ReadShards(_) => Err("a question to an asker".into()),
        }
    }

    fn on_files(&mut self, _: &mut Io, files: Vec<OwnedFd>, lost: bool) -> Result<(), String> {
        self.files.extend(files);
        if !lost {
            return Ok(());
        }
        if let Some(client) = self.peer.client.upgrade() {
            client.in_frame.lock().insert(self.peer.address.clone());
        }
        Err("this process has too many open files to take another: values will come as bytes"
            .into())
    }

    fn on_batch_end(&mut self, _: &mut Io) {}

    fn on_closed(&mut self, _: &mut Io, reason: &str) {
        self.lost(reason);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Does nothing after `on_closed`.
        self.lost("the connection's thread ended");
    }
}
