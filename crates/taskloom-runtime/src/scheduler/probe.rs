//! A look at a worker whose connection broke: when nobody listens any more where it served its
//! data, its process has ended, and there is nothing to wait for. Everything else (an answer, or
//! none) proves nothing, and the session waits for its grace time.

use super::server::Server;
use mio::net::TcpStream;
use mio::{Interest, Token};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use taskloom_net::{Control, Flow, Handler, Ready, Remote};
use taskloom_types::WorkerNo;

pub(super) struct Probe {
    number: WorkerNo,
    token: Token,
    stream: TcpStream,
}

impl Probe {
    /// Tries to connect, without waiting for it.
    pub(super) fn start(number: WorkerNo, address: &str, remote: &Arc<Remote<Server>>) {
        // A name is not looked up: the scheduler's thread does not wait for anybody.
        let address = address.strip_prefix("tcp://").map(str::parse::<SocketAddr>);
        let Some(Ok(address)) = address else { return };
        let Ok(stream) = TcpStream::connect(address) else { return };
        let token = remote.new_token();
        remote.add(token, Box::new(Self { number, token, stream }));
    }

    fn look(&mut self, server: &mut Server, control: &Control<Server>) -> Flow {
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        let error = match self.stream.take_error() {
            Ok(Some(error)) | Err(error) => Some(error),
            Ok(None) => match self.stream.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Flow::Wait,
                _ => None,
            },
        };
        // Fails only when the loop is gone.
        let _ = control.remote().registry().deregister(&mut self.stream);
        if error.is_some_and(|error| refused(&error)) {
            server.on_worker_refuses(self.number);
        }
        Flow::Done
    }
}

impl Handler<Server> for Probe {
    fn on_added(&mut self, server: &mut Server, control: &mut Control<Server>) -> Flow {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match control.remote().registry().register(&mut self.stream, self.token, interest) {
            Ok(()) => self.look(server, control),
            Err(_) => Flow::Done,
        }
    }

    fn on_ready(&mut self, server: &mut Server, control: &mut Control<Server>, _: Ready) -> Flow {
        self.look(server, control)
    }

    fn on_stop(&mut self, _: &mut Server) {}
}
