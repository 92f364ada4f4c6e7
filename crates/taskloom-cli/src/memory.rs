//! Amounts of memory: as people write them, and what this machine has.

use std::fs;

/// A limit as the user gave it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryLimit {
    /// The worker's share of the machine, by its threads.
    Auto,
    /// A fraction of the machine's memory, in 0..=1.
    Fraction(f64),
    /// Bytes; 0 means no limit.
    Bytes(u64),
}

impl MemoryLimit {
    /// In bytes; 0 means no limit.
    #[must_use]
    pub fn resolve(self, nthreads: u32) -> u64 {
        let total = total_bytes();
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Fraction(fraction) => (total as f64 * fraction) as u64,
            Self::Auto => {
                let share = f64::from(nthreads) / f64::from(cpu_count());
                (total as f64 * share.min(1.0)) as u64
            }
        }
    }
}

/// Reads `auto`, `0`, `0.5` (a fraction of the machine), `4GB`, `512MiB`.
pub(crate) fn parse_limit(text: &str) -> Result<MemoryLimit, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("auto") {
        return Ok(MemoryLimit::Auto);
    }
    if text.eq_ignore_ascii_case("none") {
        return Ok(MemoryLimit::Bytes(0));
    }
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let wrong = || format!("'{text}' is not an amount of memory; write auto, 0, 0.5, 4GB or 4GiB");
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let scale = scale(unit.trim()).ok_or_else(wrong)?;
    if unit.is_empty() && number > 0.0 && number <= 1.0 {
        return Ok(MemoryLimit::Fraction(number));
    }
    let bytes = number * scale;
    if bytes < 9e18 { Ok(MemoryLimit::Bytes(bytes as u64)) } else { Err(wrong()) }
}

fn scale(unit: &str) -> Option<f64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

/// Processors that this process may use.
pub(crate) fn cpu_count() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The machine's memory in bytes, or the control group's limit where that is lower; 0 when
/// nobody says.
fn total_bytes() -> u64 {
    let limit = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = [
        physical_bytes(),
        limit("/sys/fs/cgroup/memory.max"),
        limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ];
    limits.into_iter().flatten().min().unwrap_or(0)
}

fn physical_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_as_in_dask() {
        let cases = [
            ("auto", MemoryLimit::Auto),
            ("0", MemoryLimit::Bytes(0)),
            ("none", MemoryLimit::Bytes(0)),
            ("0.5", MemoryLimit::Fraction(0.5)),
            ("4GB", MemoryLimit::Bytes(4_000_000_000)),
            ("1.5 GiB", MemoryLimit::Bytes(3 << 29)),
            ("1000000", MemoryLimit::Bytes(1_000_000)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_limit(text), Ok(expected), "{text}");
        }
        for text in ["", "GB", "-1", "4 XB", "1.2.3", "inf"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_never_exceeds_the_machine() {
        let all = MemoryLimit::Auto.resolve(u32::MAX);
        assert_eq!(all, MemoryLimit::Fraction(1.0).resolve(1));
        assert!(MemoryLimit::Auto.resolve(1) <= all);
    }
}
