//! Passing connections on: what comes from one socket goes to another, and back, unread. One thread
//! for all of them, so that their bulk delays nobody's messages.

use crate::event_loop::{Control, EventLoop, Flow, Handler, Next, Owner, Ready, Remote, Source};
use crate::stream::Stream;
use mio::Interest;
use mio::unix::SourceFd;
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More connections than this are refused: each takes two descriptors.
const MAX_PAIRS: usize = 1024;
/// Read before it is written on; the socket that does not take it holds the other one back.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes passed on in one turn, so that the pairs take turns.
const PER_TURN: usize = 4 * 1024 * 1024;

/// What was passed on so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayTotals {
    /// Open now.
    pub connections: usize,
    /// Bytes in both directions, of all that ever were.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    pairs: AtomicUsize,
    bytes: AtomicU64,
}

/// The thread that passes on; it ends with this.
pub struct Relay {
    remote: Arc<Remote<Pump>>,
    counters: Arc<Counters>,
}

/// The thread's loop has no state of its own.
struct Pump;

impl Owner for Pump {
    fn turn(&mut self, _: &mut Control<Self>) -> Next {
        Next::WaitUntil(None)
    }
}

impl Relay {
    /// Starts the thread `taskloom-relay`.
    pub fn start() -> io::Result<Self> {
        let event_loop = EventLoop::<Pump>::new()?;
        let remote = event_loop.remote().clone();
        let thread = std::thread::Builder::new().name("taskloom-relay".into());
        thread.stack_size(256 * 1024).spawn(move || {
            if let Err(error) = event_loop.run(&mut Pump) {
                crate::log::report(&format!("nothing is passed on to workers any more: {error}"));
            }
        })?;
        Ok(Self { remote, counters: Arc::default() })
    }

    #[must_use]
    pub fn totals(&self) -> RelayTotals {
        RelayTotals {
            connections: self.counters.pairs.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
        }
    }

    /// Reserves room for one connection.
    pub fn admit(&self) -> Result<Admitted, String> {
        let admitted = Admitted { counters: self.counters.clone() };
        // Over the limit, dropping it takes the count back.
        if self.counters.pairs.fetch_add(1, Ordering::Relaxed) < MAX_PAIRS {
            return Ok(admitted);
        }
        Err(format!("{MAX_PAIRS} connections are passed on already"))
    }

    /// Passes on between two non-blocking sockets, until either ends. `greeting` goes to `near`
    /// before anything else.
    pub fn carry(&self, admitted: Admitted, near: Stream, far: Stream, greeting: &[u8]) {
        let (near_source, far_source) = (self.remote.new_token(), self.remote.new_token());
        let pair = Arc::new(Mutex::new(Pair {
            to_near: Lane { buffer: greeting.into(), ..Lane::default() },
            to_far: Lane::default(),
            near,
            far,
            is_over: false,
            counters: admitted.counters.clone(),
            _admitted: admitted,
        }));
        for (is_near, source) in [(true, near_source), (false, far_source)] {
            self.remote.add(source, Box::new(Side { source, is_near, pair: pair.clone() }));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.remote.stop();
    }
}

/// Room for one connection, while it lives.
#[derive(Debug)]
pub struct Admitted {
    counters: Arc<Counters>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.counters.pairs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    buffer: Vec<u8>,
    /// So much of `buffer` has been written.
    written: usize,
    /// Nothing more will be read.
    has_ended: bool,
    /// … and the other side has been told.
    is_told: bool,
}

enum Moved {
    /// Nothing more can be done before a socket is ready.
    All,
    /// The turn is over.
    Some,
}

impl Lane {
    /// Moves what can be moved. An error ends the pair.
    fn pump(&mut self, from: &Stream, to: &Stream, counters: &Counters) -> io::Result<Moved> {
        let mut budget = PER_TURN;
        loop {
            while self.written < self.buffer.len() {
                match to.write_slices(&[IoSlice::new(&self.buffer[self.written..])], &[]) {
                    Ok(count) => {
                        self.written += count;
                        counters.bytes.fetch_add(count as u64, Ordering::Relaxed);
                        budget = budget.saturating_sub(count);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Moved::All);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if self.has_ended {
                if !std::mem::replace(&mut self.is_told, true) {
                    to.end_writing();
                }
                return Ok(Moved::All);
            }
            if budget == 0 {
                return Ok(Moved::Some);
            }
            self.fill(from)?;
            if self.buffer.is_empty() && !self.has_ended {
                return Ok(Moved::All);
            }
        }
    }

    /// Reads once. An empty buffer that has not ended: there is nothing now.
    fn fill(&mut self, from: &Stream) -> io::Result<()> {
        self.written = 0;
        self.buffer.resize(BUFFER_BYTES, 0);
        let read = loop {
            match from.read_slice(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = match read {
            Ok(0) => {
                self.has_ended = true;
                0
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                self.buffer.clear();
                return Err(error);
            }
        };
        self.buffer.truncate(count);
        if count == 0 {
            // An idle connection holds no memory.
            self.buffer = Vec::new();
        }
        Ok(())
    }
}

struct Pair {
    near: Stream,
    far: Stream,
    to_near: Lane,
    to_far: Lane,
    is_over: bool,
    counters: Arc<Counters>,
    _admitted: Admitted,
}

impl Pair {
    fn pump(&mut self) -> Flow {
        if self.is_over {
            return Flow::Done;
        }
        let there = self.to_far.pump(&self.near, &self.far, &self.counters);
        let back = self.to_near.pump(&self.far, &self.near, &self.counters);
        match (there, back) {
            (Err(_), _) | (_, Err(_)) => self.end(),
            _ if self.to_far.is_told && self.to_near.is_told => self.end(),
            (Ok(Moved::All), Ok(Moved::All)) => Flow::Wait,
            _ => Flow::Again,
        }
    }

    /// Both sockets end; the other side's handler sees it and goes too.
    fn end(&mut self) -> Flow {
        self.is_over = true;
        self.near.shutdown();
        self.far.shutdown();
        Flow::Done
    }
}

/// One socket of a pair, as the loop sees it. Whichever is ready, both directions are pumped.
struct Side {
    source: Source,
    is_near: bool,
    pair: Arc<Mutex<Pair>>,
}

impl Side {
    fn pump(&self, control: &Control<Pump>) -> Flow {
        let mut pair = self.pair.lock();
        let flow = pair.pump();
        if flow == Flow::Done {
            let stream = if self.is_near { &pair.near } else { &pair.far };
            let fd = stream.as_raw_fd();
            // Fails only when the loop is gone.
            let _ = control.remote().registry().deregister(&mut SourceFd(&fd));
        }
        flow
    }
}

impl Handler<Pump> for Side {
    fn on_added(&mut self, _: &mut Pump, control: &mut Control<Pump>) -> Flow {
        let added = {
            let mut pair = self.pair.lock();
            let fd = if self.is_near { pair.near.as_raw_fd() } else { pair.far.as_raw_fd() };
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = control.remote().registry();
            let added = registry.register(&mut SourceFd(&fd), self.source, interest);
            if added.is_err() {
                pair.end();
            }
            added
        };
        if added.is_ok() { self.pump(control) } else { Flow::Done }
    }

    fn on_ready(&mut self, _: &mut Pump, control: &mut Control<Pump>, _: Ready) -> Flow {
        self.pump(control)
    }

    fn on_stop(&mut self, _: &mut Pump) {
        self.pair.lock().end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    /// A client's and a worker's end of one relayed connection.
    fn ends(relay: &Relay, greeting: &[u8]) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, listener.accept().unwrap().0)
        };
        let ((client, near), (worker, far)) = (connect(), connect());
        let streams = [near, far].map(|stream| {
            stream.set_nonblocking(true).unwrap();
            Stream::tcp(stream).unwrap()
        });
        let [near, far] = streams;
        relay.carry(relay.admit().unwrap(), near, far, greeting);
        (client, worker)
    }

    fn sender(mut to: TcpStream, bytes: Vec<u8>) -> JoinHandle<TcpStream> {
        std::thread::spawn(move || {
            to.write_all(&bytes).unwrap();
            to
        })
    }

    fn noise(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_both_sides_send_at_the_same_time_arrives_unchanged() {
        let relay = Relay::start().unwrap();
        let (mut client, mut worker) = ends(&relay, b"hello");
        let mut greeting = [0; 5];
        client.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hello");
        let (there, back) = (noise(20_000_000, 1), noise(15_000_000, 2));
        let senders = [
            sender(client.try_clone().unwrap(), there.clone()),
            sender(worker.try_clone().unwrap(), back.clone()),
        ];
        let (mut got_there, mut got_back) = (vec![0; there.len()], vec![0; back.len()]);
        let reader = std::thread::spawn(move || {
            worker.read_exact(&mut got_there).unwrap();
            (worker, got_there)
        });
        client.read_exact(&mut got_back).unwrap();
        let (_worker, got_there) = reader.join().unwrap();
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(got_there == there && got_back == back);
        // Counted once it is written: the reader may be here before.
        wait_until("all is counted", || relay.totals().bytes == 35_000_005);
    }

    #[test]
    fn a_side_that_ends_gets_its_answer_and_then_the_pair_goes() {
        let relay = Relay::start().unwrap();
        let (mut client, mut worker) = ends(&relay, b"");
        client.write_all(b"question").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut question = Vec::new();
        worker.read_to_end(&mut question).unwrap();
        assert_eq!(question, b"question");
        assert_eq!(relay.totals().connections, 1);
        worker.write_all(b"answer").unwrap();
        drop(worker);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
        wait_until("the pair is forgotten", || relay.totals().connections == 0);
    }

    #[test]
    fn a_reader_that_is_slow_holds_the_writer_back() {
        let relay = Relay::start().unwrap();
        let (client, worker) = ends(&relay, b"");
        worker.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let chunk = noise(1 << 20, 3);
        let mut full_since = None;
        // Nobody reads at the client's side: the worker's socket fills up.
        loop {
            match (&worker).write(&chunk) {
                Ok(count) => {
                    sent += count;
                    full_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let since = *full_since.get_or_insert(Instant::now());
                    if since.elapsed() > Duration::from_millis(300) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 1 << 30, "nothing holds the writer back");
        }
        drop(worker);
        let mut client = client;
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), sent);
    }

    #[test]
    fn a_relay_that_is_dropped_ends_its_connections() {
        let relay = Relay::start().unwrap();
        let (mut client, _worker) = ends(&relay, b"x");
        client.read_exact(&mut [0; 1]).unwrap();
        drop(relay);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
}
