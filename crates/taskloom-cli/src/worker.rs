//! `taskloom worker`: the supervisor of worker processes, or one worker in this process.

use crate::memory::{MemoryLimit, Thresholds, cpu_count};
use crate::options::{WorkerArguments, WorkerOptions, format_resources};
use crate::scheduler_file::read_address;
use crate::signals::{SignalWatch, Wake};
use crate::{CommandError, PythonHost, failed};
use std::sync::Arc;
use std::time::Duration;
use taskloom_proto::supervisor::SupervisorToScheduler;
use taskloom_runtime::executing::{ExecutingTable, Progress, die_with_supervisor, is_supervised};
use taskloom_runtime::io::IoThread;
use taskloom_runtime::supervisor::{ProcessStatus, Supervisor, SupervisorConfig};
use taskloom_runtime::worker::MemoryOptions;
use taskloom_runtime::{Address, ConnectError, ConnectOptions, token};

/// How long a scheduler that is not there yet is waited for.
const CONNECT: ConnectOptions = ConnectOptions { timeout: Duration::from_secs(30), retry: true };
/// How long workers may take to end in order.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: &WorkerArguments, host: &dyn PythonHost) -> Result<i32, CommandError> {
    if arguments.no_nanny {
        die_with_supervisor();
        return run_here(arguments, host);
    }
    supervise(arguments, host)
}

fn scheduler_address(arguments: &WorkerArguments) -> Result<String, CommandError> {
    match (&arguments.address, &arguments.scheduler_file) {
        (Some(address), _) => {
            let parsed: Result<Address, _> = address.parse();
            let usage = |error| CommandError::Usage(format!("{error}"));
            Ok(parsed.map_err(usage)?.to_string())
        }
        (None, Some(path)) => read_address(path),
        (None, None) => Err(CommandError::Usage("where is the scheduler? give ADDRESS".into())),
    }
}

fn nthreads(arguments: &WorkerArguments) -> u32 {
    arguments.nthreads.unwrap_or_else(|| (cpu_count() / arguments.nworkers).max(1))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn name(arguments: &WorkerArguments) -> String {
    let unique = || format!("{}-{}", host_name(), std::process::id());
    arguments.name.clone().unwrap_or_else(unique)
}

fn run_here(arguments: &WorkerArguments, host: &dyn PythonHost) -> Result<i32, CommandError> {
    if arguments.nworkers != 1 {
        return Err(CommandError::Usage("--no-nanny runs one worker; leave out --nworkers".into()));
    }
    let nthreads = nthreads(arguments);
    let thresholds = arguments.memory.thresholds().map_err(CommandError::Usage)?;
    let max_spill = Some(arguments.memory.max_spill).filter(|bytes| *bytes > 0);
    let code = host.run_worker(WorkerOptions {
        scheduler: scheduler_address(arguments)?,
        name: name(arguments),
        nthreads,
        listen: Address::tcp(arguments.host.clone(), 0).to_string(),
        allow_insecure_network: arguments.allow_insecure_network,
        local_directory: arguments.local_directory.clone(),
        memory_limit: arguments.memory_limit.resolve(nthreads),
        memory: MemoryOptions {
            target: thresholds.target,
            spill: thresholds.spill,
            pause: thresholds.pause,
            max_spill,
            ..MemoryOptions::default()
        },
        resources: arguments.resources.clone(),
        supervised: is_supervised(),
    });
    if let (0, Some(table)) = (code, ExecutingTable::of_this_process()) {
        table.set_progress(Progress::Leaving);
    }
    Ok(code)
}

fn supervise(arguments: &WorkerArguments, host: &dyn PythonHost) -> Result<i32, CommandError> {
    let signals = SignalWatch::new()?;
    let scheduler = scheduler_address(arguments)?;
    let thresholds = arguments.memory.thresholds().map_err(CommandError::Usage)?;
    let config = config(arguments, thresholds, host, &scheduler);
    let supervisor = Arc::new(Supervisor::start(config).map_err(failed)?);
    let io = IoThread::global().map_err(failed)?;
    let token = token::load_token().map_err(failed)?;
    let opened = io
        .connect::<SupervisorToScheduler>(&scheduler, &token, supervisor.sink(), CONNECT)
        .map_err(explain)?;
    supervisor.attach(opened.link);
    names(arguments).iter().for_each(|name| supervisor.add(name));
    let watched = supervisor.clone();
    if signals.wait(move || watched.wait())? == Wake::Signal {
        supervisor.stop(GRACE);
        return Ok(0);
    }
    let failures = supervisor.processes();
    let gave_up = failures.iter().any(|process| process.status == ProcessStatus::Failed);
    Ok(i32::from(gave_up))
}

fn explain(error: ConnectError) -> CommandError {
    match error {
        ConnectError::Address(_) => CommandError::Usage(error.to_string()),
        _ => failed(error),
    }
}

fn names(arguments: &WorkerArguments) -> Vec<String> {
    let name = name(arguments);
    match arguments.nworkers {
        1 => vec![name],
        count => (0..count).map(|number| format!("{name}-{number}")).collect(),
    }
}

fn config(
    arguments: &WorkerArguments,
    thresholds: Thresholds,
    host: &dyn PythonHost,
    scheduler: &str,
) -> SupervisorConfig {
    let mut command: Vec<String> =
        [&host.python_executable(), "-m", "taskloom", "worker", scheduler, "--no-nanny"]
            .map(String::from)
            .into();
    let mut option = |name: &str, value: String| command.extend([name.to_string(), value]);
    option("--name", "{name}".into());
    option("--nthreads", nthreads(arguments).to_string());
    option("--host", arguments.host.clone());
    option("--memory-limit", format_limit(arguments.memory_limit));
    option("--memory-target", thresholds.target.to_string());
    option("--memory-spill", thresholds.spill.to_string());
    option("--memory-pause", thresholds.pause.to_string());
    option("--max-spill", arguments.memory.max_spill.to_string());
    if !arguments.resources.is_empty() {
        option("--resources", format_resources(&arguments.resources));
    }
    if let Some(directory) = &arguments.local_directory {
        option("--local-directory", directory.to_string_lossy().into_owned());
    }
    if arguments.allow_insecure_network {
        command.push("--allow-insecure-network".into());
    }
    let limit = arguments.memory_limit.resolve(nthreads(arguments));
    let directory = arguments.local_directory.as_ref();
    SupervisorConfig {
        terminate_bytes: (limit as f64 * thresholds.terminate) as u64,
        local_directory: directory.map(|d| d.to_string_lossy().into_owned()).unwrap_or_default(),
        host: host_name(),
        grace: GRACE,
        end_without_workers: true,
        ..SupervisorConfig::new(command)
    }
}

fn format_limit(limit: MemoryLimit) -> String {
    match limit {
        MemoryLimit::Auto => "auto".into(),
        MemoryLimit::Fraction(fraction) => fraction.to_string(),
        MemoryLimit::Bytes(bytes) => bytes.to_string(),
    }
}
