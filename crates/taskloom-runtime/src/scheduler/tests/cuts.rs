//! A session through a relay that cuts its connections after any number of bytes, in handshakes, in
//! messages and in acknowledgements: each question is answered once and in order.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use taskloom_proto::client::RegisterFunction;
use taskloom_types::FunctionId;

const QUESTIONS: u64 = 200;
const FUNCTION_BYTES: usize = 10_000;

/// How many bytes one connection passes to the scheduler, and back, before it is cut.
type Budget = (usize, usize);

struct Relay {
    address: String,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    /// After the last budget, connections live on.
    fn start(target: &str, budgets: Vec<Budget>) -> Self {
        let target: SocketAddr = target.strip_prefix("tcp://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        // It ends with the test's process: nobody tells it.
        std::thread::spawn(move || {
            let budgets = budgets.into_iter().chain(std::iter::repeat((usize::MAX, usize::MAX)));
            for (near, budget) in listener.incoming().zip(budgets) {
                let Ok(near) = near else { return };
                let Ok(far) = TcpStream::connect(target) else { return };
                count.fetch_add(1, Ordering::Relaxed);
                let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || pass(near, far, budget.0));
                std::thread::spawn(move || pass(far2, near2, budget.1));
            }
        });
        Self { address, connections }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut budget: usize) {
    let mut buffer = [0; 16 * 1024];
    while budget > 0 {
        let room = budget.min(buffer.len());
        let Ok(read @ 1..) = from.read(&mut buffer[..room]) else { break };
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        budget -= read;
    }
    // Both sides see it at once.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn budgets() -> impl Strategy<Value = Vec<Budget>> {
    let bytes = || prop_oneof![1..400usize, 400..5_000usize, 5_000..300_000usize];
    prop::collection::vec((bytes(), bytes()), 1..16)
}

fn function(id: u64) -> ClientToScheduler {
    let payload = Bytes::from(vec![id as u8; FUNCTION_BYTES]);
    let id = FunctionId(id.into());
    ClientToScheduler::RegisterFunction(RegisterFunction { id, name: "f".into(), payload })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_question_is_answered_once_and_in_order_wherever_connections_are_cut(
        budgets in budgets(),
    ) {
        let (io, scheduler) = (IoThread::start().unwrap(), start());
        // The first connection is made by the caller, who gets the error if it is cut too early.
        let budgets = [vec![(2_000, 2_000)], budgets].concat();
        let relay = Relay::start(scheduler.address(), budgets);
        let client = Client::new(|ear| {
            let options = ConnectOptions::default();
            io.connect(&relay.address, &Token::new("t"), ear, options).unwrap().link
        });
        for id in 0..QUESTIONS {
            client.link.send(function(id));
            client.ask(id, Question::Barrier);
            if id % 3 == 0 {
                client.link.flush();
            }
        }
        client.link.flush();
        for id in 0..QUESTIONS {
            assert_eq!(client.next(), Ok(id));
        }
        assert!(relay.connections.load(Ordering::Relaxed) > 1, "it was cut");
        client.link.close();
        assert_eq!(client.next(), Err("closed by this side".into()));
    }
}
