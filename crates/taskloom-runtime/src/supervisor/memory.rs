//! Workers that outgrow their memory: the supervisor measures them, since a worker in trouble may
//! not get to it, and ends them before the kernel picks a victim of its own.

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
