//! What the operating system says about this process.

use std::fs;
use std::time::Instant;

/// CPU time that the process used, in seconds.
fn cpu_seconds() -> Option<f64> {
    /// The unit of `/proc/*/stat` on Linux, whatever the kernel's own tick is.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the process's name, which may hold anything, in parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// CPU use between two readings.
#[derive(Debug)]
pub(super) struct CpuMeter {
    last: Option<(Instant, f64)>,
}

impl CpuMeter {
    pub(super) fn new() -> Self {
        Self { last: cpu_seconds().map(|used| (Instant::now(), used)) }
    }

    /// Percent of one core since the last reading.
    pub(super) fn read(&mut self) -> f64 {
        let Some(used) = cpu_seconds() else { return 0.0 };
        let now = Instant::now();
        let before = self.last.replace((now, used));
        let Some((then, used_then)) = before else { return 0.0 };
        let elapsed = now.duration_since(then).as_secs_f64();
        if elapsed > 0.0 { 100.0 * (used - used_then) / elapsed } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_the_meter_reads() {
        assert!(CpuMeter::new().read() >= 0.0);
    }
}
