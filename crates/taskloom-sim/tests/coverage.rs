//! The page on faults is complete, says no more than is so, and counts right.

mod pages;

use pages::{root, sources};
use std::fs;

/// A row: number, fault, how far it is covered, what simulates it, tests, what is missing.
type Row = [String; 6];

fn rows(page: &str) -> Vec<Row> {
    let is_row = |line: &&str| line.starts_with("| F");
    let row = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_string());
        let cells: Vec<String> = cells.collect();
        cells.try_into().unwrap_or_else(|_| panic!("not six columns: {line}"))
    };
    page.lines().filter(is_row).map(row).collect()
}

fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/design/faults.md")).expect("the page")
}

#[test]
fn every_fault_of_the_catalogue_has_one_row() {
    let numbers: Vec<String> = rows(&page()).into_iter().map(|[number, ..]| number).collect();
    let groups = [1..=16, 20..=33, 40..=47, 50..=53, 60..=80];
    let expected: Vec<String> =
        groups.into_iter().flatten().map(|number: u32| format!("F{number:02}")).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn what_a_row_names_exists() {
    let mut tests = String::new();
    sources(&root().join("crates"), &mut tests);
    sources(&root().join("tests"), &mut tests);
    let read = |file: &str| fs::read_to_string(root().join(file)).expect(file);
    let simulator =
        read("crates/taskloom-sim/src/plan.rs") + &read("crates/taskloom-sim/src/workload.rs");
    for [number, _, covered, simulated, shown, missing] in rows(&page()) {
        for name in names(&shown) {
            assert!(tests.contains(&format!(" {name}(")), "{number}: there is no test {name}");
        }
        for name in names(&simulated) {
            assert!(simulator.contains(name), "{number}: nothing simulates {name}");
        }
        let has_proof = !names(&shown).is_empty() || !names(&simulated).is_empty();
        assert_eq!(has_proof, covered != "no", "{number} is covered: {covered}");
        assert!(covered != "part" || !missing.is_empty(), "{number}: what is missing?");
    }
}

#[test]
fn the_sum_is_right() {
    let page = page();
    let count = |word: &str| rows(&page).iter().filter(|row| row[2] == word).count();
    let sum = format!(
        "Of {} faults {} are covered, {} in part, {} not.",
        rows(&page).len(),
        count("yes"),
        count("part"),
        count("no")
    );
    assert!(page.contains(&sum), "the page should say: {sum}");
}
