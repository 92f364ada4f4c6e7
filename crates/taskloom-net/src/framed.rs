//! The receiving half of a connection: the handshake, then frames for a [`Protocol`].

use crate::channel::Channel;
use crate::connect::Connected;
use crate::event_loop::{Control, Flow, Handler, Ready, Remote};
use crate::log;
use crate::stream::{FileReader, Fill, Stream};
use bytes::{Bytes, BytesMut};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use taskloom_proto::frame::{Frame, FrameLimits, FrameReader, HEADER_BYTES, Landing};
use taskloom_proto::handshake::{Accepting, HandshakeError, Role, Step};
use taskloom_proto::session::{self, Alive, Farewell, Resume, Welcome};
use taskloom_proto::wire::{Reader, Wire};

/// Bounds of a kind of connection.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub frames: FrameLimits,
    /// How long a stranger may take to prove that he knows the token.
    pub handshake_time: Duration,
    /// Bytes read in one turn, so that a busy connection does not starve the others.
    pub read_per_turn: usize,
    /// Unsent bytes after which a connection is given up.
    pub max_queued: usize,
    /// Whether unix sockets pass descriptors.
    pub files: bool,
}

impl Bounds {
    /// Messages between scheduler and the others.
    pub const CONTROL: Self = Self {
        frames: FrameLimits::CONTROL,
        handshake_time: Duration::from_secs(10),
        read_per_turn: 256 * 1024,
        max_queued: 1024 * 1024 * 1024,
        files: false,
    };
    /// Values: they are referred to, not copied, so what waits costs little.
    pub const DATA: Self = Self {
        frames: FrameLimits::DATA,
        handshake_time: Duration::from_secs(10),
        read_per_turn: 4 * 1024 * 1024,
        max_queued: 1 << 40,
        files: true,
    };
}

/// What is spoken on a connection after the handshake.
pub trait Protocol<S>: Send {
    /// The other side has proved that it knows the token, and perhaps asks for a session to go on.
    /// An error refuses it. Only asked of the side that accepts connections.
    fn on_open(
        &mut self,
        _owner: &mut S,
        _channel: &Arc<Channel>,
        _role: Role,
        _resume: Option<Resume>,
    ) -> Result<Welcome, String> {
        Err("nobody connects to this side".into())
    }
    /// The welcome was sent: a session may be started on the channel.
    fn on_welcomed(&mut self, _: &mut S, _: &Arc<Channel>) {}
    /// An error closes the connection.
    fn on_frame(&mut self, owner: &mut S, frame: Frame) -> Result<(), String>;
    /// Descriptors came, with or before the frame that they belong to, in its order. `lost`: some
    /// did not, since this process has too many open files. An error closes the connection.
    fn on_files(&mut self, _: &mut S, _: Vec<OwnedFd>, _lost: bool) -> Result<(), String> {
        Err("descriptors are not expected here".into())
    }
    /// Where the data of a frame that begins shall go: an empty buffer with room for `length`
    /// bytes. Only asked when it is long.
    fn place_for(&mut self, _kind: u8, _head: &Bytes, _length: usize) -> Option<BytesMut> {
        None
    }
    /// A frame whose data are where [`Protocol::place_for`] said. An error closes the connection.
    fn on_placed(&mut self, _: &mut S, _: Landing) -> Result<(), String> {
        Ok(())
    }
    /// The connection ends in the middle of a frame's data. Called before `on_closed`.
    fn on_cut_off(&mut self, _: Landing) {}
    /// Nothing more was read this turn.
    fn on_batch_end(&mut self, owner: &mut S);
    /// The last call, once, if there was an `on_open`. `reason` is for people.
    fn on_closed(&mut self, owner: &mut S, reason: &str);
}

/// Counts the strangers of one listening socket while it lives.
#[derive(Debug)]
pub(crate) struct Stranger(Arc<AtomicUsize>);

impl Stranger {
    /// `None` when there are `limit` already.
    pub(crate) fn admit(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let stranger = Self(count.clone());
        // Over the limit, dropping it takes the count back.
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(stranger)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Phase {
    Handshake { accepting: Accepting, opened: Arc<AtomicBool>, _stranger: Stranger },
    Open,
    Closed,
}

/// A connection of an event loop.
pub struct Framed<S> {
    channel: Arc<Channel>,
    reader: FrameReader,
    /// On connections that pass descriptors.
    files: Option<FileReader>,
    bounds: Bounds,
    phase: Phase,
    protocol: Box<dyn Protocol<S>>,
    /// Bytes of the session that the other side knows to be received.
    acknowledged: u64,
    /// The other side has asked for a sign of life.
    is_asked: bool,
}

/// Unacknowledged bytes of a session after which the other side is told, so that it can forget.
const ACKNOWLEDGE_BYTES: u64 = 128 * 1024;

impl<S: 'static> Framed<S> {
    /// A stranger's connection.
    pub(crate) fn accepted(
        stream: Stream,
        stranger: Stranger,
        remote: &Remote<S>,
        accepting: Accepting,
        bounds: Bounds,
        protocol: Box<dyn Protocol<S>>,
    ) -> Self {
        let opened = Arc::new(AtomicBool::new(false));
        let channel = Self::channel(stream, remote, bounds);
        Self {
            files: channel.passes_files().then(FileReader::default),
            channel,
            reader: FrameReader::new(FrameLimits::HANDSHAKE),
            bounds,
            phase: Phase::Handshake { accepting, opened, _stranger: stranger },
            protocol,
            acknowledged: 0,
            is_asked: false,
        }
    }

    /// A connection that has its handshake behind it.
    pub fn connected(
        connected: Connected,
        remote: &Remote<S>,
        bounds: Bounds,
        protocol: Box<dyn Protocol<S>>,
    ) -> Self {
        let Connected { stream, mut reader, features, is_relayed, .. } = connected;
        reader.set_limits(bounds.frames);
        // Who passes bytes on drops the descriptors that come with them.
        let bounds = Bounds { files: bounds.files && !is_relayed, ..bounds };
        let channel = Self::channel(stream, remote, bounds);
        channel.set_features(features);
        Self {
            files: channel.passes_files().then(FileReader::default),
            channel,
            reader,
            bounds,
            phase: Phase::Open,
            protocol,
            acknowledged: 0,
            is_asked: false,
        }
    }

    fn channel(stream: Stream, remote: &Remote<S>, bounds: Bounds) -> Arc<Channel> {
        let registry = remote.registry().clone();
        let files = bounds.files && matches!(stream, Stream::Unix(_));
        Arc::new(Channel::new(stream, remote.new_token(), registry, bounds.max_queued, files))
    }

    #[must_use]
    pub fn sender(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Hands the connection to its loop.
    pub fn start(self, remote: &Remote<S>) {
        remote.add(self.channel.token(), Box::new(self));
    }

    fn watch_handshake(&self, control: &Control<S>) {
        let Phase::Handshake { opened, .. } = &self.phase else { return };
        let (opened, channel) = (opened.clone(), Arc::downgrade(&self.channel));
        control.remote().add_timer(self.bounds.handshake_time, None, move |_, _| {
            if !opened.load(Ordering::Relaxed)
                && let Some(channel) = channel.upgrade()
            {
                channel.abort("the handshake took too long");
            }
        });
    }

    fn read(&mut self, owner: &mut S, ended: bool) -> Flow {
        let mut fill = self.fill();
        if ended && matches!(fill, Ok(Fill::Drained)) {
            // The end itself is still to be read, and no event will say so again.
            fill = self.fill();
        }
        let taken = self.take_files(owner).and_then(|()| self.take_frames(owner));
        if self.channel.is_detached() {
            self.phase = Phase::Closed;
            return Flow::Done;
        }
        if let Err(reason) = taken {
            let peer = self.channel.stream().peer();
            log::report(&format!("closed the connection of {peer}: {reason}"));
            self.channel.close(&reason);
            return self.closed(owner, &reason);
        }
        match fill {
            Ok(Fill::Drained) => Flow::Wait,
            Ok(Fill::More) => Flow::Again,
            Ok(Fill::Ended) => self.closed(owner, "the other side closed the connection"),
            Err(error) => self.closed(owner, &format!("connection lost: {error}")),
        }
    }

    fn fill(&mut self) -> io::Result<Fill> {
        let files = self.files.as_mut();
        self.channel.stream().fill(&mut self.reader, self.bounds.read_per_turn, files)
    }

    fn take_files(&mut self, owner: &mut S) -> Result<(), String> {
        let Some(files) = &mut self.files else { return Ok(()) };
        if files.files.is_empty() && !files.lost {
            return Ok(());
        }
        if !matches!(self.phase, Phase::Open) {
            return Err("descriptors came before the handshake".into());
        }
        let (files, lost) = (std::mem::take(&mut files.files), std::mem::take(&mut files.lost));
        self.protocol.on_files(owner, files, lost)
    }

    fn take_frames(&mut self, owner: &mut S) -> Result<(), String> {
        let mut any = false;
        let result = loop {
            let protocol = &mut self.protocol;
            let next = self
                .reader
                .next_frame_into(|kind, head, length| protocol.place_for(kind, head, length));
            match next {
                Ok(None) => {
                    let Some(landing) = self.reader.take_placed() else { break Ok(()) };
                    any = true;
                    if let Err(reason) = self.protocol.on_placed(owner, landing) {
                        break Err(reason);
                    }
                }
                Ok(Some(frame)) => {
                    any = true;
                    self.channel.note_heard();
                    if let Err(reason) = self.take_frame(owner, frame) {
                        break Err(reason);
                    }
                }
                Err(error) => break Err(error.to_string()),
            }
        };
        if any && matches!(self.phase, Phase::Open) {
            self.protocol.on_batch_end(owner);
            self.acknowledge();
        }
        result
    }

    /// Tells the other side how far the session was received, if it is time.
    fn acknowledge(&mut self) {
        let received = self.channel.received();
        if self.is_asked || received - self.acknowledged >= ACKNOWLEDGE_BYTES {
            self.is_asked = false;
            self.acknowledged = received;
            self.channel.send_alive(false);
        }
    }

    fn take_frame(&mut self, owner: &mut S, frame: Frame) -> Result<(), String> {
        match &mut self.phase {
            Phase::Open if self.channel.is_session() => self.take_session_frame(owner, frame),
            Phase::Open => self.protocol.on_frame(owner, frame),
            Phase::Closed => Ok(()),
            Phase::Handshake { accepting, .. } => {
                let step = accepting.on_frame(&frame);
                self.follow_handshake(owner, step)
            }
        }
    }

    fn take_session_frame(&mut self, owner: &mut S, frame: Frame) -> Result<(), String> {
        if self.channel.is_superseded() {
            return Ok(());
        }
        self.channel.count_received((HEADER_BYTES + frame.head.len() + frame.data.len()) as u64);
        if frame.kind < session::FIRST_KIND {
            return self.protocol.on_frame(owner, frame);
        }
        let reader = &mut Reader::new(&frame.head);
        match frame.kind {
            session::ALIVE => {
                let alive = Alive::read(reader).map_err(|error| error.to_string())?;
                self.is_asked |= alive.asks;
                self.channel.acknowledge(alive.received)
            }
            session::FAREWELL => {
                let farewell = Farewell::read(reader).map_err(|error| error.to_string())?;
                self.channel.abort(&farewell.reason);
                Ok(())
            }
            kind => Err(format!("unknown session frame {kind}")),
        }
    }

    fn follow_handshake(
        &mut self,
        owner: &mut S,
        step: Result<Step, HandshakeError>,
    ) -> Result<(), String> {
        let (send, result) = match step {
            Ok(Step::Send(send)) => (send, Ok(false)),
            Ok(Step::Proved { role, features, resume }) => {
                self.channel.set_features(features);
                match self.open(owner, role, resume) {
                    Ok(welcome) => (Accepting::welcome(&welcome), Ok(true)),
                    Err(reason) => (Accepting::refusal(&reason), Err(reason)),
                }
            }
            // Said only by the side that connects.
            Ok(Step::Open { .. }) => return Ok(()),
            Err(error) => (Accepting::rejection(&error), Err(error.to_string())),
        };
        self.channel.queue(|queue| queue.append(|chunk| chunk.extend_from_slice(&send)));
        self.channel.flush();
        if result? {
            self.protocol.on_welcomed(owner, &self.channel);
        }
        Ok(())
    }

    fn open(
        &mut self,
        owner: &mut S,
        role: Role,
        resume: Option<Resume>,
    ) -> Result<Welcome, String> {
        let welcome = self.protocol.on_open(owner, &self.channel, role, resume)?;
        self.reader.set_limits(self.bounds.frames);
        if let Phase::Handshake { opened, .. } = std::mem::replace(&mut self.phase, Phase::Open) {
            opened.store(true, Ordering::Relaxed);
        }
        Ok(welcome)
    }

    fn closed(&mut self, owner: &mut S, reason: &str) -> Flow {
        let ours = self.channel.close_reason();
        let reason = ours.as_deref().unwrap_or(reason);
        self.channel.lose(reason);
        self.channel.deregister();
        if matches!(std::mem::replace(&mut self.phase, Phase::Closed), Phase::Open) {
            if let Some(landing) = self.reader.take_landing() {
                self.protocol.on_cut_off(landing);
            }
            self.protocol.on_closed(owner, reason);
        }
        Flow::Done
    }
}

impl<S: 'static> Handler<S> for Framed<S> {
    fn on_added(&mut self, owner: &mut S, control: &mut Control<S>) -> Flow {
        self.watch_handshake(control);
        if let Err(error) = self.channel.register() {
            return self.closed(owner, &format!("connection lost: {error}"));
        }
        // Also takes frames that came with the handshake's last bytes.
        self.read(owner, false)
    }

    fn on_ready(&mut self, owner: &mut S, _: &mut Control<S>, ready: Ready) -> Flow {
        if ready.writable {
            self.channel.on_writable();
        }
        if ready.readable || ready.ended { self.read(owner, ready.ended) } else { Flow::Wait }
    }

    fn on_stop(&mut self, owner: &mut S) {
        let reason = "the connection's event loop ended";
        self.channel.close(reason);
        self.closed(owner, reason);
    }
}

#[cfg(test)]
mod tests;
