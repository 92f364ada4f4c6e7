//! Listening sockets: TCP, and for loopback ports a unix socket beside it.

use crate::address::{Address, AddressError, outward_ip};
use crate::event_loop::{Control, Flow, Handler, Ready, Remote};
use crate::framed::{Bounds, Framed, Protocol, Stranger};
use crate::log;
use crate::runtime_dir::companion_to_bind;
use crate::stream::Stream;
use crate::token::random_nonce;
use mio::unix::SourceFd;
use mio::{Interest, Token as Source};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use taskloom_proto::handshake::{Accepting, Token};

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("cannot listen on {address}: {source}")]
    Bind { address: Address, source: io::Error },
    #[error(
        "refusing to listen on {address}: other machines can reach it and the traffic is not \
         encrypted; listen on 127.0.0.1, or, on a network that you trust, allow it with \
         --allow-insecure-network (allow_insecure_network=True in Python)"
    )]
    InsecureNetwork { address: Address },
}

#[derive(Debug, Clone, Copy, Default)]
pub struct ListenOptions {
    /// Whether addresses that other machines can reach are allowed.
    pub allow_insecure_network: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf },
}

impl Socket {
    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => Stream::tcp(listener.accept()?.0),
            Self::Unix { listener, .. } => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }

    fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix { listener, .. } => listener.as_raw_fd(),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // Somebody may have cleaned up before.
            let _ = fs::remove_file(path);
        }
    }
}

/// A bound address. Dropping it stops listening and removes its socket file.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    sockets: Vec<Socket>,
}

impl Listener {
    /// Binds `address`; port 0 picks a free one.
    pub fn bind(address: &Address, options: ListenOptions) -> Result<Self, ListenError> {
        match address {
            Address::Unix(path) => {
                let failed = |source| ListenError::Bind { address: address.clone(), source };
                let socket = bind_unix(path).map_err(failed)?;
                Ok(Self { address: address.clone(), sockets: vec![socket] })
            }
            Address::Tcp { .. } => Self::bind_tcp(address, options),
        }
    }

    fn bind_tcp(address: &Address, options: ListenOptions) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { address: address.clone(), source };
        let resolved = address.resolve()?;
        if !options.allow_insecure_network && resolved.iter().any(|a| !a.ip().is_loopback()) {
            return Err(ListenError::InsecureNetwork { address: address.clone() });
        }
        // One address is enough, and is the identity: of a name's several, the first.
        let listener = TcpListener::bind(resolved[0]).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        // The companion first: it closes, and its file goes, while the port is still ours.
        let sockets = bind_companion(bound).into_iter().chain([Socket::Tcp(listener)]).collect();
        Ok(Self { address: advertised(bound), sockets })
    }

    /// The address that others connect to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The socket files, for who cannot wait for the loop to remove them.
    #[must_use]
    pub fn socket_files(&self) -> Vec<PathBuf> {
        let path = |socket: &Socket| match socket {
            Socket::Unix { path, .. } => Some(path.clone()),
            Socket::Tcp(_) => None,
        };
        self.sockets.iter().filter_map(path).collect()
    }

    /// Serves connections on a loop. Returns the sources, for [`Remote::remove`].
    pub fn serve<S: 'static>(self, remote: &Arc<Remote<S>>, service: Service<S>) -> Vec<Source> {
        let service = Arc::new(service);
        let serve = |socket| {
            let source = remote.new_token();
            let (service, strangers) = (service.clone(), Arc::default());
            remote.add(source, Box::new(Acceptor { source, socket, service, strangers }));
            source
        };
        self.sockets.into_iter().map(serve).collect()
    }
}

/// The name under which a bound TCP address is told to others.
fn advertised(bound: SocketAddr) -> Address {
    let ip = match bound.ip() {
        ip if ip.is_unspecified() => outward_ip(ip).unwrap_or(ip),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port()).into()
}

/// The TCP port is ours now, so a socket file of its name was left by a process that is gone.
/// Without a companion everything works, over TCP.
fn bind_companion(bound: SocketAddr) -> Option<Socket> {
    let path = companion_to_bind(bound)?;
    let _ = fs::remove_file(&path);
    bind_unix(&path).ok()
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_alive(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let socket = Socket::Unix { listener, path: path.into() };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    if let Socket::Unix { listener, .. } = &socket {
        listener.set_nonblocking(true)?;
    }
    Ok(socket)
}

fn is_alive(path: &Path) -> bool {
    match UnixStream::connect(path) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}

/// What a listener's connections speak.
pub struct Service<S> {
    pub token: Token,
    pub epoch: u64,
    pub bounds: Bounds,
    pub protocol: Box<dyn Fn() -> Box<dyn Protocol<S>> + Send + Sync>,
}

struct Acceptor<S> {
    source: Source,
    socket: Socket,
    service: Arc<Service<S>>,
    /// Connections that have not proved the token yet.
    strangers: Arc<AtomicUsize>,
}

impl<S: 'static> Acceptor<S> {
    /// More strangers than this are turned away: they must not use up the process's files. The
    /// companion socket, which only the user himself can reach, counts its own.
    const MAX_STRANGERS: usize = 128;
    /// Pause after an error such as too many open files: it passes when connections close.
    const ERROR_PAUSE: Duration = Duration::from_millis(100);
    /// Connections taken in one turn.
    const PER_TURN: usize = 64;

    fn accept_all(&self, control: &mut Control<S>) -> Flow {
        for _ in 0..Self::PER_TURN {
            match self.accept_one(control) {
                Ok(()) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Flow::Wait,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        log::report(&format!("cannot accept a connection: {error}"));
                        return Flow::RetryAfter(Self::ERROR_PAUSE);
                    }
                },
            }
        }
        Flow::Again
    }

    fn accept_one(&self, control: &mut Control<S>) -> io::Result<()> {
        let stream = self.socket.accept()?;
        let admitted = Stranger::admit(&self.strangers, Self::MAX_STRANGERS);
        let Some(stranger) = admitted else { return Ok(()) };
        stream.set_nonblocking()?;
        let service = &*self.service;
        let nonce = random_nonce().map_err(io::Error::other)?;
        let accepting = Accepting::new(service.token.clone(), service.epoch, nonce);
        let protocol = (service.protocol)();
        let framed = Framed::accepted(
            stream,
            stranger,
            control.remote(),
            accepting,
            service.bounds,
            protocol,
        );
        control.add(framed.sender().token(), Box::new(framed));
        Ok(())
    }
}

impl<S: 'static> Handler<S> for Acceptor<S> {
    fn on_added(&mut self, _: &mut S, control: &mut Control<S>) -> Flow {
        let fd = self.socket.fd();
        let registry = control.remote().registry();
        if let Err(error) = registry.register(&mut SourceFd(&fd), self.source, Interest::READABLE) {
            log::report(&format!("cannot watch a listening socket: {error}"));
            return Flow::Done;
        }
        self.accept_all(control)
    }

    fn on_ready(&mut self, _: &mut S, control: &mut Control<S>, _: Ready) -> Flow {
        self.accept_all(control)
    }

    fn on_stop(&mut self, _: &mut S) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Result<Listener, ListenError> {
        Listener::bind(&text.parse().unwrap(), ListenOptions::default())
    }

    #[test]
    fn listening_off_loopback_needs_permission() {
        for text in ["tcp://0.0.0.0:0", "tcp://192.0.2.7:0"] {
            let error = bind(text).unwrap_err();
            assert!(matches!(error, ListenError::InsecureNetwork { .. }));
            assert!(error.to_string().contains("--allow-insecure-network"));
        }
    }

    #[test]
    fn a_socket_file_left_by_a_dead_process_is_replaced_and_a_live_one_is_kept() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("s.sock");
        let text = format!("unix://{}", path.display());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = bind(&text).unwrap();
        assert!(matches!(bind(&text), Err(ListenError::Bind { .. })));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn the_companion_socket_goes_with_its_listener() {
        let listener = bind("tcp://127.0.0.1:0").unwrap();
        let paths = listener.socket_files();
        assert!(paths.iter().all(|path| path.exists()));
        drop(listener);
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
