//! Scenarios that once stopped or confused other task schedulers; the numbers are those of
//! `docs/design/scenarios.md`. Always: nothing is stuck, nothing counts twice, the books are right.

use super::*;
use State::{Erred, Memory, Processing, Queued, Released, Waiting};
use taskloom_proto::ExitKind;
use taskloom_proto::client::{Question, RetireWorkers};
use taskloom_proto::worker::{Retracted, TaskErred};

const MS: u64 = Nanos::MILLISECOND;

/// Alice was sent b behind a, and has been asked for it back since bob is idle.
fn asked_back() -> Script {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("a"), future("b")]);
    s.join("bob");
    assert_sent(&s.pass(30 * MS), &["alice is asked for b back"]);
    s
}

fn late_answer(s: &mut Script, given_back: bool) -> Vec<String> {
    let run = s.run("alice", "b");
    let answer = Retracted { task: run.task, attempt: run.attempt, given_back };
    s.report("alice", WorkerToScheduler::Retracted(answer))
}

#[test]
fn d01_a_late_error_of_a_run_that_another_worker_took_over_changes_nothing() {
    // given: b went from alice to bob, who finished it; c needs it at alice
    let mut s = asked_back();
    let old = s.run("alice", "b");
    s.gives_back("alice", "b");
    s.done("bob", "b");
    s.submit("anna", [future("c").needs(&["b"]).only_on(&["alice"])]);
    // when: alice's own run of b raises after all
    let erred = TaskErred { task: old.task, attempt: old.attempt, ..TaskErred::default() };
    assert_sent(&s.report("alice", WorkerToScheduler::Erred(erred)), &[]);
    // then
    assert_eq!((s.state("b"), s.counters().stale_messages), (Some(Memory), 1));
    s.done("alice", "a");
    s.done("alice", "c");
    assert_eq!(s.state("c"), Some(Memory));
}

#[test]
fn d04_the_input_of_a_queued_task_goes_with_its_worker_which_comes_back_anew() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    s.done("alice", "x");
    s.submit("anna", [future("a").priority(1), future("b").priority(1)]);
    s.join("bob");
    s.submit("anna", [future("z").needs(&["y"]).only_on(&["bob"])]);
    // when: alice is replaced by a new process of the same name
    s.worker_leaves("alice");
    s.join("alice");
    // then: x is made anew, and all that was queued runs in the end
    for _ in 0..20 {
        for worker in ["alice", "bob"] {
            if let Some(key) = s.processing(worker).first().cloned() {
                s.done(worker, &key);
            }
        }
    }
    for key in ["y", "a", "b", "z"] {
        assert_eq!(s.state(key), Some(Memory), "{key}");
    }
}

#[test]
fn d05_queued_tasks_are_cancelled_and_submitted_again_in_quick_succession() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("a"), future("b"), future("x"), future("y")]);
    for _ in 0..50 {
        assert_eq!(s.state("x"), Some(Queued));
        s.cancel("anna", &["x", "y"]);
        s.submit("anna", [future("x"), future("y")]);
    }
    s.done("alice", "a");
    s.done("alice", "b");
    s.done("alice", "x");
    assert_sent(&s.done("alice", "y"), &["anna finds y at alice"]);
}

#[test]
fn d06_a_task_moves_on_between_the_question_and_the_answer_about_it() {
    // given: alice was asked for b back; before her answer she is lost, and comes back
    let mut s = asked_back();
    let old = s.number("alice");
    let run = s.run("alice", "b");
    s.worker_leaves("alice");
    s.join("alice");
    let attempts = s.scheduler.tasks[s.index("b")].attempt;
    // when: the answer arrives, from the old session and from the new one
    let answer = Retracted { task: run.task, attempt: run.attempt, given_back: true };
    let message = WorkerToScheduler::Retracted(answer);
    s.event(Event::WorkerMessage { worker: old, message: message.clone() });
    s.report("alice", message);
    // then: b is not scheduled once more
    assert_eq!(s.scheduler.tasks[s.index("b")].attempt, attempts);
    assert_eq!(s.counters().stale_messages, 2);
}

#[test]
fn d07_a_task_that_is_given_back_is_not_processing_any_more() {
    let mut s = asked_back();
    // when: b was cancelled while the answer was on its way
    let expected = ["anna: b cancelled, cancelled", "alice frees b", "alice interrupts b"];
    assert_sent(&s.cancel("anna", &["b"]), &expected);
    assert_sent(&late_answer(&mut s, true), &[]);
    assert_eq!((s.state("b"), s.counters().stale_messages), (None, 1));
    // then: submitting it again gives a task of its own
    assert_sent(&s.submit("anna", [future("b")]), &["bob runs b"]);
}

#[test]
fn d07_a_task_that_finished_before_it_could_be_given_back_stays_finished() {
    let mut s = asked_back();
    assert_sent(&s.done("alice", "b"), &["anna finds b at alice"]);
    assert_sent(&late_answer(&mut s, false), &[]);
    assert_eq!(s.state("b"), Some(Memory));
}

#[test]
fn d16_an_erred_task_with_dependents_is_forgotten_and_can_run_again() {
    let mut s = Script::anna_and(["alice"]);
    let tasks = || [future("x"), future("y").needs(&["x"]), future("z").needs(&["y"])];
    s.submit("anna", tasks());
    s.raises("alice", "x");
    assert_eq!((s.state("x"), s.state("z")), (Some(Erred), Some(Erred)));
    s.release("anna", &["x", "y", "z"]);
    assert_eq!(s.scheduler.task_count(), 0);
    assert_sent(&s.submit("anna", tasks()), &["alice runs x"]);
    assert_sent(&s.done("alice", "x"), &["anna finds x at alice", "alice runs y with x here"]);
}

#[test]
fn d20_results_that_land_on_a_retiring_worker_are_copied_elsewhere() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x"), future("y")]);
    s.join("bob");
    let retire = RetireWorkers { workers: vec!["alice".into()], close: true };
    s.request("anna", Question::RetireWorkers(retire));
    // when: alice finishes what she had, and closes
    s.done("alice", "x");
    let sent = s.done("alice", "y");
    let copies = ["anna finds y at alice", "bob copies x from alice", "bob copies y from alice"];
    assert_sent(&sent, &copies);
    // then: nothing is made again
    s.fetched("bob", &["x"]);
    assert_sent(&s.fetched("bob", &["y"]), &["alice is told to close"]);
    assert_sent(&s.worker_leaves("alice"), &["anna gets an answer"]);
    assert_eq!((s.state("x"), s.state("y")), (Some(Memory), Some(Memory)));
}

#[test]
fn d21_who_waits_for_a_peer_that_left_hears_of_another() {
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done("alice", "x");
    s.fetched("carol", &["x"]);
    s.submit("anna", [future("y").needs(&["x"]).only_on(&["bob"])]);
    // when: alice is gone before bob could fetch x from her
    s.worker_leaves("alice");
    let gone = s.number("alice");
    let missing = taskloom_proto::worker::DepMissing {
        dep: s.id("x"),
        asked: [gone].into_iter().collect(),
        is_silence: false,
    };
    let sent = s.report("bob", WorkerToScheduler::DepMissing(missing));
    assert_sent(&sent, &["bob finds x from carol"]);
}

#[test]
fn d22_no_task_is_processing_on_a_worker_that_is_not_known() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::inline().after_us(10));
    let chain = [step("a"), step("b").needs(&["a"]), future("c").needs(&["b"])];
    s.submit("anna", chain);
    let maker = if s.processing("alice").is_empty() { "bob" } else { "alice" };
    assert_eq!(s.processing(maker), ["a", "b", "c"]);
    // when
    s.worker_leaves(maker);
    // then: all went back, and none names the worker that is gone (the books are checked)
    for key in ["a", "b", "c"] {
        assert_ne!(s.state(key), Some(Memory));
        assert_eq!(s.scheduler.workers.slot(s.number(maker)), None);
    }
    assert_eq!(s.state("c"), Some(Waiting));
}

#[test]
fn d23_a_worker_that_comes_back_in_the_middle_of_a_run_is_a_new_one_with_nothing() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x"), future("y").needs(&["x"])]);
    s.done("alice", "x");
    let old = s.number("alice");
    let run = s.run("alice", "y");
    // when: the connection breaks and the same process registers anew
    s.worker_leaves("alice");
    let sent = s.join("alice");
    // then: it gets its work again, and is not believed to hold anything
    assert_sent(&sent, &["alice is registered", "alice runs x (attempt 2)"]);
    let done = taskloom_proto::worker::TaskDone {
        task: run.task,
        attempt: run.attempt,
        ..Default::default()
    };
    let message = WorkerToScheduler::Done(vec![done]);
    s.event(Event::WorkerMessage { worker: old, message });
    assert_eq!(s.state("y"), Some(Waiting));
    s.done("alice", "x");
    assert_sent(&s.done("alice", "y"), &["anna finds y at alice"]);
}

#[test]
fn d27_a_client_asks_for_a_key_at_the_moment_it_is_forgotten() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x").arguments(1)]);
    s.done("alice", "x");
    // when: in one batch anna lets go of x and bert asks for it
    let release = s.handles("anna", &["x"]);
    let client = ClientId(1);
    let message = ClientToScheduler::Release(release);
    s.apply(Event::ClientMessage { client, message });
    assert_sent(&s.desire("bert", "x"), &["alice frees x"]);
    // then: bert waits for whoever submits it, and gets it
    assert_eq!(s.reason("x"), "not-submitted");
    assert_sent(&s.submit("anna", [future("x").arguments(1)]), &["alice runs x"]);
    let sent = s.done("alice", "x");
    assert_sent(&sent, &["bert finds x at alice", "anna finds x at alice"]);
}

#[test]
fn d28_a_heartbeat_of_a_worker_that_is_closing_does_not_bring_it_back() {
    let mut s = Script::anna_and(["alice"]);
    s.closes("alice");
    s.heartbeat("alice");
    assert_sent(&s.submit("anna", [future("x")]), &[]);
    assert_eq!(s.reason("x"), "no-worker");
    s.worker_leaves("alice");
    assert_sent(&s.join("alice"), &["alice is registered", "alice runs x"]);
}

#[test]
fn d29_retirement_is_no_failure_of_the_tasks_that_ran() {
    let mut s = Script::with(|config| config.allowed_failures = 0);
    s.client("anna");
    s.join(worker("alice").supervised());
    s.submit("anna", [future("x")]);
    let retire = RetireWorkers { workers: vec!["alice".into()], close: true };
    s.request("anna", Question::RetireWorkers(retire));
    // when: its process ends before x is done
    s.worker_leaves("alice");
    s.exited("alice", ExitKind::Signalled(15), &["x"]);
    s.join(worker("bob").supervised());
    // then
    assert_sent(&s.done("bob", "x"), &["anna finds x at bob"]);
}

#[test]
fn d42_a_task_is_with_one_worker_at_a_time() {
    let mut s = asked_back();
    // when: carol is idle too, and everybody looks for work
    s.join("carol");
    s.pass(100 * MS);
    let holders = |s: &Script| {
        let has = |name: &&str| s.processing(name).contains(&"b".to_string());
        ["alice", "bob", "carol"].iter().filter(|name| has(name)).count()
    };
    assert_eq!(holders(&s), 1);
    s.gives_back("alice", "b");
    assert_eq!(holders(&s), 1);
    assert_eq!(s.counters().retracted, 1);
}

#[test]
fn d24_who_waits_for_a_worker_that_answers_no_more_gets_its_input_made_again() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"]).only_on(&["bob"])]);
    s.done("alice", "x");
    assert_eq!(s.processing("bob"), ["y"]);
    // when: alice lives, and answers neither the scheduler nor bob
    for _ in 0..40 {
        s.pass(Nanos::SECOND);
        s.heartbeat("bob");
    }
    // then: she is given up, and bob makes x himself
    assert_eq!(s.scheduler.worker_count(), 1);
    assert_eq!(s.processing("bob"), ["x", "y"]);
    s.done("bob", "x");
    s.done("bob", "y");
    assert_eq!(s.state("y"), Some(Memory));
}

#[test]
fn d31_a_worker_that_joins_in_the_middle_of_a_shuffle_takes_its_part() {
    let mut s = Script::anna_and(["alice"]);
    let merge = |key: &'static str| future(key).needs(&["split-0", "split-1"]);
    s.submit("anna", [step("split-0"), step("split-1"), merge("merge-0"), merge("merge-1")]);
    s.done("alice", "split-0");
    s.join("bob");
    s.done("alice", "split-1");
    assert_eq!([s.processing("alice").len(), s.processing("bob").len()], [1, 1]);
    // when: the one who made all splits is gone before bob has fetched them
    s.worker_leaves("alice");
    while let Some(key) = s.processing("bob").last().cloned() {
        s.done("bob", &key);
    }
    // then
    assert_eq!([s.state("merge-0"), s.state("merge-1")], [Some(Memory); 2]);
}

#[test]
fn d43_a_long_run_leaves_nothing_behind() {
    let mut s = Script::anna_and(["alice"]);
    for round in 0..2_000u64 {
        let key = format!("task-{round}");
        s.submit("anna", [future(&key).calls("inc").prefix(&key).retries(1)]);
        s.done("alice", &key);
        s.release("anna", &[&key]);
    }
    assert_eq!(s.scheduler.task_count(), 0);
    assert_eq!(s.scheduler.classes.iter().count(), 1);
    assert_eq!(s.scheduler.functions.len(), 1);
    assert!(s.scheduler.clients.values().all(|client| client.handles.is_empty()));
    let slot = s.scheduler.workers.slot(s.number("alice")).unwrap();
    let alice = &s.scheduler.workers[slot];
    assert_eq!((alice.held.len(), alice.held_bytes, alice.processing.len()), (0, 0, 0));
    assert_eq!((alice.ghosts.len(), alice.occupancy_ns, alice.queue.len()), (0, 0, 0));
}

#[test]
fn a_released_result_of_a_task_that_others_were_made_from_is_made_again_for_a_late_asker() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    s.done("alice", "x");
    s.done("alice", "y");
    assert_eq!(s.state("x"), Some(Released));
    assert_sent(&s.desire("anna", "x"), &["alice runs x (attempt 2)"]);
    assert_eq!(s.state("x"), Some(Processing));
}

#[test]
fn d26_a_late_word_that_an_older_attempt_seceded_changes_nothing() {
    let mut s = asked_back();
    let old = s.run("alice", "b");
    s.gives_back("alice", "b");
    assert_eq!(s.processing("bob"), ["b"]);
    // when: alice says that her run of b left its slot, and is back
    s.report("alice", WorkerToScheduler::Seceded(old.clone()));
    s.report("alice", WorkerToScheduler::Rejoined(old));
    // then: b still takes bob's only slot
    assert_eq!(s.reason("b"), "processing");
    let bob = s.scheduler.workers.slot(s.number("bob")).unwrap();
    assert_eq!(s.scheduler.workers[bob].active, 1);
    assert_eq!(s.counters().stale_messages, 2);
}
