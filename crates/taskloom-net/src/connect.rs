//! Connecting: the companion socket first, then TCP; the handshake; and why it failed.

use crate::address::{Address, AddressError};
use crate::runtime_dir::companion_to_connect;
use crate::stream::Stream;
use crate::token::{TokenError, random_nonce};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};
use taskloom_proto::frame::{Frame, FrameLimits, FrameReader};
use taskloom_proto::handshake::{Connecting, Features, HandshakeError, Role, Step, Token};
use taskloom_proto::relay::{RelayTo, Relayed};
use taskloom_proto::session::{Resume, Welcome};

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody answered within the time.
    #[error("cannot connect to {address} within {seconds} s: {reason}")]
    Unreachable { address: String, seconds: f64, reason: String },
    /// Somebody answered and the handshake failed: trying again would not help.
    #[error("cannot connect to {address}: {source}")]
    Handshake { address: String, source: HandshakeError },
    /// The scheduler did not connect us.
    #[error("the scheduler at {relay} cannot pass on to {address}: {reason}")]
    NotRelayed { relay: String, address: String, reason: String },
}

#[derive(Debug, Clone, Copy)]
pub struct ConnectOptions {
    /// Bounds connecting and handshake together.
    pub timeout: Duration,
    /// Whether to try again, until the time is over, when nobody listens yet.
    pub retry: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), retry: false }
    }
}

/// An open connection, non-blocking, its handshake done.
#[derive(Debug)]
pub struct Connected {
    pub stream: Stream,
    /// May hold bytes that came behind the handshake.
    pub reader: FrameReader,
    /// The other side's epoch.
    pub epoch: u64,
    /// What the other side can read.
    pub features: Features,
    /// About the session of this connection, if it has one.
    pub welcome: Welcome,
    /// Whether a scheduler passes it on.
    pub is_relayed: bool,
}

enum Failure {
    /// Nobody there, or gone in the middle.
    Io(io::Error),
    Final(ConnectError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Connects and proves the token. Blocks the caller for up to `options.timeout`.
pub fn connect(
    address: &Address,
    role: Role,
    token: &Token,
    options: ConnectOptions,
) -> Result<Connected, ConnectError> {
    resume(address, role, token, options, None)
}

/// As [`connect`], and asks for a session of that epoch to go on; whether it does stands in
/// [`Connected::welcome`].
pub fn resume(
    address: &Address,
    role: Role,
    token: &Token,
    options: ConnectOptions,
    session: Option<(u64, Resume)>,
) -> Result<Connected, ConnectError> {
    let start = Instant::now();
    let deadline = start + options.timeout;
    let mut pause = Duration::from_millis(10);
    loop {
        let error = match attempt(address, role, token, deadline, session.clone()) {
            Ok(connected) => return Ok(connected),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Io(error)) => error,
        };
        if !options.retry || Instant::now() + pause >= deadline {
            let seconds = (options.timeout.as_secs_f64() * 1000.0).round() / 1000.0;
            let (address, reason) = (address.to_string(), error.to_string());
            return Err(ConnectError::Unreachable { address, seconds, reason });
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

fn attempt(
    address: &Address,
    role: Role,
    token: &Token,
    deadline: Instant,
    session: Option<(u64, Resume)>,
) -> Result<Connected, Failure> {
    let stream = open(address, deadline)?;
    let connected = introduce(stream, &address.to_string(), role, token, deadline, session)?;
    connected.stream.set_nonblocking()?;
    Ok(connected)
}

/// The handshake of the side that connects. The stream still blocks.
fn introduce(
    stream: Stream,
    address: &str,
    role: Role,
    token: &Token,
    deadline: Instant,
    session: Option<(u64, Resume)>,
) -> Result<Connected, Failure> {
    let nonce = random_nonce().map_err(|error| Failure::Final(error.into()))?;
    let (connecting, hello) = Connecting::start(token.clone(), role, nonce, session);
    let mut reader = FrameReader::new(FrameLimits::HANDSHAKE);
    let opened = shake_hands(&stream, &mut reader, connecting, &hello, deadline);
    let Opened { epoch, features, welcome } = opened.map_err(|failure| match failure {
        Shake::Io(error) => Failure::Io(error),
        Shake::Refused(source) => {
            Failure::Final(ConnectError::Handshake { address: address.into(), source })
        }
    })?;
    Ok(Connected { stream, reader, epoch, features, welcome, is_relayed: false })
}

/// Connects to the worker at `target` by way of the scheduler at `relay`. Blocks the caller for up to
/// `timeout`.
pub fn connect_through(
    relay: &Address,
    target: &str,
    token: &Token,
    timeout: Duration,
) -> Result<Connected, ConnectError> {
    let deadline = Instant::now() + timeout;
    let connected = attempt_through(relay, target, token, deadline);
    connected.map_err(|failure| match failure {
        Failure::Final(error) => error,
        Failure::Io(error) => not_relayed(relay, target, &error.to_string()),
    })
}

fn not_relayed(relay: &Address, target: &str, reason: &str) -> ConnectError {
    let (relay, address, reason) = (relay.to_string(), target.into(), reason.into());
    ConnectError::NotRelayed { relay, address, reason }
}

fn attempt_through(
    relay: &Address,
    target: &str,
    token: &Token,
    deadline: Instant,
) -> Result<Connected, Failure> {
    let stream = open(relay, deadline)?;
    let outer = introduce(stream, &relay.to_string(), Role::Relay, token, deadline, None)?;
    let Connected { stream, mut reader, .. } = outer;
    let wish = RelayTo { address: target.into() };
    send(&stream, &wish.to_frame(), deadline).map_err(unwrapped)?;
    // Nothing follows the answer before we have spoken: no byte stays in this reader.
    let frame = receive(&stream, &mut reader, deadline).map_err(unwrapped)?;
    let answer = Relayed::of_frame(&frame).map_err(io::Error::other)?;
    if !answer.reason.is_empty() {
        return Err(Failure::Final(not_relayed(relay, target, &answer.reason)));
    }
    let connected = introduce(stream, target, Role::Peer, token, deadline, None)?;
    connected.stream.set_nonblocking()?;
    Ok(Connected { is_relayed: true, ..connected })
}

fn unwrapped(failure: Shake) -> Failure {
    match failure {
        Shake::Io(error) => Failure::Io(error),
        Shake::Refused(error) => Failure::Io(io::Error::other(error)),
    }
}

/// Opens a plain TCP connection to a worker, to pass bytes on: no companion socket, over which it
/// would send descriptors. The stream is non-blocking. Blocks the caller for up to `timeout`.
pub fn open_plain(address: &Address, timeout: Duration) -> Result<Stream, ConnectError> {
    let deadline = Instant::now() + timeout;
    let Address::Tcp { .. } = address else {
        let reason = "only processes of its host can reach it".into();
        let (address, seconds) = (address.to_string(), 0.0);
        return Err(ConnectError::Unreachable { address, seconds, reason });
    };
    let mut reason = String::from("its name has no address");
    for resolved in address.resolve()? {
        let left = deadline.saturating_duration_since(Instant::now());
        let opened = Stream::connect_tcp(&resolved, left.max(Duration::from_millis(1)));
        match opened.and_then(|stream| stream.set_nonblocking().map(|()| stream)) {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = error.to_string(),
        }
    }
    let (address, seconds) = (address.to_string(), timeout.as_secs_f64());
    Err(ConnectError::Unreachable { address, seconds, reason })
}

fn open(address: &Address, deadline: Instant) -> Result<Stream, Failure> {
    if let Address::Unix(path) = address {
        return Ok(Stream::connect_unix(path)?);
    }
    let resolved = address.resolve().map_err(|error| Failure::Final(error.into()))?;
    let mut failed = None;
    for address in &resolved {
        match open_tcp(address, deadline) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()).into())
}

fn open_tcp(address: &SocketAddr, deadline: Instant) -> io::Result<Stream> {
    let companion = companion_to_connect(*address);
    // A socket file that nobody serves any more says nothing about the port.
    if let Some(Ok(stream)) = companion.map(|path| Stream::connect_unix(&path)) {
        return Ok(stream);
    }
    let left = deadline.saturating_duration_since(Instant::now());
    Stream::connect_tcp(address, left.max(Duration::from_millis(1)))
}

enum Shake {
    Io(io::Error),
    Refused(HandshakeError),
}

impl From<io::Error> for Shake {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HandshakeError> for Shake {
    fn from(error: HandshakeError) -> Self {
        Self::Refused(error)
    }
}

/// What the other side has said.
struct Opened {
    epoch: u64,
    features: Features,
    welcome: Welcome,
}

fn shake_hands(
    stream: &Stream,
    reader: &mut FrameReader,
    mut connecting: Connecting,
    hello: &[u8],
    deadline: Instant,
) -> Result<Opened, Shake> {
    send(stream, hello, deadline)?;
    loop {
        let frame = receive(stream, reader, deadline)?;
        match connecting.on_frame(&frame)? {
            Step::Send(bytes) => send(stream, &bytes, deadline)?,
            Step::Open { epoch, features, welcome } => {
                return Ok(Opened { epoch, features, welcome });
            }
            // Said only by the side that accepts.
            Step::Proved { .. } => return Err(HandshakeError::NotTaskloom.into()),
        }
    }
}

/// Sets what is left as the time for the next blocking call.
fn limit(stream: &Stream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the handshake"));
    }
    stream.set_timeout(left)
}

/// A blocking call that ran into its time says `WouldBlock`; people do not.
fn named(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "no answer to the handshake")
        }
        _ => error,
    }
}

fn send(stream: &Stream, mut bytes: &[u8], deadline: Instant) -> Result<(), Shake> {
    while !bytes.is_empty() {
        limit(stream, deadline)?;
        match stream.write_slices(&[IoSlice::new(bytes)], &[]) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(named(error).into()),
        }
    }
    Ok(())
}

fn receive(stream: &Stream, reader: &mut FrameReader, deadline: Instant) -> Result<Frame, Shake> {
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(_) => return Err(HandshakeError::NotTaskloom.into()),
        }
        limit(stream, deadline)?;
        match stream.read_into(reader.room(1024)) {
            Ok(0) => {
                let ended = "the other side closed the connection during the handshake";
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, ended).into());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(named(error).into()),
        }
    }
}
