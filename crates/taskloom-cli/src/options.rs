//! The options of every command.

use crate::memory::{MemoryLimit, Thresholds, parse_limit, parse_max_spill, parse_threshold};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use taskloom_runtime::worker::MemoryOptions;
use taskloom_types::{Amount, Resources};

#[derive(Debug, Parser)]
#[command(name = "taskloom", version, about = "Distributed task scheduler", long_about = None)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a scheduler until SIGTERM or SIGINT
    Scheduler(SchedulerArguments),
    /// Run workers that connect to a scheduler
    Worker(WorkerArguments),
}

#[derive(Debug, Args)]
pub(crate) struct SchedulerArguments {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 8786)]
    pub(crate) port: u16,
    /// Write the address to this file (JSON) once the scheduler listens
    #[arg(long, value_name = "FILE")]
    pub(crate) scheduler_file: Option<PathBuf>,
    /// Allow an address that other machines can reach; the traffic is not encrypted
    #[arg(long)]
    pub(crate) allow_insecure_network: bool,
    /// Deaths of workers that a task may cause before it fails
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) allowed_failures: u8,
    /// Seconds of silence after which a worker counts as lost
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub(crate) worker_ttl: f64,
    /// Seconds that workers and clients whose connection broke may take to come back; 0: none
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub(crate) reconnect_timeout: f64,
    /// Fail tasks that no worker could run for this many seconds (default: they wait)
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) no_workers_timeout: Option<f64>,
    /// Seconds that an actor's calls may go on when its worker retires, before the actor is
    /// restarted elsewhere from its last snapshot
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub(crate) hand_over_timeout: f64,
    /// Start no dashboard (there is none yet)
    #[arg(long)]
    pub(crate) no_dashboard: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {
    /// The scheduler's address, such as tcp://127.0.0.1:8786
    #[arg(required_unless_present = "scheduler_file", conflicts_with = "scheduler_file")]
    pub(crate) address: Option<String>,
    /// Read the scheduler's address from this file, as soon as it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) scheduler_file: Option<PathBuf>,
    /// The worker's name, unique in the cluster (default: from host and process number)
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Threads that run tasks, per worker (default: the processors, shared among the workers)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) nthreads: Option<u32>,
    /// Number of worker processes
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=4096),
    )]
    pub(crate) nworkers: u32,
    /// Address to serve data on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Directory for files of the worker
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) local_directory: Option<PathBuf>,
    /// Memory of one worker: auto, 0 (no limit), a fraction of the machine, or such as 4GB
    #[arg(long, default_value = "auto", value_parser = parse_limit)]
    pub(crate) memory_limit: MemoryLimit,
    #[command(flatten)]
    pub(crate) memory: MemoryArguments,
    /// Resources of one worker, such as "GPU=2 MEM=16" (also separated by commas)
    #[arg(long, default_value = "", value_parser = parse_resources, hide_default_value = true)]
    pub(crate) resources: Resources,
    /// Run workers as supervised child processes, restarted when they die (the default)
    #[arg(long, overrides_with = "no_nanny")]
    pub(crate) nanny: bool,
    /// Run the worker in this process
    #[arg(long)]
    pub(crate) no_nanny: bool,
    /// Allow an address that other machines can reach; the traffic is not encrypted
    #[arg(long)]
    pub(crate) allow_insecure_network: bool,
    /// Start no dashboard (there is none yet)
    #[arg(long)]
    pub(crate) no_dashboard: bool,
}

/// What happens when memory gets short; the environment variables are Dask's.
#[derive(Debug, Clone, Args)]
pub(crate) struct MemoryArguments {
    /// Results in memory beyond this fraction of the limit go to disk; false: never
    #[arg(
        long,
        value_name = "FRACTION",
        default_value = "0.6",
        env = "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET",
        hide_env = true,
        value_parser = parse_threshold,
    )]
    pub(crate) memory_target: f64,
    /// A process beyond this fraction moves results to disk until it is below the target
    #[arg(
        long,
        value_name = "FRACTION",
        default_value = "0.7",
        env = "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL",
        hide_env = true,
        value_parser = parse_threshold,
    )]
    pub(crate) memory_spill: f64,
    /// A process beyond this fraction starts nothing
    #[arg(
        long,
        value_name = "FRACTION",
        default_value = "0.8",
        env = "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE",
        hide_env = true,
        value_parser = parse_threshold,
    )]
    pub(crate) memory_pause: f64,
    /// A process beyond this fraction is ended and replaced by its supervisor
    #[arg(
        long,
        value_name = "FRACTION",
        default_value = "0.95",
        env = "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE",
        hide_env = true,
        value_parser = parse_threshold,
    )]
    pub(crate) memory_terminate: f64,
    /// Most results of one worker on disk, such as 10GB; false: what the disk takes
    #[arg(
        long,
        value_name = "AMOUNT",
        default_value = "false",
        env = "DASK_DISTRIBUTED__WORKER__MEMORY__MAX_SPILL",
        hide_env = true,
        value_parser = parse_max_spill,
    )]
    pub(crate) max_spill: u64,
}

impl MemoryArguments {
    /// # Errors
    /// Thresholds whose order makes no sense.
    pub(crate) fn thresholds(&self) -> Result<Thresholds, String> {
        Thresholds {
            target: self.memory_target,
            spill: self.memory_spill,
            pause: self.memory_pause,
            terminate: self.memory_terminate,
        }
        .check()
    }
}

/// A worker to run in this process.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerOptions {
    /// The scheduler's address.
    pub scheduler: String,
    pub name: String,
    pub nthreads: u32,
    /// Where to serve data, such as `tcp://127.0.0.1:0`.
    pub listen: String,
    pub allow_insecure_network: bool,
    pub local_directory: Option<PathBuf>,
    /// In bytes; 0 means no limit.
    pub memory_limit: u64,
    pub memory: MemoryOptions,
    pub resources: Resources,
    /// Whether a supervisor watches this process.
    pub supervised: bool,
}

/// Reads seconds, with or without the unit: `30`, `0.5`, `30s`, `5m`, `200ms`, `1h`.
fn parse_seconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit.trim() {
        "" | "s" | "seconds" => 1.0,
        "ms" => 1e-3,
        "m" | "min" | "minutes" => 60.0,
        "h" | "hours" => 3600.0,
        _ => return Err(format!("'{text}' is not a time; write 30, 30s, 200ms, 5m or 1h")),
    };
    let wrong = |_| format!("'{text}' is not a time; write 30, 30s, 200ms, 5m or 1h");
    Ok(number.parse::<f64>().map_err(wrong)? * scale)
}

/// Reads `A=1,GPU=2` and `A=1 GPU=2`.
fn parse_resources(text: &str) -> Result<Resources, String> {
    let separators = |c: char| c == ',' || c.is_whitespace();
    let entry = |part: &str| {
        let wrong = || format!("'{part}' is not a resource; write NAME=AMOUNT, such as GPU=2");
        let (name, amount) = part.split_once('=').ok_or_else(wrong)?;
        let amount = amount.parse().ok().and_then(Amount::from_f64).ok_or_else(wrong)?;
        if name.is_empty() { Err(wrong()) } else { Ok((name.to_string(), amount)) }
    };
    let parts = text.split(separators).filter(|part| !part.is_empty());
    Ok(Resources::new(parts.map(entry).collect::<Result<_, _>>()?))
}

/// Writes what [`parse_resources`] reads.
pub(crate) fn format_resources(resources: &Resources) -> String {
    let entry = |(name, amount): (&str, Amount)| format!("{name}={}", amount.as_f64());
    resources.iter().map(entry).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(arguments: &[&str]) -> Result<WorkerArguments, clap::Error> {
        let argv = ["taskloom", "worker"].iter().chain(arguments);
        match Cli::try_parse_from(argv)?.command {
            Command::Worker(arguments) => Ok(arguments),
            Command::Scheduler(_) => unreachable!("the command is worker"),
        }
    }

    #[test]
    fn every_documented_option_is_taken() {
        let options = worker(&[
            "tcp://127.0.0.1:1",
            "--name",
            "alice",
            "--nthreads",
            "2",
            "--host",
            "127.0.0.1",
            "--local-directory",
            "/tmp/x",
            "--memory-limit",
            "0",
            "--resources",
            "A=1,GPU=0.5",
            "--no-nanny",
            "--no-dashboard",
        ])
        .unwrap();
        assert_eq!(options.address.as_deref(), Some("tcp://127.0.0.1:1"));
        assert_eq!(options.memory_limit, MemoryLimit::Bytes(0));
        assert_eq!(format_resources(&options.resources), "A=1 GPU=0.5");
        assert!(options.no_nanny && options.no_dashboard);
        let argv = ["taskloom", "scheduler", "--host", "h", "--port", "0", "--no-dashboard"];
        assert!(Cli::try_parse_from(argv).is_ok());
    }

    #[test]
    fn the_scheduler_is_named_once() {
        assert!(worker(&[]).is_err());
        assert!(worker(&["a:1", "--scheduler-file", "f"]).is_err());
        assert!(worker(&["--scheduler-file", "f"]).is_ok());
    }

    #[test]
    fn the_last_of_nanny_and_no_nanny_counts() {
        assert!(worker(&["a:1", "--nanny", "--no-nanny"]).unwrap().no_nanny);
        assert!(!worker(&["a:1", "--no-nanny", "--nanny"]).unwrap().no_nanny);
    }

    #[test]
    fn unknown_options_and_nonsense_values_are_refused_by_name() {
        for arguments in [
            &["a:1", "--frobnicate"][..],
            &["a:1", "--nthreads", "0"],
            &["a:1", "--resources", "GPU"],
            &["a:1", "--resources", "GPU=-1"],
            &["a:1", "--memory-limit", "lots"],
        ] {
            let error = worker(arguments).unwrap_err().to_string();
            assert!(error.contains(arguments[1]), "{error}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("30", 30.0), ("0.5", 0.5), ("200ms", 0.2), ("5m", 300.0)] {
            assert_eq!(parse_seconds(text), Ok(seconds));
        }
        assert!(parse_seconds("soon").is_err());
    }
}
