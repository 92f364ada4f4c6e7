//! Workers that only the scheduler can reach.

use super::super::detour::Detour;
use super::*;
use crate::link::Sink;
use crate::scheduler::{SchedulerConfig, SchedulerHandle, SchedulerServer};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use taskloom_core::scheduler::Config;
use taskloom_net::connect::Connected;
use taskloom_net::{Address, ConnectError, ConnectOptions, connect};
use taskloom_proto::handshake::Role;
use taskloom_proto::worker::{RegisterWorker, SchedulerToWorker, WorkerToScheduler};

struct Deaf;

impl Sink<SchedulerToWorker> for Deaf {
    fn deliver(&self, messages: &mut Vec<SchedulerToWorker>) {
        messages.clear();
    }
    fn closed(&self, _: &str) {}
}

/// A scheduler that knows one worker, whose data server is at `address`.
fn scheduler_with_worker_at(address: &str) -> SchedulerHandle {
    let scheduler = SchedulerServer::start(SchedulerConfig {
        listen: vec!["tcp://127.0.0.1:0".into()],
        allow_insecure_network: false,
        token: token(),
        core: Config::default(),
    })
    .unwrap();
    let link = scheduler.connect_worker(Arc::new(Deaf));
    let (name, address) = ("alice".to_string(), address.to_string());
    let register = RegisterWorker { name, address, nthreads: 1, ..RegisterWorker::default() };
    link.send(WorkerToScheduler::Register(register));
    link.flush();
    scheduler
}

fn detour_by(scheduler: &SchedulerHandle) -> Detour {
    Detour::new(scheduler.address().parse().unwrap(), false)
}

fn out_of_reach() -> ConnectError {
    let (address, reason) = ("tcp://192.0.2.1:9".into(), "no route".into());
    ConnectError::Unreachable { address, seconds: 0.0, reason }
}

/// Tries until the scheduler has heard of its worker.
fn connect_when_known(
    detour: &Detour,
    address: &str,
    direct: impl Fn(Duration) -> Result<Connected, ConnectError>,
) -> Connected {
    for _ in 0..6_000 {
        if let Ok(connected) = detour.connect(address, &token(), &direct) {
            return connected;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the scheduler passes nobody on to {address}");
}

#[test]
fn a_worker_out_of_reach_is_reached_by_the_scheduler_and_then_directly_tried_no_more() {
    let plane = plane(Store::default());
    let address = plane.server.address();
    let scheduler = scheduler_with_worker_at(&address);
    let detour = detour_by(&scheduler);
    assert!(connect_when_known(&detour, &address, |_| Err(out_of_reach())).is_relayed);
    let tries = AtomicUsize::new(0);
    let counted = |_| {
        tries.fetch_add(1, Ordering::Relaxed);
        Err(out_of_reach())
    };
    assert!(connect_when_known(&detour, &address, counted).is_relayed);
    assert_eq!(tries.load(Ordering::Relaxed), 0);
    // when: the way by the scheduler is gone, and the direct one is there
    scheduler.stop();
    let target: Address = address.parse().unwrap();
    let direct =
        |timeout| connect(&target, Role::Peer, &token(), ConnectOptions { timeout, retry: false });
    assert!(!detour.connect(&address, &token(), direct).unwrap().is_relayed);
}

#[test]
fn a_worker_in_reach_is_not_relayed_and_a_refusal_is_final() {
    let plane = plane(Store::default());
    let address = plane.server.address();
    let scheduler = scheduler_with_worker_at(&address);
    let detour = detour_by(&scheduler);
    let target: Address = address.parse().unwrap();
    let options = |timeout| ConnectOptions { timeout, retry: false };
    let direct = |timeout| connect(&target, Role::Peer, &token(), options(timeout));
    assert!(!detour.connect(&address, &token(), direct).unwrap().is_relayed);
    let with_wrong_token =
        |timeout| connect(&target, Role::Peer, &Token::new("other"), options(timeout));
    let refused = detour.connect(&address, &token(), with_wrong_token);
    assert!(matches!(refused, Err(ConnectError::Handshake { .. })), "{refused:?}");
}

#[test]
fn where_both_ways_fail_both_reasons_are_told() {
    let plane = plane(Store::default());
    let scheduler = scheduler_with_worker_at("tcp://127.0.0.1:1");
    let detour = detour_by(&scheduler);
    let failed = detour.connect("tcp://127.0.0.1:1", &token(), |_| Err(out_of_reach()));
    let text = failed.unwrap_err().to_string();
    assert!(text.contains("no route; by way of the scheduler: "), "{text}");
    // when: the scheduler has never heard of the worker
    let unknown = detour.connect(&plane.server.address(), &token(), |_| Err(out_of_reach()));
    assert!(unknown.unwrap_err().to_string().contains("no route"));
}
