//! Results that name others: the files of a shuffle, and the list of them.

use super::*;
use State::{Memory, Processing, Released, Waiting};
use taskloom_proto::client::{PlanScatter, Question, RetireWorkers};
use taskloom_types::Key;

/// Files `a` of alice and `b` of bob, and a list of both, which `reader` on bob is to read.
fn shuffle() -> Script {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit(
        "anna",
        [
            step("a").local().rather_on(&["alice"]),
            step("b").local().rather_on(&["bob"]),
            step("list").keeps_inputs().needs(&["a", "b"]).rather_on(&["bob"]),
            future("reader").needs(&["list"]).rather_on(&["bob"]),
        ],
    );
    s.done_with("alice", "a", Outcome::inline());
    s.done_with("bob", "b", Outcome::inline());
    s
}

#[test]
fn what_a_list_names_stays_as_long_as_the_list() {
    let mut s = shuffle();
    s.done_with("bob", "list", Outcome::of_bytes(5_000));
    assert_eq!((s.state("a"), s.state("b")), (Some(Memory), Some(Memory)));
    let sent = s.done("bob", "reader");
    assert_sent(&sent, &["anna finds reader at bob", "bob frees list b", "alice frees a"]);
    assert_eq!(s.state("a"), Some(Released));
}

#[test]
fn a_list_is_lost_with_what_it_names_and_only_that_is_made_again() {
    let mut s = shuffle();
    s.done_with("bob", "list", Outcome::of_bytes(5_000));
    assert_eq!(s.state("reader"), Some(Processing));
    // when: alice is lost
    let sent = s.worker_leaves("alice");
    // then: the reader comes back, for it may have the old list
    assert_sent(&sent, &["bob frees list reader", "bob runs a (attempt 2)"]);
    assert_eq!((s.state("b"), s.state("list")), (Some(Memory), Some(Waiting)));
    assert_eq!(s.state("reader"), Some(Waiting));
    s.done_with("bob", "a", Outcome::inline());
    s.done_with("bob", "list", Outcome::of_bytes(5_000));
    let sent = s.done("bob", "reader");
    assert_sent(&sent, &["anna finds reader at bob", "bob frees list b a"]);
}

#[test]
fn what_is_local_is_lost_with_its_worker_although_its_name_is_elsewhere() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").local()]);
    s.done_with("alice", "x", Outcome::inline());
    s.join("bob");
    s.fetched("bob", &["x"]);
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["bob frees x", "anna: x pending again", "bob runs x (attempt 2)"]);
}

#[test]
fn a_name_travels_inside_messages_however_much_the_scheduler_holds() {
    let mut s = Script::with(|config| config.inline_bytes = 8);
    s.client("anna");
    s.join("alice");
    s.submit("anna", [future("x"), future("y").local()]);
    assert_sent(&s.done_with("alice", "x", Outcome::inline()), &["anna has x"]);
    assert_sent(&s.done_with("alice", "y", Outcome::inline()), &["anna has y"]);
}

#[test]
fn a_list_that_is_being_made_is_begun_anew_when_an_input_is_lost() {
    let mut s = shuffle();
    assert_eq!(s.state("list"), Some(Processing));
    let old = s.run("bob", "list");
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["bob frees list", "bob runs a (attempt 2)"]);
    // when: the old run ends all the same
    s.done_as("bob", old.task, old.attempt, Outcome::inline());
    assert_eq!(s.state("list"), Some(Waiting));
}

#[test]
fn a_list_that_nobody_reads_any_more_is_not_made_again() {
    let mut s = shuffle();
    s.done_with("bob", "list", Outcome::of_bytes(5_000));
    s.done("bob", "reader");
    assert_sent(&s.worker_leaves("alice"), &[]);
    // but when what was read is lost, all is
    s.join("carol");
    let sent = s.worker_leaves("bob");
    assert_eq!(sent[0], "anna: reader pending again");
    assert_eq!(s.state("a"), Some(Processing));
}

/// Lists of lists, and at the end data that cannot be made again.
#[test]
fn what_names_lost_data_through_others_is_dropped_with_it() {
    let mut s = Script::anna_and(["alice", "bob"]);
    let items = vec![(s.new_handle("anna", "data"), Key::from_text("data"), 10)];
    let scatter = PlanScatter { items, workers: vec!["alice".into()], ..PlanScatter::default() };
    s.request("anna", Question::PlanScatter(scatter));
    s.stored("alice", "data");
    s.submit(
        "anna",
        [
            step("file").needs(&["data"]).rather_on(&["bob"]),
            step("list").keeps_inputs().needs(&["file"]).rather_on(&["bob"]),
            future("lists").keeps_inputs().needs(&["list"]).rather_on(&["bob"]),
        ],
    );
    s.done_with("bob", "file", Outcome::of_bytes(5_000));
    s.done_with("bob", "list", Outcome::inline());
    s.done_with("bob", "lists", Outcome::inline());
    s.release("anna", &["data"]);
    s.worker_leaves("alice");
    assert_eq!(s.state("lists"), Some(Memory));
    // when: the file must be made again, from data that is gone
    let sent = s.worker_leaves("bob");
    assert!(sent.contains(&"anna: lists cancelled, lost".to_string()), "{sent:?}");
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn what_is_local_is_not_moved_when_its_worker_retires() {
    let mut s = shuffle();
    s.done_with("bob", "list", Outcome::of_bytes(5_000));
    let retire = RetireWorkers { workers: vec!["alice".into()], close: true };
    let sent = s.request("anna", Question::RetireWorkers(retire));
    assert!(sent.iter().all(|line| !line.contains("fetches a")), "{sent:?}");
}
