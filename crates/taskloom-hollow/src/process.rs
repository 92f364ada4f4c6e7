//! A scheduler in a process of its own, and what the kernel says that this process uses.

use crate::HollowError;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use taskloom_net::Address;
use taskloom_net::token::random_nonce;
use taskloom_proto::handshake::Token;

/// `taskloom scheduler`, run by this program's own `scheduler` command. Dropping it ends it.
pub struct SchedulerProcess {
    child: Child,
    address: String,
    token: Token,
}

impl SchedulerProcess {
    /// Starts one on a free port of the loopback interface.
    ///
    /// `program`: an executable whose first argument may be `scheduler`.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self, HollowError> {
        let secret: String = random_nonce()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = Command::new(program)
            .args(["scheduler", "--port", "0"])
            .args(arguments)
            .env("TASKLOOM_TOKEN", &secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(HollowError::io(format!("cannot start {}", program.display())))?;
        let address = read_address(&mut child);
        let mut process = Self { child, address: String::new(), token: Token::new(secret) };
        process.address = address?;
        Ok(process)
    }

    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn parsed_address(&self) -> Result<Address, HollowError> {
        Ok(self.address.parse().map_err(taskloom_runtime::ConnectError::Address)?)
    }

    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Processor time that the process has used, in ns.
    pub fn cpu_ns(&self) -> Result<u64, HollowError> {
        let directory = format!("/proc/{}/task", self.child.id());
        let failed = || HollowError::io(format!("cannot read {directory}"));
        let mut total = 0;
        for thread in std::fs::read_dir(&directory).map_err(failed())? {
            let path = thread.map_err(failed())?.path().join("schedstat");
            let text = std::fs::read_to_string(&path).map_err(failed())?;
            total += text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        }
        Ok(total)
    }

    /// Resident memory of the process, in bytes.
    pub fn resident_bytes(&self) -> Result<u64, HollowError> {
        let path = format!("/proc/{}/status", self.child.id());
        let failed = HollowError::io(format!("cannot read {path}"));
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.unwrap_or(0) * 1024)
    }
}

fn read_address(child: &mut Child) -> Result<String, HollowError> {
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        let read = BufReader::new(out).read_line(&mut line);
        read.map_err(HollowError::io("cannot read the scheduler's address"))?;
    }
    let address = line.trim().strip_prefix("taskloom scheduler at ");
    let ended = || HollowError::SchedulerEnded(format!("it said {line:?} and no address"));
    address.map(ToString::to_string).ok_or_else(ended)
}

impl Drop for SchedulerProcess {
    fn drop(&mut self) {
        // Fails when it has ended by itself; either way it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
