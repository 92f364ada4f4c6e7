//! Strangers and friends against a real listener.

use super::*;
use crate::connect::{ConnectError, ConnectOptions, connect};
use crate::event_loop::{EventLoop, Next, Owner};
use crate::listener::{ListenOptions, Listener, Service};
use crate::token::random_u64;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use taskloom_proto::frame::{HEADER_BYTES, write_frame};
use taskloom_proto::handshake::Token;

/// Sends frames back; tells what happened.
struct Echo {
    told: Sender<String>,
}

impl Owner for Echo {
    fn turn(&mut self, _: &mut Control<Self>) -> Next {
        Next::WaitUntil(None)
    }
}

struct EchoProtocol(Option<Arc<Channel>>);

impl Protocol<Echo> for EchoProtocol {
    fn on_open(
        &mut self,
        echo: &mut Echo,
        channel: &Arc<Channel>,
        role: Role,
        _: Option<Resume>,
    ) -> Result<Welcome, String> {
        if role == Role::Supervisor {
            return Err("no supervisors here".into());
        }
        self.0 = Some(channel.clone());
        let _ = echo.told.send("open".into());
        Ok(Welcome::default())
    }

    fn on_frame(&mut self, _: &mut Echo, frame: Frame) -> Result<(), String> {
        let channel = self.0.as_ref().unwrap();
        channel.queue(|queue| {
            queue.append(|out| {
                write_frame(out, frame.kind, frame.data.len() as u64, |out| {
                    out.extend_from_slice(&frame.head);
                });
            });
            queue.push(frame.data);
        });
        Ok(())
    }

    fn on_batch_end(&mut self, _: &mut Echo) {
        self.0.as_ref().unwrap().flush();
    }

    fn on_closed(&mut self, echo: &mut Echo, reason: &str) {
        let _ = echo.told.send(format!("closed: {reason}"));
    }
}

struct Server {
    address: crate::Address,
    remote: Arc<Remote<Echo>>,
    told: Receiver<String>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(bounds: Bounds) -> Self {
        let (sender, told) = channel();
        let options = ListenOptions::default();
        let listener = Listener::bind(&"tcp://127.0.0.1:0".parse().unwrap(), options).unwrap();
        let address = listener.address().clone();
        let event_loop = EventLoop::new().unwrap();
        let remote = event_loop.remote().clone();
        let service = Service {
            token: Token::new("secret"),
            epoch: 7,
            bounds,
            protocol: Box::new(|| Box::new(EchoProtocol(None))),
        };
        listener.serve(&remote, service);
        let run = move || event_loop.run(&mut Echo { told: sender }).unwrap();
        Self { address, remote, told, thread: Some(std::thread::spawn(run)) }
    }

    /// A stranger who speaks no handshake, over TCP.
    fn stranger(&self) -> TcpStream {
        TcpStream::connect(self.address.resolve().unwrap()[0]).unwrap()
    }

    fn connect(&self, role: Role, token: &str) -> Result<crate::connect::Connected, ConnectError> {
        connect(&self.address, role, &Token::new(token), ConnectOptions::default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn control() -> Server {
    Server::start(Bounds::CONTROL)
}

/// What a blocking stream still receives until it is closed.
fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut all);
    all
}

#[test]
fn frames_with_large_data_come_back_whole() {
    let server = Server::start(Bounds::DATA);
    let connected = server.connect(Role::Peer, "secret").unwrap();
    assert_eq!(connected.epoch, 7);
    let Stream::Unix(mut stream) = connected.stream else { panic!("no companion socket") };
    stream.set_nonblocking(false).unwrap();
    let data = vec![9; 20_000_000];
    let mut sent = Vec::new();
    write_frame(&mut sent, 3, data.len() as u64, |out| out.extend_from_slice(b"head"));
    sent.extend_from_slice(&data);
    let mut writer = stream.try_clone().unwrap();
    let expected = sent.clone();
    let write = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == expected);
    write.join().unwrap();
}

#[test]
fn a_wrong_token_is_named_to_the_one_who_connects() {
    let server = control();
    let error = server.connect(Role::Client, "guess").unwrap_err();
    assert!(matches!(error, ConnectError::Handshake { source: HandshakeError::WrongToken, .. }));
    assert!(server.told.try_recv().is_err(), "the protocol never saw the stranger");
}

#[test]
fn a_role_that_is_not_served_is_refused_with_the_reason() {
    let error = control().connect(Role::Supervisor, "secret").unwrap_err();
    assert!(error.to_string().contains("no supervisors here"), "{error}");
}

#[test]
fn garbage_closes_the_connection_and_the_server_lives() {
    let server = control();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let mut stranger = server.stranger();
        stranger.write_all(garbage).unwrap();
        read_to_end(stranger);
    }
    server.connect(Role::Client, "secret").unwrap();
}

#[test]
fn an_oversized_frame_closes_an_open_connection() {
    let server = control();
    let connected = server.connect(Role::Client, "secret").unwrap();
    let mut header = [0; HEADER_BYTES];
    header[0] = 1;
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    connected.stream.write_slices(&[std::io::IoSlice::new(&header)], &[]).unwrap();
    assert_eq!(server.told.recv().unwrap(), "open");
    assert!(server.told.recv().unwrap().contains("larger than"));
}

#[test]
fn a_stranger_who_says_nothing_is_closed_after_the_handshake_time() {
    // Long enough for the handshake of the friend on a busy machine.
    let server =
        Server::start(Bounds { handshake_time: Duration::from_secs(3), ..Bounds::CONTROL });
    assert_eq!(read_to_end(server.stranger()), b"");
    server.connect(Role::Client, "secret").unwrap();
}

#[test]
fn a_peer_that_does_not_read_is_given_up() {
    let server = Server::start(Bounds { max_queued: 1 << 20, ..Bounds::CONTROL });
    let connected = server.connect(Role::Client, "secret").unwrap();
    let Stream::Unix(mut stream) = connected.stream else { panic!("no companion socket") };
    stream.set_nonblocking(false).unwrap();
    let mut frame = Vec::new();
    write_frame(&mut frame, 1, 0, |out| out.extend_from_slice(&[0; 100_000]));
    while stream.write_all(&frame).is_ok() {}
    assert_eq!(server.told.recv().unwrap(), "open");
    assert!(server.told.recv().unwrap().contains("does not read"));
}

#[test]
fn a_port_without_a_listener_is_unreachable_and_a_foreign_server_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: crate::Address = listener.local_addr().unwrap().into();
    let foreign = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-server\r\n and more").unwrap();
        read_to_end(stream);
    });
    let token = Token::new(random_u64().unwrap().to_string());
    let error = connect(&address, Role::Client, &token, ConnectOptions::default()).unwrap_err();
    assert!(error.to_string().contains("not a taskloom process"), "{error}");
    foreign.join().unwrap();
    let error = connect(&address, Role::Client, &token, ConnectOptions::default()).unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[test]
fn a_crowd_of_silent_strangers_does_not_shut_out_the_user() {
    let server = control();
    let crowd: Vec<TcpStream> = (0..150).map(|_| server.stranger()).collect();
    // Those beyond the limit are closed at once; the others may still speak.
    assert_eq!(read_to_end(crowd.into_iter().last().unwrap()), b"");
    server.connect(Role::Client, "secret").unwrap();
}
