//! `hollow`: measures the scheduler with hollow workers.

use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use taskloom_cli::{PythonHost, WorkerOptions};
use taskloom_hollow::report::Sample;
use taskloom_hollow::{HollowError, cases};

/// The product's allocator: memory is measured, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "hollow", about = "Measure the scheduler with thousands of hollow workers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scheduler, as `taskloom scheduler` does
    #[command(disable_help_flag = true)]
    Scheduler {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure; writes JSON lines to standard output, and text to standard error
    Measure(Measure),
}

#[derive(Debug, Parser)]
struct Measure {
    /// Only these cases: idle, cost, rate, deaths, held, shapes
    #[arg(long, num_args = 1..)]
    cases: Vec<String>,
    /// Numbers of workers of the cases idle and cost
    #[arg(long, num_args = 1.., default_values_t = [1, 2, 10, 100, 128, 1000, 5000])]
    workers: Vec<usize>,
    /// Tasks of the case cost
    #[arg(long, default_value_t = 200_000)]
    tasks: u64,
    /// Seconds of the case idle
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
}

/// There is no Python here.
struct NoPython;

impl PythonHost for NoPython {
    fn python_executable(&self) -> String {
        "python3".into()
    }

    fn run_worker(&self, _: WorkerOptions) -> i32 {
        eprintln!("hollow: workers need Python: python -m taskloom worker");
        2
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Scheduler { arguments } => {
            let argv = ["taskloom", "scheduler"].map(String::from).into_iter().chain(arguments);
            let code = taskloom_cli::run(argv.collect(), &NoPython);
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Command::Measure(options) => match measure(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("hollow: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn measure(options: &Measure) -> Result<(), HollowError> {
    let program = std::env::current_exe().map_err(HollowError::io("where is this program"))?;
    let wants = |case: &str| options.cases.is_empty() || options.cases.iter().any(|c| c == case);
    let most = options.workers.iter().copied().max().unwrap_or(1);
    if wants("idle") {
        for workers in options.workers.iter().copied().filter(|workers| *workers >= 1000) {
            tell(&cases::idle(&program, workers, options.idle_seconds)?)?;
        }
    }
    if wants("cost") {
        for workers in &options.workers {
            tell(&cases::cost(&program, *workers, options.tasks)?)?;
        }
    }
    large_cases(&program, &wants, most)
}

fn large_cases(
    program: &Path,
    wants: &dyn Fn(&str) -> bool,
    most: usize,
) -> Result<(), HollowError> {
    if wants("rate") {
        tell(&cases::rate(program, most, 20_000.min(5 * most as u64), 10)?)?;
    }
    if wants("deaths") {
        tell(&cases::deaths(program, most)?)?;
    }
    if wants("held") {
        tell(&cases::held(program, 1_000_000)?)?;
    }
    if wants("shapes") {
        tell(&cases::shapes(program, 100_000)?)?;
    }
    Ok(())
}

fn tell(sample: &Sample) -> Result<(), HollowError> {
    eprintln!("{sample}");
    let mut out = std::io::stdout();
    writeln!(out, "{}", sample.to_json())
        .and_then(|()| out.flush())
        .map_err(HollowError::io("cannot write to standard output"))
}
