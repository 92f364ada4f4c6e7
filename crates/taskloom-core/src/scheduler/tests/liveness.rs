//! Silence, and what it means.

use super::*;

const TTL: u64 = 30 * Nanos::SECOND;

#[test]
fn a_worker_that_falls_silent_is_lost_after_its_time_to_live() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.pass(TTL - Nanos::SECOND), &[]);
    let sent = s.pass(2 * Nanos::SECOND);
    assert_sent(&sent, &["alice is cut off: nothing was heard from it for 30 s"]);
    assert_eq!(s.scheduler.worker_count(), 0);
    assert_eq!(s.reason("x"), "no-worker");
}

#[test]
fn any_message_is_a_sign_of_life() {
    let mut s = Script::anna_and(["alice"]);
    for _ in 0..5 {
        s.pass(TTL - Nanos::SECOND);
        s.heartbeat("alice");
    }
    assert_eq!(s.scheduler.worker_count(), 1);
}

#[test]
fn one_silent_worker_is_lost_and_the_others_stay() {
    let mut s = Script::anna_and(["alice", "bob"]);
    for _ in 0..40 {
        s.pass(Nanos::SECOND);
        if s.scheduler.worker_count() == 2 {
            s.heartbeat("bob");
        }
    }
    assert_sent(&s.submit("anna", [future("x")]), &["bob runs x"]);
}

#[test]
fn if_the_scheduler_itself_was_stopped_silence_is_no_sign_of_death() {
    let mut s = Script::anna_and(["alice"]);
    s.pass(Nanos::SECOND);
    // when: nobody polls for ten minutes, and then everything goes on
    s.now = s.now.after(600 * Nanos::SECOND);
    assert_sent(&s.poll(), &[]);
    assert_eq!(s.scheduler.worker_count(), 1);
    // then: the worker has its whole time again, and no more
    s.pass(TTL - Nanos::SECOND);
    assert_eq!(s.scheduler.worker_count(), 1);
    s.pass(2 * Nanos::SECOND);
    assert_eq!(s.scheduler.worker_count(), 0);
}

#[test]
fn a_worker_that_was_paused_and_comes_back_is_another_session() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let old = s.number("alice");
    let run = s.run("alice", "x");
    s.pass(TTL + Nanos::SECOND);
    s.join("alice");
    assert_eq!(s.processing("alice"), ["x"]);
    // when: what it did before its pause arrives
    let done = taskloom_proto::worker::TaskDone {
        task: run.task,
        attempt: run.attempt,
        ..Default::default()
    };
    let message = WorkerToScheduler::Done(vec![done]);
    assert_sent(&s.event(Event::WorkerMessage { worker: old, message }), &[]);
    assert_eq!(s.counters().stale_messages, 1);
}

#[test]
fn many_workers_report_less_often() {
    let mut s = Script::new();
    let interval = |s: &mut Script, count: u32| {
        let mut last = 0;
        for i in 0..count {
            let register = taskloom_proto::worker::RegisterWorker {
                name: format!("worker-{i}-of-{count}"),
                nthreads: 1,
                ..Default::default()
            };
            let worker = WorkerNo(1_000 * count + i);
            let message = WorkerToScheduler::Register(register);
            s.scheduler.handle(s.now, Event::WorkerMessage { worker, message });
        }
        for action in s.scheduler.poll(s.now) {
            if let Action::ToWorker(_, SchedulerToWorker::Registered(registered)) = action {
                last = registered.heartbeat_ms;
            }
        }
        last
    };
    assert_eq!(interval(&mut s, 10), 1000);
    assert_eq!(interval(&mut s, 490), 2500);
}
