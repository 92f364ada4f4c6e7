//! One key, several specs.

use super::*;

#[test]
fn a_live_key_that_comes_with_another_function_is_told_with_both_names() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc")]);
    let sent = s.submit("anna", [future("x").calls("dec")]);
    assert_sent(&sent, &["anna: x is inc(…), not dec(…)"]);
    // then: both futures get what the first spec makes
    let sent = s.done("alice", "x");
    assert_sent(&sent, &["anna finds x at alice", "anna finds x at alice"]);
    assert_eq!(s.counters().collisions, 1);
}

#[test]
fn a_live_key_that_comes_with_other_arguments_is_told() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc").arguments(1)]);
    let sent = s.submit("anna", [future("x").calls("inc").arguments(2)]);
    assert_sent(&sent, &["anna: x is inc(…), not inc(…) with other arguments"]);
}

#[test]
fn equal_specs_are_no_collision() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc").arguments(1)]);
    assert_sent(&s.submit("anna", [future("x").calls("inc").arguments(1)]), &[]);
    assert_eq!(s.counters().collisions, 0);
}

#[test]
fn a_strict_client_gets_nothing_for_a_colliding_spec() {
    let mut s = Script::anna_and(["alice"]);
    s.strict_client("bert");
    s.submit("anna", [future("x").calls("inc")]);
    let sent = s.submit("bert", [future("x").calls("dec"), future("y").needs(&["x"])]);
    let expected = ["bert: x is inc(…), not dec(…)", "bert: y failed, CancelledError"];
    assert_sent(&sent, &expected);
    assert_sent(&s.done("alice", "x"), &["anna finds x at alice"]);
}

#[test]
fn a_graph_may_give_one_key_several_specs_and_the_first_is_kept() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc").graph()]);
    assert_sent(&s.submit("anna", [future("x").calls("dec").graph()]), &[]);
    let counters = s.counters();
    assert_eq!((counters.collisions, counters.spec_differences), (0, 1));
}

#[test]
fn a_key_that_its_last_holder_released_does_not_collide() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc")]);
    s.release("anna", &["x"]);
    let sent = s.submit("anna", [future("x").calls("dec")]);
    assert_sent(&sent, &["alice learns dec", "alice runs x"]);
}

#[test]
fn an_erred_key_that_is_held_collides_too() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc")]);
    s.raises("alice", "x");
    let sent = s.submit("anna", [future("x").calls("dec")]);
    assert_sent(&sent, &["anna: x is inc(…), not dec(…)", "anna: x failed, ValueError"]);
}
