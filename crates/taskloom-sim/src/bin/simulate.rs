//! Runs many seeds, or one again:
//! `simulate [--seed N] [--seeds COUNT] [--from N] [--large] [--trace]`.

use std::process::ExitCode;
use taskloom_sim::{Report, Settings, run};

fn option(args: &[String], name: &str) -> Option<u64> {
    let position = args.iter().position(|arg| arg == name)?;
    args.get(position + 1)?.parse().ok()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let settings = if has("--large") { Settings::large() } else { Settings::default() };
    let settings = Settings { trace: has("--trace"), ..settings };
    let (first, count) = match option(&args, "--seed") {
        Some(seed) => (seed, 1),
        None => (option(&args, "--from").unwrap_or(0), option(&args, "--seeds").unwrap_or(10_000)),
    };
    let mut sum = Report::default();
    for seed in first..first + count {
        match run(seed, settings) {
            Ok(report) => sum.add(&report),
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} seeds from {first} are clean: {sum:?}");
    ExitCode::SUCCESS
}
