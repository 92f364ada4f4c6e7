//! A connected non-blocking stream socket, TCP or unix; reading and writing need no `&mut`.

use bytes::BytesMut;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use taskloom_proto::frame::FrameReader;

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a [`Stream::fill`] left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Nothing more to read now; the poller reports when there is.
    Drained,
    /// The budget is used up: call again without waiting for the poller.
    More,
    /// The other side will send nothing more.
    Ended,
}

/// Room offered to one read.
const READ_BYTES: usize = 64 * 1024;

impl Stream {
    pub fn connect_tcp(address: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::tcp(TcpStream::connect_timeout(address, timeout)?)
    }

    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(UnixStream::connect(path)?))
    }

    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    pub fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Unix(stream) => stream.set_nonblocking(true),
        }
    }

    /// For blocking use, before [`Stream::set_nonblocking`].
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        // Zero would mean for ever.
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }

    /// Ends both directions: the owner's poller sees the end, and so does the other side.
    pub fn shutdown(&self) {
        // Fails only when the other side has already gone.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// The other side, for reports.
    #[must_use]
    pub fn peer(&self) -> String {
        match self {
            Self::Tcp(stream) => stream
                .peer_addr()
                .map_or_else(|_| "a closed connection".into(), |peer| format!("tcp://{peer}")),
            Self::Unix(_) => "a process of this host".into(),
        }
    }

    /// Reads once into the spare room of `buffer`; 0 means the end.
    pub fn read_into(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let (read, _) = rustix::net::recv(self, buffer.spare_capacity_mut(), RecvFlags::empty())
            .map(|(read, _)| (read.0.len(), read.1))?;
        let length = buffer.len() + read;
        // SAFETY: `recv` initialised the first `read` bytes of the spare capacity.
        unsafe { buffer.set_len(length) };
        Ok(read)
    }

    /// Reads until nothing is left or about `budget` bytes were read.
    pub fn fill(&self, reader: &mut FrameReader, budget: usize) -> io::Result<Fill> {
        let mut total = 0;
        while total < budget {
            let buffer = reader.room(READ_BYTES);
            let offered = buffer.capacity() - buffer.len();
            match self.read_into(buffer) {
                Ok(0) => return Ok(Fill::Ended),
                // A short read empties a stream socket: no second call to learn that.
                Ok(read) if read < offered => return Ok(Fill::Drained),
                Ok(read) => total += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Fill::Drained);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Fill::More)
    }

    /// Writes once; never raises SIGPIPE, whatever the program did with that signal.
    pub fn write_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let control = &mut SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(self, slices, control, SendFlags::NOSIGNAL)?)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
