//! Workers whose memory gets short: producers wait, and others are preferred.

use super::*;
use taskloom_proto::worker::{Heartbeat, WorkerToScheduler};

const MIB: u64 = 1 << 20;

/// A worker with two threads that has made a result of 30 MiB, and then is given three more tasks
/// like that; what it runs.
fn running_with(joining: script::Joining, resident_bytes: u64) -> (Script, Vec<String>) {
    let mut s = Script::anna_and([]);
    s.join(joining.threads(2));
    s.submit("anna", [future("made")]);
    s.done_with("alice", "made", Outcome::of_bytes(30 * MIB).after_us(50_000));
    let heartbeat = Heartbeat { resident_bytes, managed_bytes: 30 * MIB, ..Heartbeat::default() };
    s.report("alice", WorkerToScheduler::Heartbeat(heartbeat));
    s.submit("anna", [future("t1"), future("t2"), future("t3")]);
    let running = s.processing("alice");
    (s, running)
}

#[test]
fn where_there_is_room_all_threads_make_results() {
    let (_, running) = running_with(worker("alice").memory(1000 * MIB), 50 * MIB);
    assert_eq!(running.len(), 2);
}

#[test]
fn producers_wait_while_memory_is_short_but_one_always_runs() {
    let (mut s, running) = running_with(worker("alice").memory(100 * MIB), 50 * MIB);
    assert_eq!(running.len(), 1, "{running:?}");
    // Its end comes first, and then one of the others is not kept waiting.
    let first = running[0].clone();
    s.done_with("alice", &first, Outcome::of_bytes(30 * MIB).after_us(50_000));
    assert_eq!(s.processing("alice").len(), 1);
}

#[test]
fn producers_that_were_held_back_go_on_when_memory_is_found_free() {
    let (mut s, _) = running_with(worker("alice").memory(1000 * MIB), 900 * MIB);
    assert_eq!(s.processing("alice").len(), 1);
    let heartbeat = Heartbeat { resident_bytes: 60 * MIB, ..Heartbeat::default() };
    s.report("alice", WorkerToScheduler::Heartbeat(heartbeat));
    assert_eq!(s.processing("alice").len(), 2);
}

#[test]
fn the_thresholds_are_those_of_the_worker() {
    let half = |pause| worker("alice").memory(200 * MIB).thresholds(0.95, pause);
    // 50 MiB and two results of 30: beyond 60 %, but not where this worker begins to spill.
    let (_, running) = running_with(half(0.98), 90 * MIB);
    assert_eq!(running.len(), 2);
}

#[test]
fn the_size_of_a_program_with_workers_in_it_holds_nothing_back() {
    // Such a worker never pauses: the process is not its own.
    let (_, running) =
        running_with(worker("alice").memory(1000 * MIB).thresholds(0.6, 0.0), 5000 * MIB);
    assert_eq!(running.len(), 2);
}

#[test]
fn among_holders_of_inputs_one_with_room_is_preferred() {
    let mut s = Script::anna_and([]);
    for name in ["alice", "bob"] {
        s.join(worker(name).memory(100 * MIB));
        s.submit("anna", [future(name).only_on(&[name])]);
        s.done_with(name, name, Outcome::of_bytes(MIB));
    }
    let full = Heartbeat { resident_bytes: 90 * MIB, ..Heartbeat::default() };
    s.report("alice", WorkerToScheduler::Heartbeat(full));
    s.submit("anna", [future("both").needs(&["alice", "bob"])]);
    assert_eq!(s.processing("bob"), ["both"]);
}
