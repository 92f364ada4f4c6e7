//! Hundreds of workers against a scheduler of this process. What it costs is measured by the
//! program `hollow`, not here.

use std::time::Duration;
use taskloom_core::scheduler::Config;
use taskloom_hollow::driver::{Driver, Plan, Shape};
use taskloom_hollow::fleet::Fleet;
use taskloom_hollow::worker::Work;
use taskloom_net::Address;
use taskloom_proto::handshake::Token;
use taskloom_runtime::scheduler::{SchedulerConfig, SchedulerHandle, SchedulerServer};

/// Shorter than the tests, and long enough that a heartbeat comes in time on a busy machine.
const TTL: Duration = Duration::from_secs(8);

/// Longer than any test: that nobody is lost is no matter of time.
const FOR_EVER: Duration = Duration::from_secs(3600);

struct Cluster {
    fleet: Fleet,
    driver: Driver,
    _scheduler: SchedulerHandle,
}

fn cluster(workers: usize, threads: usize, heartbeat: Duration, ttl: Duration) -> Cluster {
    let token = Token::new("secret");
    let config = SchedulerConfig {
        listen: vec!["tcp://127.0.0.1:0".into()],
        allow_insecure_network: false,
        token: token.clone(),
        core: Config { worker_ttl_ns: ttl.as_nanos() as u64, ..Config::default() },
    };
    let scheduler = SchedulerServer::start(config).unwrap();
    let address: Address = scheduler.address().parse().unwrap();
    let driver = Driver::connect(scheduler.address(), &token).unwrap();
    let mut fleet = Fleet::start(heartbeat).unwrap();
    fleet.join(&address, &token, workers, threads).unwrap();
    driver.wait_for_workers(workers).unwrap();
    Cluster { fleet, driver, _scheduler: scheduler }
}

fn run(cluster: &Cluster, plan: Plan) {
    let wanted = cluster.driver.ends().ready + plan.count;
    cluster.driver.submit(plan);
    cluster.driver.wait("the end of all tasks", 60, |ends| ends.ready >= wanted).unwrap();
}

#[test]
fn tasks_of_every_shape_end_on_hundreds_of_workers() {
    let cluster = cluster(300, 1, Duration::from_secs(1), FOR_EVER);
    for shape in [Shape::Flat, Shape::Pairs, Shape::Chain, Shape::Funnel, Shape::Fan] {
        run(&cluster, Plan { count: 5_000, work: Work::default(), shape });
    }
    // Results too large for messages: the second half is placed by where they are.
    let work = Work { duration_ns: 100_000, size_bytes: 1 << 20 };
    run(&cluster, Plan { count: 5_000, work, shape: Shape::Pairs });
    assert_eq!(cluster.fleet.census().lost, 0, "{:?}", cluster.fleet.census());
    assert_eq!(cluster.driver.ends().erred, 0);
}

#[test]
fn heartbeats_keep_idle_workers_and_who_sends_none_is_lost() {
    let alive = cluster(200, 1, Duration::from_millis(500), TTL);
    let mute = cluster(200, 1, FOR_EVER, TTL);
    mute.fleet.wait("all are given up", 60, |census| census.lost == 200).unwrap();
    assert_eq!(alive.fleet.census().lost, 0, "{:?}", alive.fleet.census());
}

#[test]
fn the_tasks_of_many_workers_that_die_at_once_are_run_by_others() {
    let cluster = cluster(200, 2, Duration::from_millis(500), FOR_EVER);
    let work = Work { duration_ns: 1_000_000_000, size_bytes: 0 };
    cluster.driver.submit(Plan { count: 200, work, shape: Shape::Flat });
    cluster.driver.wait("the first end", 60, |ends| ends.ready >= 1).unwrap();
    cluster.driver.submit(Plan { count: 200, work, shape: Shape::Flat });
    cluster.fleet.kill(50);
    cluster.driver.wait("the end of all tasks", 100, |ends| ends.ready >= 400).unwrap();
    assert_eq!(cluster.driver.ends().erred, 0);
    assert_eq!(cluster.fleet.census().lost, 0);
}

#[test]
fn cancelled_tasks_end_and_the_workers_are_free_again() {
    let cluster = cluster(50, 1, Duration::from_millis(500), FOR_EVER);
    let work = Work { duration_ns: 3_600_000_000_000, size_bytes: 0 };
    let handles = cluster.driver.submit(Plan { count: 20_000, work, shape: Shape::Flat });
    cluster.driver.cancel(handles);
    cluster.driver.wait("all are cancelled", 60, |ends| ends.cancelled >= 20_000).unwrap();
    run(&cluster, Plan { count: 1_000, work: Work::default(), shape: Shape::Flat });
}
