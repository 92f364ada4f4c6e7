//! A session's stream over connections that are cut at any byte, against a model: a list of messages,
//! of which each arrives once and in order.

use bytes::Bytes;
use proptest::prelude::*;
use std::io::Read;
use std::os::unix::net::UnixStream;
use taskloom_net::{OutQueue, Stream};
use taskloom_proto::frame::{FrameLimits, FrameReader, HEADER_BYTES, write_frame};

#[derive(Debug, Clone)]
enum Event {
    /// A message of so many bytes, gathered with others.
    Append(usize),
    /// A message that was encoded before.
    Push(usize),
    Write,
    /// The other side reads so many bytes, if they are there.
    Read(usize),
    /// The other side says how far it has received.
    Acknowledge,
    /// What it said earlier comes again.
    AcknowledgeLate,
    /// The other side says that it has received what was never sent.
    Lie(u64),
    /// Another connection takes the session over.
    Cut,
}

const LONGEST: usize = 300_000;

fn event() -> impl Strategy<Value = Event> {
    let size = prop_oneof![0..200usize, 3_000..6_000usize, 100_000..LONGEST];
    prop_oneof![
        4 => size.clone().prop_map(Event::Append),
        2 => size.prop_map(Event::Push),
        4 => Just(Event::Write),
        4 => prop_oneof![0..64usize, 0..10_000usize, 0..400_000usize].prop_map(Event::Read),
        2 => Just(Event::Acknowledge),
        1 => Just(Event::AcknowledgeLate),
        1 => (1..u64::MAX).prop_map(Event::Lie),
        2 => Just(Event::Cut),
    ]
}

/// Both sides of one direction.
struct Model {
    queue: OutQueue,
    ours: Stream,
    theirs: UnixStream,
    reader: FrameReader,
    /// The bytes of all messages, in order.
    said: Vec<u8>,
    messages: usize,
    arrived: usize,
    /// Bytes of whole messages that the other side has.
    received: u64,
    /// Of the session's bytes, so many were written to this or an earlier connection.
    written: u64,
    acknowledged: u64,
    earlier: u64,
}

fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (Stream::Unix(ours), theirs)
}

fn body(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + number * 7) as u8).collect()
}

impl Model {
    fn new() -> Self {
        let (ours, theirs) = pair();
        Self {
            queue: OutQueue::keeping(),
            ours,
            theirs,
            reader: FrameReader::new(FrameLimits::CONTROL),
            said: Vec::new(),
            messages: 0,
            arrived: 0,
            received: 0,
            written: 0,
            acknowledged: 0,
            earlier: 0,
        }
    }

    fn say(&mut self, size: usize, is_encoded: bool) {
        let mut frame = Vec::new();
        let body = body(self.messages, size);
        write_frame(&mut frame, (self.messages % 200) as u8, 0, |out| out.extend(body));
        self.messages += 1;
        self.said.extend(&frame);
        if is_encoded {
            self.queue.push(Bytes::from(frame));
        } else {
            self.queue.append(|out| out.extend(&frame));
        }
    }

    fn write(&mut self) {
        let before = self.queue.unsent();
        self.queue.write_to(&self.ours).unwrap();
        self.written += (before - self.queue.unsent()) as u64;
    }

    fn read(&mut self, mut limit: usize) {
        let mut buffer = [0; 64 * 1024];
        while limit > 0 {
            let room = limit.min(buffer.len());
            match self.theirs.read(&mut buffer[..room]) {
                Ok(read) if read > 0 => {
                    limit -= read;
                    self.reader.extend(&buffer[..read]);
                }
                _ => break,
            }
        }
        while let Some(frame) = self.reader.next_frame().unwrap() {
            assert_eq!(usize::from(frame.kind), self.arrived % 200, "in order");
            assert!(frame.head == body(self.arrived, frame.head.len()), "as it was said");
            self.arrived += 1;
            self.received += (HEADER_BYTES + frame.head.len()) as u64;
            let upto = &self.said[..self.received as usize];
            assert!(upto.ends_with(&frame.head), "at its position");
        }
    }

    fn acknowledge(&mut self, upto: u64) {
        self.queue.acknowledge(upto).unwrap();
        self.acknowledged = self.acknowledged.max(upto);
    }

    fn cut(&mut self) {
        (self.ours, self.theirs) = pair();
        self.reader = FrameReader::new(FrameLimits::CONTROL);
        self.queue.rewind(self.received).unwrap();
        self.acknowledged = self.received;
        // The rest is written again.
        self.written = self.received;
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Append(size) => self.say(size, false),
            Event::Push(size) => self.say(size, true),
            Event::Write => self.write(),
            Event::Read(limit) => self.read(limit),
            Event::Acknowledge => {
                self.earlier = self.acknowledged;
                self.acknowledge(self.received);
            }
            Event::AcknowledgeLate => self.acknowledge(self.earlier),
            Event::Lie(more) => {
                let lie = self.written.saturating_add(more);
                assert!(self.queue.acknowledge(lie).is_err());
                assert!(self.queue.rewind(lie).is_err());
            }
            Event::Cut => self.cut(),
        }
        self.check();
    }

    fn check(&self) {
        let said = self.said.len() as u64;
        assert_eq!(self.written + self.queue.unsent() as u64, said, "all is written, or waits");
        let held = self.queue.held() as u64;
        assert!(held >= said - self.acknowledged, "what may be asked for again is here");
        // A chunk goes when its last byte is acknowledged.
        let chunk = (256 * 1024 + LONGEST + 100) as u64;
        assert!(held <= said - self.acknowledged + chunk, "what was acknowledged goes");
    }

    fn end(&mut self) {
        // Some of it may be in the socket.
        self.read(usize::MAX);
        while self.arrived < self.messages || !self.queue.is_empty() {
            let before = (self.received, self.queue.unsent());
            self.write();
            self.read(usize::MAX);
            assert_ne!((self.received, self.queue.unsent()), before, "it goes on");
        }
        assert_eq!((self.arrived, self.received as usize), (self.messages, self.said.len()));
        self.acknowledge(self.received);
        assert_eq!(self.queue.held(), 0);
    }
}

proptest! {
    #[test]
    fn every_message_arrives_once_and_in_order_wherever_connections_are_cut(
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut model = Model::new();
        events.iter().for_each(|event| model.apply(event));
        model.end();
    }
}
