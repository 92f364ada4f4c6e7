//! A real server and client, over sockets.

mod cut;
mod detour;
mod idle;
mod parting;
mod ranges;

use super::*;
use crate::io::IoThread;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use taskloom_net::{ConnectOptions, ListenOptions, Stream, connect};
use taskloom_proto::ErrorInfo;
use taskloom_proto::actor::{ActorCall, ActorLife};
use taskloom_proto::frame::write_frame;
use taskloom_proto::handshake::{Role, Token};
use taskloom_proto::peer::{Fetch, PeerMessage};
use taskloom_proto::rejoin::Named;
use taskloom_proto::shards::ShardPiece;
use taskloom_types::{Key, TaskId};

/// Values by task; a task that it does not know is missing, and number 13 cannot be serialized.
#[derive(Default)]
struct Store {
    values: Mutex<HashMap<TaskId, Vec<Bytes>>>,
    /// Answers that are held back: dropped by the test.
    held: Mutex<Vec<FetchReplier>>,
    hold: bool,
    /// Answers of calls that are held back: those named "wait" have begun, and "queue" have not.
    calls: Mutex<Vec<CallReplier>>,
}

impl DataStore for Store {
    fn fetch(&self, tasks: Vec<TaskId>, reply: FetchReplier) {
        if self.hold {
            return self.held.lock().push(reply);
        }
        let values = self.values.lock();
        let item = |task: TaskId| {
            let value = match values.get(&task) {
                _ if task == id(13) => StoredValue::Failed(ErrorInfo::default()),
                Some(segments) => StoredValue::Here(segments.clone()),
                None => StoredValue::Missing,
            };
            StoredItem { task, value }
        };
        reply.reply(tasks.into_iter().map(item).collect());
    }

    fn put(&self, value: Named, _: u64, segments: Vec<Bytes>, reply: PutReplier) {
        let task = value.task;
        if task == id(13) {
            return reply.reply(Err("unlucky".into()));
        }
        self.values.lock().insert(task, segments);
        reply.reply(Ok(()));
    }

    /// Gives the arguments back; number 13 raises, and number 14 is no actor.
    fn call(&self, actor: ActorLife, request: ActorRequest, mut reply: CallReplier) {
        if actor.task == id(13) {
            return reply.reply(ActorAnswer::Raised(ErrorInfo::default()));
        }
        if actor.task == id(14) {
            return;
        }
        if request.name == "queue" || !reply.begin() || request.name == "wait" {
            return self.calls.lock().push(reply);
        }
        if request.name != "die" {
            reply.reply(ActorAnswer::Value(request.segments));
        }
    }
}

fn id(index: u32) -> TaskId {
    TaskId { index, generation: 1 }
}

fn bytes(fill: u8, length: usize) -> Bytes {
    Bytes::from(vec![fill; length])
}

fn token() -> Token {
    Token::new("t")
}

struct Plane {
    store: Arc<Store>,
    server: DataServer,
    client: DataClient,
    io: Arc<IoThread>,
}

fn plane(store: Store) -> Plane {
    let (io, store) = (IoThread::start().unwrap(), Arc::new(store));
    let options = ListenOptions::default();
    let server =
        DataServer::listen(&io, "tcp://127.0.0.1:0", options, &token(), 1, store.clone()).unwrap();
    let client = DataClient::new(io.clone(), token());
    Plane { store, server, client, io }
}

impl Plane {
    fn put(&self, task: TaskId, segments: Vec<Bytes>) -> Result<(), FetchError> {
        let (sender, receiver) = channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        let value = Named { task, ..Named::default() };
        self.client.put(&self.server.address(), value, 1, segments, done);
        receiver.recv().unwrap()
    }

    fn fetch(&self, tasks: Vec<TaskId>) -> Result<Vec<Fetched>, FetchError> {
        fetch(&self.client, &self.server.address(), tasks)
    }
}

fn fetch(
    client: &DataClient,
    address: &str,
    tasks: Vec<TaskId>,
) -> Result<Vec<Fetched>, FetchError> {
    let (sender, receiver) = channel();
    client.fetch(address, tasks, Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap()
}

#[test]
fn values_of_any_shape_survive_put_and_fetch() {
    let plane = plane(Store::default());
    let values = [
        vec![bytes(1, 10), bytes(2, 5_000_000), bytes(3, 0)],
        vec![],
        vec![bytes(4, 100_000)],
        vec![bytes(5, 3)],
    ];
    for (number, value) in values.iter().enumerate() {
        plane.put(id(number as u32), value.clone()).unwrap();
    }
    let answers = plane.fetch((0..4).map(id).collect()).unwrap();
    for (number, (value, answer)) in values.iter().zip(answers).enumerate() {
        assert_eq!(answer.task, id(number as u32));
        assert!(answer.outcome == FetchOutcome::Value(value.clone()));
    }
    let refused = plane.put(id(13), vec![]).unwrap_err();
    assert!(matches!(refused, FetchError::Refused { reason, .. } if reason == "unlucky"));
}

#[test]
fn missing_and_unserializable_values_are_told_apart() {
    let plane = plane(Store::default());
    plane.put(id(1), vec![bytes(1, 1)]).unwrap();
    let answers = plane.fetch(vec![id(9), id(13), id(1)]).unwrap();
    let outcomes: Vec<_> = answers.into_iter().map(|answer| answer.outcome).collect();
    let expected = [
        FetchOutcome::Missing,
        FetchOutcome::Failed(ErrorInfo::default()),
        FetchOutcome::Value(vec![bytes(1, 1)]),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(plane.fetch(vec![]).unwrap(), []);
}

#[test]
fn replies_beyond_the_size_limit_are_asked_for_again() {
    let plane = plane(Store::default());
    let sizes = [40_000_000, 40_000_000, 70_000_000, 10, 40_000_000];
    for (number, size) in sizes.into_iter().enumerate() {
        plane.store.values.lock().insert(id(number as u32), vec![bytes(number as u8, size)]);
    }
    let answers = plane.fetch((0..5).map(id).collect()).unwrap();
    for (number, answer) in answers.into_iter().enumerate() {
        let FetchOutcome::Value(segments) = answer.outcome else { panic!("no value") };
        assert_eq!(segments.len(), 1);
        assert!(segments[0] == bytes(number as u8, sizes[number]));
    }
}

#[test]
fn a_replier_that_is_dropped_says_missing() {
    let plane = plane(Store { hold: true, ..Store::default() });
    let (sender, receiver) = channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    plane.client.fetch(&plane.server.address(), vec![id(1)], done);
    while plane.store.held.lock().pop().is_none() {
        std::thread::yield_now();
    }
    let answers: Vec<Fetched> = receiver.recv().unwrap().unwrap();
    assert_eq!(answers[0].outcome, FetchOutcome::Missing);
}

impl Plane {
    fn call(
        &self,
        actor: u32,
        name: &str,
        segments: Vec<Bytes>,
    ) -> Result<ActorAnswer, FetchError> {
        let (sender, receiver) = channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        let (kind, deps) = (ActorCall::METHOD, vec![Key::from_text("x")]);
        let request = ActorRequest { kind, name: name.into(), deps, segments };
        let life = ActorLife { task: id(actor), attempt: 1 };
        self.client.call(&self.server.address(), life, request, done);
        receiver.recv().unwrap()
    }
}

#[test]
fn what_an_actor_is_called_with_and_what_it_gives_arrive_in_their_segments() {
    let plane = plane(Store::default());
    for segments in [vec![], vec![bytes(1, 10), bytes(2, 5_000_000), bytes(3, 0)]] {
        let answer = plane.call(1, "echo", segments.clone()).unwrap();
        assert!(answer == ActorAnswer::Value(segments));
    }
    let raised = plane.call(13, "echo", vec![]).unwrap();
    assert_eq!(raised, ActorAnswer::Raised(ErrorInfo::default()));
}

#[test]
fn a_dropped_call_is_gone_unless_it_has_begun() {
    let plane = plane(Store::default());
    assert_eq!(plane.call(14, "echo", vec![]).unwrap(), ActorAnswer::Gone);
    let ActorAnswer::Raised(error) = plane.call(1, "die", vec![]).unwrap() else { panic!() };
    assert_eq!(error.type_name, "ActorLostError");
}

#[test]
fn an_address_without_a_server_and_a_closed_client_fail_promptly() {
    let plane = plane(Store::default());
    let unreachable = fetch(&plane.client, "tcp://127.0.0.1:1", vec![id(1)]).unwrap_err();
    assert!(matches!(unreachable, FetchError::Unreachable(_)), "{unreachable}");
    let malformed = fetch(&plane.client, "nonsense", vec![id(1)]).unwrap_err();
    assert!(malformed.to_string().contains("nonsense"));
    plane.client.close();
    assert_eq!(plane.fetch(vec![id(1)]), Err(FetchError::Closed));
}

/// A process with a worker's socket that misbehaves after the handshake.
fn broken_server(answer: impl FnOnce(&mut UnixStream) + Send + 'static) -> (String, Plane) {
    let directory = tempfile::tempdir().unwrap();
    let front = directory.path().join("front.sock");
    let listener = std::os::unix::net::UnixListener::bind(&front).unwrap();
    let plane = plane(Store::default());
    let target: taskloom_net::Address = plane.server.address().parse().unwrap();
    let target = target.resolve().unwrap()[0];
    std::thread::spawn(move || {
        let _directory = directory;
        let (mut near, _) = listener.accept().unwrap();
        let mut far = std::net::TcpStream::connect(target).unwrap();
        // The handshake passes through: hello, challenge, proof, welcome.
        for _ in 0..2 {
            relay(&mut near, &mut far);
            relay(&mut far, &mut near);
        }
        let mut request = [0; 1000];
        let _ = near.read(&mut request).unwrap();
        answer(&mut near);
    });
    (format!("unix://{}", front.display()), plane)
}

fn relay(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0; 1000];
    let count = from.read(&mut buffer).unwrap();
    to.write_all(&buffer[..count]).unwrap();
}

#[test]
fn a_peer_that_dies_in_the_middle_of_a_value_is_reported() {
    let (address, plane) = broken_server(|stream| {
        let mut begun = Vec::new();
        write_frame(&mut begun, 2, 1_000_000, |out| out.extend_from_slice(&[0; 20]));
        begun.extend_from_slice(&[7; 1000]);
        stream.write_all(&begun).unwrap();
    });
    let lost = fetch(&plane.client, &address, vec![id(1)]).unwrap_err();
    assert!(matches!(lost, FetchError::Lost { .. }), "{lost}");
    let again = fetch(&plane.client, &address, vec![id(1)]).unwrap_err();
    assert!(matches!(again, FetchError::Unreachable(_)), "{again}");
}

#[test]
fn an_answer_that_does_not_fit_the_question_ends_the_connection() {
    let (address, plane) = broken_server(|stream| {
        let mut wrong = Vec::new();
        let reply = taskloom_proto::peer::FetchReply { request: 77, items: vec![] };
        let message = PeerMessage::FetchReply(reply);
        write_frame(&mut wrong, message.kind(), 0, |out| message.write_body(out));
        stream.write_all(&wrong).unwrap();
        let _ = stream.read(&mut [0; 10]);
    });
    let lost = fetch(&plane.client, &address, vec![id(1)]).unwrap_err();
    assert!(matches!(lost, FetchError::Lost { .. }), "{lost}");
}

#[test]
fn an_asker_that_lies_about_lengths_is_closed_and_the_server_lives() {
    let plane = plane(Store::default());
    let address: taskloom_net::Address = plane.server.address().parse().unwrap();
    let options = ConnectOptions::default();
    let liar = connect(&address, Role::Peer, &token(), options).unwrap();
    let put = taskloom_proto::peer::Put { segments: vec![u64::MAX, 5], ..Default::default() };
    let mut wrong = Vec::new();
    for message in [PeerMessage::Put(put), PeerMessage::Fetch(Fetch::default())] {
        write_frame(&mut wrong, message.kind(), 0, |out| message.write_body(out));
    }
    liar.stream.write_slices(&[std::io::IoSlice::new(&wrong)], &[]).unwrap();
    let Stream::Unix(mut stream) = liar.stream else { panic!("no companion socket") };
    stream.set_nonblocking(false).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    plane.put(id(1), vec![bytes(1, 1)]).unwrap();
    let refused = connect(&address, Role::Client, &token(), options).unwrap_err();
    assert!(refused.to_string().contains("connect to its scheduler"), "{refused}");
    drop(plane.io);
}

#[test]
fn pieces_of_files_are_read_and_what_is_not_there_is_missing() {
    let parent = tempfile::tempdir().unwrap();
    let directory = shard_directory(parent.path().to_str().unwrap()).unwrap();
    assert_eq!(shard_directory(parent.path().to_str().unwrap()).unwrap(), directory);
    std::fs::write(directory.join(format!("{:032x}", 7)), b"0123456789").unwrap();
    let plane = plane(Store::default());
    let piece = |file, offset, length| ShardPiece { file, offset, length };
    let asked = [
        piece(7, 2, 3),
        piece(8, 0, 1),
        piece(7, 8, 3),
        piece(7, u64::MAX, 1),
        piece(7, 10, 0),
        piece(7, 0, 10),
    ];
    let (sender, receiver) = channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    plane.client.read_shards(&plane.server.address(), asked.to_vec(), done);
    let found: Vec<Option<Bytes>> = receiver.recv().unwrap().unwrap();
    let expected: [Option<&[u8]>; 6] =
        [Some(b"234"), None, None, None, Some(b""), Some(b"0123456789")];
    assert_eq!(found, expected.map(|piece| piece.map(Bytes::from_static)));
    remove_shard_directories();
    assert!(!directory.exists());
}
