//! A connected non-blocking stream socket, TCP or unix; reading and writing need no `&mut`.

use bytes::BytesMut;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use taskloom_proto::frame::{FrameReader, Landing};

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

/// Descriptors that one message may carry; the kernel takes up to 253.
pub const MAX_FILES: usize = 64;
/// Room for a control message with them.
const FILES_SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FILES));

/// Reads descriptors that come with the bytes of a unix socket.
#[derive(Debug)]
pub struct FileReader {
    /// The kernel wants initialised memory here.
    scratch: Box<[u8]>,
    /// What has come, in order.
    pub files: Vec<OwnedFd>,
    /// Some were lost: this process has too many open files.
    pub lost: bool,
}

impl Default for FileReader {
    fn default() -> Self {
        Self { scratch: vec![0; READ_BYTES].into(), files: Vec::new(), lost: false }
    }
}

impl FileReader {
    /// Reads once into `reader`, and descriptors aside. Returns how many bytes came, and whether
    /// the socket is known to be empty.
    fn read(&mut self, stream: &Stream, reader: &mut FrameReader) -> io::Result<(usize, bool)> {
        let mut space = [MaybeUninit::uninit(); FILES_SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut self.scratch)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(stream, slices, &mut control, flags)?;
        self.lost |= received.flags.contains(ReturnFlags::CTRUNC);
        let before = self.files.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        reader.extend(&self.scratch[..received.bytes]);
        // A read ends behind bytes that descriptors came with, whatever follows.
        let drained = received.bytes < self.scratch.len() && self.files.len() == before;
        Ok((received.bytes, drained))
    }
}

impl Stream {
    pub fn connect_tcp(address: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::tcp(TcpStream::connect_timeout(address, timeout)?)
    }

    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(UnixStream::connect(path)?))
    }

    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        watch_peer(&stream)?;
        Ok(Self::Tcp(stream))
    }

    /// Whether the other side is a process of this host, with nothing between: such a connection
    /// does not break, it is closed, by the process or by its end.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => Ok(Self::Tcp(stream.try_clone()?)),
            Self::Unix(stream) => Ok(Self::Unix(stream.try_clone()?)),
        }
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

    /// Says that nothing more will be written.
    pub(crate) fn end_writing(&self) {
        // Fails only when the other side has already gone.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Reads once; 0 means the end.
    pub(crate) fn read_slice(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self, buffer, RecvFlags::empty())?.0)
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

    /// Reads until nothing is left or about `budget` bytes were read. Where frames carry data, it
    /// stops after each read outside a large frame's data: the next bytes may be for a place of
    /// their own. `files`: descriptors may come, too.
    pub fn fill(
        &self,
        reader: &mut FrameReader,
        budget: usize,
        mut files: Option<&mut FileReader>,
    ) -> io::Result<Fill> {
        let mut total = 0;
        while total < budget {
            let outcome = if let Some(landing) = reader.landing() {
                self.read_landing(landing)
            } else if let Some(files) = files.as_deref_mut() {
                files.read(self, reader)
            } else {
                self.read_buffer(reader)
            };
            match outcome {
                Ok((0, _)) => return Ok(Fill::Ended),
                Ok((_, true)) => return Ok(Fill::Drained),
                Ok((read, false)) => total += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Fill::Drained);
                }
                Err(error) => return Err(error),
            }
            if reader.carries_data() && reader.landing().is_none() {
                break;
            }
        }
        Ok(Fill::More)
    }

    /// As [`FileReader::read`]. A short read empties a stream socket: no second call to learn that.
    fn read_buffer(&self, reader: &mut FrameReader) -> io::Result<(usize, bool)> {
        let buffer = reader.room(reader.read_ahead());
        let offered = buffer.capacity() - buffer.len();
        let read = self.read_into(buffer)?;
        if read == offered {
            reader.read_further_ahead();
        }
        Ok((read, read < offered))
    }

    /// As [`FileReader::read`], no further than the data goes.
    fn read_landing(&self, landing: &mut Landing) -> io::Result<(usize, bool)> {
        let missing = landing.missing();
        let data = &mut landing.data;
        let spare = data.spare_capacity_mut();
        let offered = spare.len().min(missing);
        let (read, _) = rustix::net::recv(self, &mut spare[..offered], RecvFlags::empty())
            .map(|(read, _)| (read.0.len(), read.1))?;
        let length = data.len() + read;
        // SAFETY: `recv` initialised the first `read` bytes of the spare capacity.
        unsafe { data.set_len(length) };
        Ok((read, read < offered))
    }

    /// Writes once, and passes the descriptors along with the first byte; never raises SIGPIPE,
    /// whatever the program did with that signal. At most [`MAX_FILES`] descriptors, and none
    /// over TCP.
    pub fn write_slices(
        &self,
        slices: &[IoSlice<'_>],
        files: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        if files.is_empty() {
            let control = &mut SendAncillaryBuffer::default();
            return Ok(rustix::net::sendmsg(self, slices, control, SendFlags::NOSIGNAL)?);
        }
        let mut space = [MaybeUninit::uninit(); FILES_SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        Ok(rustix::net::sendmsg(self, slices, &mut control, SendFlags::NOSIGNAL)?)
    }
}

/// Has the kernel notice hosts that are gone: by keepalive while nothing is sent, by unacknowledged
/// bytes otherwise.
fn watch_peer(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    const IDLE: Duration = Duration::from_secs(10);
    const PROBES: u32 = 4;
    const UNACKNOWLEDGED_MS: u32 = 30_000;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, IDLE)?;
    sockopt::set_tcp_keepintvl(stream, IDLE / 2)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?;
    Ok(())
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
