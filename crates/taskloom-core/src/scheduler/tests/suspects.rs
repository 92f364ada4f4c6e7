//! Worker processes that die, and the tasks that may be to blame.

use super::*;
use State::{NoWorker, Processing, Waiting};
use taskloom_proto::ExitKind;

const SEGV: ExitKind = ExitKind::Signalled(11);

/// Alice, supervised, was sent x and y; bob is free.
fn alice_has_x_and_y(allowed_failures: u8) -> Script {
    let mut s = Script::with(|config| config.allowed_failures = allowed_failures);
    s.client("anna");
    s.join(worker("alice").supervised());
    s.submit("anna", [future("x"), future("y")]);
    s.join(worker("bob").supervised());
    s
}

fn suspicions(s: &Script, key: &str) -> u8 {
    s.scheduler.tasks[s.index(key)].suspicions
}

#[test]
fn only_what_was_executing_is_to_blame() {
    let mut s = alice_has_x_and_y(3);
    assert_sent(&s.worker_leaves("alice"), &[]);
    assert_eq!(
        (s.reason("x").as_str(), s.reason("y").as_str()),
        ("waiting-for-verdict", "waiting-for-verdict")
    );
    s.exited("alice", SEGV, &["x"]);
    assert_eq!((suspicions(&s, "x"), suspicions(&s, "y")), (1, 0));
}

#[test]
fn a_suspect_runs_alone() {
    let mut s = alice_has_x_and_y(3);
    s.worker_leaves("alice");
    // when: bob is the only worker, and x may have killed alice
    let sent = s.exited("alice", SEGV, &["x"]);
    assert_sent(&sent, &["bob runs x (attempt 2)"]);
    assert_eq!(s.reason("x"), "suspect");
    assert_sent(&s.submit("anna", [future("z")]), &[]);
    // then: only when it is done, others run there again
    let sent = s.done("bob", "x");
    assert_eq!(sent[0], "anna finds x at bob");
    assert_eq!(suspicions(&s, "x"), 0);
    assert_eq!(s.processing("bob").len(), 1);
}

#[test]
fn a_worker_is_emptied_for_a_suspect() {
    let mut s = alice_has_x_and_y(3);
    s.submit("anna", [future("w").only_on(&["bob"])]);
    s.worker_leaves("alice");
    assert_sent(&s.exited("alice", SEGV, &["x"]), &[]);
    assert_eq!(s.reason("x"), "suspect");
    let sent = s.done("bob", "w");
    assert_sent(&sent, &["anna finds w at bob", "bob runs x (attempt 2)"]);
}

#[test]
fn suspects_are_tried_one_after_the_other() {
    let mut s = alice_has_x_and_y(3);
    s.worker_leaves("alice");
    assert_sent(&s.exited("alice", SEGV, &["x", "y"]), &["bob runs x (attempt 2)"]);
    s.join("carol");
    assert_eq!(s.processing("carol"), Vec::<String>::new());
    let sent = s.done("bob", "x");
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(sent[1].ends_with("runs y (attempt 2)"), "{sent:?}");
}

#[test]
fn a_task_that_kills_more_workers_than_allowed_fails_and_says_how() {
    let mut s = alice_has_x_and_y(1);
    s.worker_leaves("alice");
    s.exited("alice", SEGV, &["x"]);
    assert_eq!(s.processing("bob"), ["x"]);
    s.worker_leaves("bob");
    let sent = s.exited("bob", SEGV, &["x"]);
    assert_sent(&sent, &["anna: x failed, KilledWorker"]);
    let message = &s.words.errors["x"].message;
    for part in
        ["task x", "2 worker processes", "worker bob", "tcp://bob:1", "SIGSEGV", "last words"]
    {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    // then: y, which was only nearby, is still to be run
    assert_eq!(s.state("y"), Some(NoWorker));
}

#[test]
fn d44_with_no_allowed_failures_the_first_death_is_final() {
    let mut s = alice_has_x_and_y(0);
    s.worker_leaves("alice");
    let sent = s.exited("alice", ExitKind::OutOfMemory, &["x"]);
    assert_sent(&sent, &["anna: x failed, KilledWorker", "bob runs y (attempt 2)"]);
    assert!(s.words.errors["x"].message.contains("ran out of memory"));
    assert!(s.words.errors["x"].message.starts_with("task x was running on worker alice"));
}

#[test]
fn a_report_may_come_before_the_connection_is_seen_to_close() {
    let mut s = alice_has_x_and_y(3);
    let sent = s.exited("alice", SEGV, &["x"]);
    assert_sent(&sent, &["alice is cut off: its process has ended", "bob runs x (attempt 2)"]);
    assert_eq!((suspicions(&s, "x"), suspicions(&s, "y")), (1, 0));
    assert_sent(&s.worker_leaves("alice"), &[]);
}

#[test]
fn without_a_report_in_time_all_are_suspects() {
    let mut s = alice_has_x_and_y(3);
    s.worker_leaves("alice");
    s.pass(Nanos::SECOND);
    assert_eq!(s.state("x"), Some(Waiting));
    s.pass(2 * Nanos::SECOND);
    assert_eq!((suspicions(&s, "x"), suspicions(&s, "y")), (1, 1));
    assert_eq!(s.processing("bob").len(), 1);
}

#[test]
fn a_worker_without_supervisor_makes_suspects_at_once() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.join("bob");
    assert_sent(&s.worker_leaves("alice"), &["bob runs x (attempt 2)"]);
    assert_eq!(suspicions(&s, "x"), 1);
}

#[test]
fn a_worker_that_was_told_to_end_makes_no_suspects() {
    let mut s = alice_has_x_and_y(0);
    s.worker_leaves("alice");
    s.exited("alice", ExitKind::Requested, &["x", "y"]);
    assert_eq!((suspicions(&s, "x"), suspicions(&s, "y")), (0, 0));
    assert_eq!(s.counters().tasks_erred, 0);
}

#[test]
fn a_task_that_waited_for_others_is_not_to_blame() {
    let mut s = alice_has_x_and_y(0);
    s.secedes("alice", "x");
    s.worker_leaves("alice");
    assert_eq!((s.state("x"), suspicions(&s, "x")), (Some(Processing), 0));
}

#[test]
fn a_success_ends_all_suspicion() {
    let mut s = alice_has_x_and_y(1);
    s.worker_leaves("alice");
    s.exited("alice", SEGV, &["x"]);
    s.done("bob", "x");
    // when: bob dies, and x with him; it was not running
    s.worker_leaves("bob");
    s.exited("bob", SEGV, &[]);
    assert_eq!((suspicions(&s, "x"), s.state("x")), (0, Some(NoWorker)));
}

#[test]
fn a_suspect_may_be_cancelled_and_the_worker_is_open_to_all_again() {
    let mut s = alice_has_x_and_y(3);
    s.worker_leaves("alice");
    s.exited("alice", SEGV, &["x", "y"]);
    s.cancel("anna", &["x", "y"]);
    assert_sent(&s.submit("anna", [future("z")]), &["bob runs z"]);
}

#[test]
fn a_suspect_that_secedes_makes_room() {
    let mut s = alice_has_x_and_y(3);
    s.worker_leaves("alice");
    s.exited("alice", SEGV, &["x"]);
    s.done_with("bob", "x", Outcome::default());
    s.submit("anna", [future("w").only_on(&["bob"])]);
    s.join(worker("alice").supervised());
    s.cancel("anna", &["y", "w"]);
    s.submit("anna", [future("v").only_on(&["alice"])]);
    s.worker_leaves("alice");
    s.exited("alice", SEGV, &["v"]);
    s.join(worker("alice").supervised());
    assert_eq!(s.reason("v"), "suspect");
    s.submit("anna", [future("u").only_on(&["alice"])]);
    assert_sent(&s.secedes("alice", "v"), &["alice runs u"]);
}

#[test]
fn a_suspect_that_no_worker_may_run_keeps_no_other_waiting() {
    // given: v may only run at alice, who died of it and does not come back; so did y
    let mut s = Script::with(|config| config.no_workers_timeout_ns = Some(60 * Nanos::SECOND));
    s.client("anna");
    s.join(worker("alice").threads(2).supervised());
    s.submit("anna", [future("v").only_on(&["alice"]), future("y")]);
    s.join(worker("bob").supervised());
    s.worker_leaves("alice");
    // when: both are suspects
    let sent = s.exited("alice", SEGV, &["v", "y"]);
    // then: y is tried, v waits for a worker
    assert_sent(&sent, &["bob runs y (attempt 2)"]);
    assert_eq!((s.state("v"), s.reason("v").as_str()), (Some(NoWorker), "no-worker"));
    // when: alice is back, v runs there alone
    s.done("bob", "y");
    let sent = s.join(worker("alice").supervised());
    assert_sent(&sent, &["alice is registered", "alice runs v (attempt 2)"]);
    assert_eq!(s.reason("v"), "suspect");
}

#[test]
fn a_queued_suspect_waits_for_its_worker_like_others_when_that_leaves() {
    let mut s = Script::with(|config| config.no_workers_timeout_ns = Some(5 * Nanos::SECOND));
    s.client("anna");
    s.join("alice");
    s.submit("anna", [future("x"), future("y").only_on(&["alice", "carol"])]);
    s.join("carol");
    s.submit("anna", [future("z").only_on(&["carol"])]);
    s.worker_leaves("alice");
    assert_eq!(s.reason("y"), "suspect");
    s.closes("carol");
    assert_eq!(s.reason("y"), "no-worker");
    let said = s.pass(6 * Nanos::SECOND);
    assert!(said.contains(&"anna: y failed, NoValidWorkerError".to_string()), "{said:?}");
}

#[test]
fn reports_about_processes_that_never_registered_do_not_pile_up() {
    let mut s = Script::anna_and(["alice"]);
    for pid in 0..2_000 {
        s.exit_report(taskloom_proto::supervisor::WorkerExited {
            name: "crashing".into(),
            pid,
            ..Default::default()
        });
    }
    let kept = format!("{:?}", s.scheduler.suspects).matches("crashing").count();
    assert!(kept <= 256, "{kept} are kept");
}

#[test]
fn a_suspect_whose_input_is_lost_lets_others_make_it_again_on_its_worker() {
    // given: y, which needs x from alice, is a suspect and runs alone at bob
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    s.submit(
        "anna",
        [step("x").rather_on(&["alice"]), future("y").needs(&["x"]).only_on(&["bob"])],
    );
    s.done("alice", "x");
    s.worker_leaves("carol");
    s.worker_leaves("bob");
    s.join("bob");
    assert_eq!((s.reason("y").as_str(), s.processing("bob")), ("suspect", vec!["y".into()]));
    // when: alice is lost with x, and only bob is left to make it
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["bob frees y", "bob runs x (attempt 2)"]);
    // then: both end
    assert_sent(&s.done("bob", "x"), &["bob runs y (attempt 3) with x here"]);
    s.done("bob", "y");
    s.release("anna", &["y"]);
    assert_eq!(s.scheduler.task_count(), 0);
}
