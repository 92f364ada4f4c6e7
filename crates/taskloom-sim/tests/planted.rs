//! Rules broken on purpose: the simulator must find each within 60,000 seeds.
//! `cargo test --release -p taskloom-sim --features planted --test planted`

use std::panic::{AssertUnwindSafe, catch_unwind};
use taskloom_core::scheduler::Fault;
use taskloom_sim::{Settings, run};

/// The first seed that shows the fault, and how.
fn find(fault: Fault) -> Option<(u64, String)> {
    let settings = Settings { planted: Some(fault), ..Settings::default() };
    (0..60_000).find_map(|seed| {
        // An assertion in the rules is a find as well.
        match catch_unwind(AssertUnwindSafe(|| run(seed, settings))) {
            Ok(Ok(_)) => None,
            Ok(Err(failure)) => Some((seed, failure.what)),
            Err(_) => Some((seed, "an assertion".to_string())),
        }
    })
}

#[test]
fn every_planted_fault_is_found() {
    std::panic::set_hook(Box::new(|_| ()));
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        match find(fault) {
            Some((seed, what)) => println!("{fault:?} shows at seed {seed}: {what}"),
            None => missed.push(fault),
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
