//! The list of historical scenarios is complete, and the tests that it names exist.

mod pages;

use pages::{root, sources};
use std::fs;

#[test]
fn every_scenario_has_a_test_that_exists_or_a_reason() {
    let list = fs::read_to_string(root().join("docs/design/scenarios.md")).expect("the list");
    let mut code = String::new();
    sources(&root().join("crates"), &mut code);
    sources(&root().join("tests"), &mut code);
    for number in 1..=46 {
        let row = list.lines().find(|line| line.starts_with(&format!("| D{number:02} |")));
        assert!(row.is_some_and(|row| row.len() > 40), "D{number:02} is not in the list");
    }
    let is_of_tests = |line: &&str| line.starts_with("| D") || line.contains("_");
    let rows = list.lines().filter(|line| line.starts_with('|')).filter(is_of_tests);
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let missing: Vec<&str> = names.filter(|name| !code.contains(&format!(" {name}("))).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
