//! `taskloom scheduler`.

use crate::options::SchedulerArguments;
use crate::scheduler_file::SchedulerFile;
use crate::signals::{SignalWatch, Wake};
use crate::{CommandError, failed};
use std::io::Write;
use std::sync::Arc;
use taskloom_core::scheduler::Config;
use taskloom_runtime::scheduler::{SchedulerConfig, SchedulerServer, StartError};
use taskloom_runtime::{Address, ListenError, token};

pub(crate) fn run(arguments: &SchedulerArguments) -> Result<i32, CommandError> {
    let signals = SignalWatch::new()?;
    let scheduler = Arc::new(SchedulerServer::start(config(arguments)?).map_err(explain)?);
    let file = arguments.scheduler_file.as_deref();
    let file = file.map(|path| SchedulerFile::write(path, scheduler.address())).transpose()?;
    announce(scheduler.address());
    let watched = scheduler.clone();
    let wake = signals.wait(move || drop(watched.wait(None)))?;
    scheduler.stop();
    drop(file);
    if wake == Wake::Signal || !scheduler.has_failed() {
        return Ok(0);
    }
    Err(failed(scheduler.wait(None).unwrap_or_default()))
}

fn config(arguments: &SchedulerArguments) -> Result<SchedulerConfig, CommandError> {
    let nanos = |seconds: f64| (seconds * 1e9) as u64;
    let core = Config {
        allowed_failures: arguments.allowed_failures,
        worker_ttl_ns: nanos(arguments.worker_ttl),
        grace_ns: nanos(arguments.reconnect_timeout),
        hand_over_ns: nanos(arguments.hand_over_timeout),
        no_workers_timeout_ns: arguments.no_workers_timeout.map(nanos),
        ..Config::default()
    };
    Ok(SchedulerConfig {
        listen: vec![Address::tcp(arguments.host.clone(), arguments.port).to_string()],
        allow_insecure_network: arguments.allow_insecure_network,
        token: token::load_token().map_err(failed)?,
        core,
    })
}

fn explain(error: StartError) -> CommandError {
    match error {
        StartError::Listen(ListenError::InsecureNetwork { .. } | ListenError::Address(_)) => {
            CommandError::Usage(error.to_string())
        }
        _ => failed(error),
    }
}

fn announce(address: &str) {
    // Standard output may be closed; the scheduler is of use all the same.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "taskloom scheduler at {address}").and_then(|()| out.flush());
}
