//! Limits of a run's time, and interrupts.

use super::*;
use crate::worker::Interrupt;
use taskloom_proto::policy::{InterruptRun, RunLimits, StuckRun};

const MS: u64 = Nanos::MILLISECOND;

fn limited(index: u32, timeout_ms: u64, hard_ms: u64) -> Sent {
    let limits = RunLimits { timeout_ns: timeout_ms * MS, hard_timeout_ns: hard_ms * MS };
    let Sent(task) = run(index);
    Sent(ComputeTask { limits: Some(Box::new(limits)), ..task })
}

fn interrupts(index: u32, why: Interrupt) -> Action {
    Action::Interrupt { task: task(index), attempt: 1, why }
}

fn stuck(index: u32, running_ms: u64) -> Action {
    let stuck = StuckRun { task: task(index), attempt: 1, running_ns: running_ms * MS };
    Action::Send(WorkerToScheduler::Stuck(stuck))
}

impl Script {
    fn pass_ms(&mut self, ms: u64) -> Vec<Action> {
        self.now = self.now.after(ms * MS);
        self.on(|worker, now| worker.on_tick(now))
    }

    fn cancelled(&mut self, index: u32, grace_ms: Option<u64>) -> Vec<Action> {
        let grace_ns = grace_ms.map(|ms| ms * MS);
        let interrupt = InterruptRun { task: task(index), attempt: 1, grace_ns };
        self.on(|worker, now| worker.on_interrupt(now, &interrupt))
    }
}

#[test]
fn the_clock_starts_with_the_run_and_not_with_its_wait() {
    let mut s = Script::new();
    s.compute([limited(1, 100, 300)]);
    assert_eq!(s.pass_ms(1000), []);
    assert_eq!(s.worker.next_deadline(), None);
    s.start();
    assert_eq!(s.worker.next_deadline(), Some(Nanos(1100 * MS)));
    assert_eq!(s.pass_ms(99), []);
    assert_eq!(s.pass_ms(1), [interrupts(1, Interrupt::TimedOut(100 * MS))]);
    // then: the hard limit follows
    assert_eq!(s.pass_ms(199), []);
    let beyond = Interrupt::TimedOut(300 * MS);
    assert_eq!(s.pass_ms(1), [interrupts(1, beyond), stuck(1, 300)]);
    assert_eq!(s.worker.next_deadline(), None);
}

#[test]
fn a_run_that_ends_in_time_is_watched_no_more() {
    let mut s = Script::new();
    s.compute([limited(1, 100, 300), limited(2, 0, 50)]);
    s.start_all();
    s.finish(1, 1);
    s.on(|worker, _| worker.on_erred(task(2), 1, 1, boom()));
    assert_eq!(s.worker.next_deadline(), None);
    assert_eq!(s.pass_ms(1000), []);
}

#[test]
fn time_outside_a_slot_counts() {
    let mut s = Script::new();
    s.compute([limited(1, 100, 0)]);
    s.start();
    s.on(|worker, _| worker.on_seceded(task(1), 1));
    assert_eq!(s.pass_ms(100), [interrupts(1, Interrupt::TimedOut(100 * MS))]);
}

#[test]
fn a_freed_run_keeps_its_limits() {
    let mut s = Script::new();
    s.compute([limited(1, 100, 200)]);
    s.start();
    assert_eq!(s.free(&[1]), [abandoned(1, 1)]);
    assert_eq!(s.pass_ms(100), [interrupts(1, Interrupt::TimedOut(100 * MS))]);
    assert_eq!(s.pass_ms(100), [stuck(1, 200)]);
    s.finish(1, 1);
    s.assert_empty();
}

#[test]
fn a_cancelled_run_is_interrupted_and_reported_after_its_grace() {
    let mut s = Script::new();
    s.compute([run(1), run(2)]);
    s.start_all();
    s.free(&[1, 2]);
    assert_eq!(s.cancelled(1, None), [interrupts(1, Interrupt::Cancelled)]);
    assert_eq!(s.cancelled(2, Some(50)), [interrupts(2, Interrupt::Cancelled)]);
    assert_eq!(s.pass_ms(50), [stuck(2, 50)]);
}

#[test]
fn a_cancelled_run_that_ends_within_its_grace_is_not_reported() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    s.free(&[1]);
    s.cancelled(1, Some(50));
    assert!(!s.finish(1, 1));
    assert_eq!(s.pass_ms(100), []);
}

#[test]
fn only_a_run_that_was_freed_is_interrupted() {
    let mut s = Script::new();
    s.compute([run(1), run(2)]);
    assert_eq!(s.start(), Some(1));
    // when: the run goes on, has not started, is over, or was never here
    assert_eq!(s.cancelled(1, Some(1)), []);
    assert_eq!(s.cancelled(2, Some(1)), []);
    s.finish(1, 1);
    assert_eq!(s.cancelled(1, Some(1)), []);
    assert_eq!(s.cancelled(7, Some(1)), []);
    assert_eq!(s.worker.next_deadline(), None);
}

#[test]
fn an_interrupt_of_an_old_attempt_does_not_meet_the_new_one() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    s.free(&[1]);
    s.finish(1, 1);
    s.compute([run(1).attempt(2)]);
    s.start();
    assert_eq!(s.cancelled(1, None), []);
}
