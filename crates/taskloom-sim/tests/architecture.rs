//! Keeps the arrows of ARCHITECTURE.md: who may know whom, and that rules know no outside world.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::collections::BTreeSet;

/// What each crate may use of this workspace, outside its tests.
const MAY_USE: &[(&str, &[&str])] = &[
    ("taskloom-types", &[]),
    ("taskloom-proto", &["taskloom-types"]),
    ("taskloom-core", &["taskloom-proto", "taskloom-types"]),
    ("taskloom-net", &["taskloom-proto", "taskloom-types"]),
    ("taskloom-data", &[]),
    (
        "taskloom-runtime",
        &["taskloom-core", "taskloom-data", "taskloom-net", "taskloom-proto", "taskloom-types"],
    ),
    (
        "taskloom-cli",
        &["taskloom-core", "taskloom-net", "taskloom-proto", "taskloom-runtime", "taskloom-types"],
    ),
    (
        "taskloom-py",
        &[
            "taskloom-cli",
            "taskloom-core",
            "taskloom-data",
            "taskloom-net",
            "taskloom-proto",
            "taskloom-runtime",
            "taskloom-types",
        ],
    ),
    ("taskloom-sim", &["taskloom-core", "taskloom-proto", "taskloom-runtime", "taskloom-types"]),
    (
        "taskloom-hollow",
        &[
            "taskloom-cli",
            "taskloom-core",
            "taskloom-net",
            "taskloom-proto",
            "taskloom-runtime",
            "taskloom-types",
        ],
    ),
];

/// Crates of pure rules, and every foreign crate that they may use: none of these opens a file
/// or a socket, reads a clock, starts a thread or draws random numbers.
const RULES: &[&str] = &["taskloom-types", "taskloom-proto", "taskloom-core"];
const PURE: &[&str] =
    &["bytes", "foldhash", "hashbrown", "hmac", "sha2", "smallvec", "subtle", "thiserror"];

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs")
}

fn normal_dependencies(package: &Package) -> BTreeSet<&str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.as_str())
        .collect()
}

#[test]
fn every_crate_has_a_place_in_the_table_of_arrows() {
    let metadata = workspace();
    let found: BTreeSet<_> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let listed: BTreeSet<_> = MAY_USE.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, listed);
}

#[test]
fn no_crate_uses_one_that_lies_above_it() {
    for package in workspace().packages {
        let allowed = MAY_USE.iter().find(|(name, _)| *name == package.name.as_str());
        let allowed = allowed.map_or(&[][..], |(_, allowed)| allowed);
        for used in normal_dependencies(&package) {
            let ours = used.starts_with("taskloom");
            assert!(!ours || allowed.contains(&used), "{} must not use {used}", package.name);
        }
    }
}

#[test]
fn rules_use_only_foreign_crates_without_io() {
    for package in workspace().packages {
        if !RULES.contains(&package.name.as_str()) {
            continue;
        }
        for used in normal_dependencies(&package) {
            assert!(
                used.starts_with("taskloom") || PURE.contains(&used),
                "{} uses {used}, which is not known to be free of IO, clocks and randomness",
                package.name
            );
        }
    }
}

#[test]
fn only_the_python_crate_knows_python() {
    for package in workspace().packages {
        let knows = normal_dependencies(&package).iter().any(|name| name.starts_with("pyo3"));
        assert_eq!(knows, package.name.as_str() == "taskloom-py", "{}", package.name);
    }
}

#[test]
fn rules_are_linted_against_clocks_threads_and_files() {
    for package in workspace().packages {
        if !RULES.contains(&package.name.as_str()) {
            continue;
        }
        let config = package.manifest_path.with_file_name("clippy.toml");
        let text = std::fs::read_to_string(&config).unwrap_or_default();
        assert!(text.contains("std::time::Instant"), "{config} does not forbid reading the clock");
    }
}
