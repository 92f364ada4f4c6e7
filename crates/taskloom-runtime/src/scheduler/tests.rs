//! The server with parties of its own process and over sockets.

mod cuts;

use super::*;
use crate::io::IoThread;
use std::sync::mpsc::{Receiver, Sender, channel};
use taskloom_net::ConnectOptions;
use taskloom_proto::client::{Question, RegisterClient, Request};

enum Heard {
    Message(SchedulerToClient),
    Closed(String),
}

struct Ear(Sender<Heard>);

impl Sink<SchedulerToClient> for Ear {
    fn deliver(&self, messages: &mut Vec<SchedulerToClient>) {
        for message in messages.drain(..) {
            let _ = self.0.send(Heard::Message(message));
        }
    }

    fn closed(&self, reason: &str) {
        let _ = self.0.send(Heard::Closed(reason.into()));
    }
}

struct Client {
    link: Arc<dyn Link<ClientToScheduler>>,
    heard: Receiver<Heard>,
}

impl Client {
    fn new(connect: impl FnOnce(Arc<Ear>) -> Arc<dyn Link<ClientToScheduler>>) -> Self {
        let (sender, heard) = channel();
        let link = connect(Arc::new(Ear(sender)));
        link.send(ClientToScheduler::Register(RegisterClient::default()));
        Self { link, heard }
    }

    fn ask(&self, id: u64, question: Question) {
        self.link.send(ClientToScheduler::Request(Request { id, question }));
    }

    /// The number of the next answer, or why the connection closed.
    fn next(&self) -> Result<u64, String> {
        loop {
            match self.heard.recv().unwrap() {
                Heard::Message(SchedulerToClient::Reply(reply)) => return Ok(reply.id),
                Heard::Message(_) => {}
                Heard::Closed(reason) => return Err(reason),
            }
        }
    }
}

fn start() -> SchedulerHandle {
    SchedulerServer::start(SchedulerConfig {
        listen: vec!["tcp://127.0.0.1:0".into()],
        allow_insecure_network: false,
        token: Token::new("t"),
        core: Config::default(),
    })
    .unwrap()
}

fn over_socket(io: &IoThread, scheduler: &SchedulerHandle) -> Client {
    Client::new(|ear| {
        let options = ConnectOptions::default();
        let opened = io.connect(scheduler.address(), &Token::new("t"), ear, options).unwrap();
        assert_eq!(opened.epoch, scheduler.epoch());
        opened.link
    })
}

fn questions_are_answered_in_order(client: &Client) {
    for id in 0..100 {
        client.ask(id, Question::Barrier);
        if id % 7 == 0 {
            client.link.flush();
        }
    }
    client.link.flush();
    for id in 0..100 {
        assert_eq!(client.next(), Ok(id));
    }
}

#[test]
fn a_client_in_the_same_process_gets_its_answers_in_order() {
    let scheduler = start();
    let client = Client::new(|ear| scheduler.connect_client(ear));
    questions_are_answered_in_order(&client);
    client.link.close();
    assert!(client.next().is_err());
}

#[test]
fn a_client_over_a_socket_gets_its_answers_in_order() {
    let (io, scheduler) = (IoThread::start().unwrap(), start());
    let client = over_socket(&io, &scheduler);
    questions_are_answered_in_order(&client);
    client.link.close();
    assert_eq!(client.next(), Err("closed by this side".into()));
}

#[test]
fn stopping_tells_every_party_and_later_ones() {
    let (io, scheduler) = (IoThread::start().unwrap(), start());
    let near = Client::new(|ear| scheduler.connect_client(ear));
    let far = over_socket(&io, &scheduler);
    scheduler.stop();
    assert_eq!(near.next(), Err("the scheduler has stopped".into()));
    assert!(far.next().is_err());
    let late = Client::new(|ear| scheduler.connect_client(ear));
    late.link.flush();
    assert_eq!(late.next(), Err("the scheduler has stopped".into()));
    assert_eq!(scheduler.wait(None), Some("the scheduler has stopped".into()));
}

#[test]
fn the_question_for_shutdown_ends_the_server() {
    let scheduler = start();
    let client = Client::new(|ear| scheduler.connect_client(ear));
    client.ask(1, Question::Shutdown);
    client.link.flush();
    assert!(scheduler.wait(None).is_some());
    while client.next().is_ok() {}
}

#[test]
fn a_malformed_message_closes_only_its_own_connection() {
    let (io, scheduler) = (IoThread::start().unwrap(), start());
    let good = over_socket(&io, &scheduler);
    let address: taskloom_net::Address = scheduler.address().parse().unwrap();
    let token = Token::new("t");
    let role = taskloom_proto::handshake::Role::Client;
    let bad = taskloom_net::connect(&address, role, &token, ConnectOptions::default()).unwrap();
    let mut bytes = Vec::new();
    taskloom_proto::frame::write_frame(&mut bytes, 4, 0, |out| out.extend([0xff; 40]));
    bad.stream.write_slices(&[std::io::IoSlice::new(&bytes)], &[]).unwrap();
    let poll = |stream: &taskloom_net::Stream| {
        let mut buffer = bytes::BytesMut::with_capacity(100);
        stream.read_into(&mut buffer)
    };
    while !matches!(poll(&bad.stream), Ok(0)) {
        std::thread::yield_now();
    }
    questions_are_answered_in_order(&good);
}

/// A party whose code is wrong.
struct Broken;

impl Sink<SchedulerToClient> for Broken {
    fn deliver(&self, _: &mut Vec<SchedulerToClient>) {
        panic!("a bug in a sink");
    }

    fn closed(&self, _: &str) {}
}

#[test]
fn a_panic_on_the_schedulers_thread_reaches_every_party_as_a_reason() {
    let (io, scheduler) = (IoThread::start().unwrap(), start());
    let near = Client::new(|ear| scheduler.connect_client(ear));
    let far = over_socket(&io, &scheduler);
    questions_are_answered_in_order(&far);
    let broken = scheduler.connect_client(Arc::new(Broken));
    broken.send(ClientToScheduler::Register(RegisterClient::default()));
    let question = Question::Barrier;
    broken.send(ClientToScheduler::Request(Request { id: 1, question }));
    broken.flush();
    let reason = "the scheduler failed: a bug in a sink".to_string();
    assert_eq!(scheduler.wait(None), Some(reason.clone()));
    assert_eq!(near.next(), Err(reason));
    assert!(far.next().is_err());
    assert!(scheduler.has_failed());
}
