//! Workers that outgrow their memory: the supervisor measures them, since a worker in trouble may
//! not get to it, and ends them before the kernel picks a victim of its own.

use std::fs;

/// Resident memory of a process in bytes; `None` if it cannot be told, as of one that has ended.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Why a process of this size was ended.
pub(super) fn explanation(resident_bytes: u64, terminate_bytes: u64) -> String {
    let mib = |bytes: u64| bytes / (1024 * 1024);
    format!(
        "its supervisor ended it when it occupied {} MiB, beyond the {} MiB at which workers are \
         ended (memory_limit times distributed.worker.memory.terminate)",
        mib(resident_bytes),
        mib(terminate_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_and_one_that_is_gone_is_not() {
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
