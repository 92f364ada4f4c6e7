//! The command line: arguments in, runtime calls out.
//!
//! It runs inside a Python process (`python -m taskloom …`). Scheduler and supervisor are run
//! here; a worker needs Python, so [`PythonHost`] runs it.

mod memory;
mod options;
mod scheduler;
mod scheduler_file;
mod signals;
mod worker;

pub use options::WorkerOptions;

use clap::{CommandFactory, FromArgMatches};
use options::{Cli, Command};

/// What the command line needs of Python.
pub trait PythonHost {
    /// The interpreter, as supervised workers shall be started with it.
    fn python_executable(&self) -> String;

    /// Runs a worker in this process until it is closed; returns the process's exit code.
    fn run_worker(&self, options: WorkerOptions) -> i32;
}

/// Why a command ended badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The request itself is wrong: the exit code is 2, as for unknown options.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    fn exit_code(&self) -> i32 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

/// An error that is nobody's misuse.
pub(crate) fn failed(error: impl std::fmt::Display) -> CommandError {
    CommandError::Failed(error.to_string())
}

/// Runs a command. `argv` starts with the program's name. Returns the exit code.
pub fn run(argv: Vec<String>, host: &dyn PythonHost) -> i32 {
    let parsed = Cli::command().try_get_matches_from(argv);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, errors to standard error; either may be closed.
            let _ = error.print();
            return error.exit_code();
        }
    };
    let done = match cli.command {
        Command::Scheduler(arguments) => scheduler::run(&arguments),
        Command::Worker(arguments) => worker::run(&arguments, host),
    };
    done.unwrap_or_else(|error| {
        eprintln!("taskloom: error: {error}");
        error.exit_code()
    })
}
