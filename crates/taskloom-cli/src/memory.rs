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
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |path: &String| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let of_groups = limit_files(&groups).iter().filter_map(limit).min();
    physical_bytes().into_iter().chain(of_groups).min().unwrap_or(0)
}

/// Where the limits of this process's control group and of those above it stand, by what
/// `/proc/self/cgroup` says: version 2 is the line without controllers. Inside a container the
/// path may not exist; the root is the container's own group then.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{name}"));
            let Some((parent, _)) = path.rsplit_once('/') else { break };
            path = parent;
        }
    }
    files
}

fn physical_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Reads a threshold of memory: a fraction in 0..=1, or `false` for none, which is 0.
pub(crate) fn parse_threshold(text: &str) -> Result<f64, String> {
    let text = text.trim();
    if ["false", "none", ""].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(0.0);
    }
    let fraction: Option<f64> = text.parse().ok().filter(|f| (0.0..=1.0).contains(f));
    fraction.ok_or_else(|| format!("'{text}' is not a fraction of memory; write 0.8, or false"))
}

/// Reads the most that may be on disk: bytes or an amount such as `10GB`; `false`: no limit,
/// which is 0.
pub(crate) fn parse_max_spill(text: &str) -> Result<u64, String> {
    if ["false", "none", ""].iter().any(|word| text.trim().eq_ignore_ascii_case(word)) {
        return Ok(0);
    }
    match parse_limit(text)? {
        MemoryLimit::Bytes(bytes) => Ok(bytes),
        _ => Err(format!("'{text}' is not an amount of disk space; write 10GB, or false")),
    }
}

/// When things happen for lack of memory, as fractions of the limit; 0: never.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Thresholds {
    pub(crate) target: f64,
    pub(crate) spill: f64,
    pub(crate) pause: f64,
    pub(crate) terminate: f64,
}

impl Thresholds {
    /// # Errors
    /// Their order makes no sense; the text says which.
    pub(crate) fn check(self) -> Result<Self, String> {
        let given = [
            ("target", self.target),
            ("spill", self.spill),
            ("pause", self.pause),
            ("terminate", self.terminate),
        ];
        let given: Vec<_> = given.into_iter().filter(|(_, fraction)| *fraction > 0.0).collect();
        for pair in given.windows(2) {
            let [(lower, low), (upper, high)] = pair else { continue };
            if low > high {
                return Err(format!(
                    "--memory-{lower} is {low}, more than --memory-{upper}, which is {high}"
                ));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_fractions_in_their_order() {
        assert_eq!(parse_threshold("0.6"), Ok(0.6));
        assert_eq!(parse_threshold("False"), Ok(0.0));
        assert!(parse_threshold("80").is_err() && parse_threshold("much").is_err());
        let good = Thresholds { target: 0.6, spill: 0.7, pause: 0.8, terminate: 0.95 };
        assert!(good.check().is_ok() && Thresholds { spill: 0.0, ..good }.check().is_ok());
        let error = Thresholds { pause: 0.65, ..good }.check().unwrap_err();
        assert!(error.contains("--memory-spill") && error.contains("0.65"), "{error}");
    }

    #[test]
    fn a_limit_of_the_disk_is_an_amount_or_none() {
        assert_eq!(parse_max_spill("10GB"), Ok(10_000_000_000));
        assert_eq!(parse_max_spill("false"), Ok(0));
        assert!(parse_max_spill("auto").is_err() && parse_max_spill("0.5").is_err());
    }

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
    fn the_limits_of_all_groups_above_count() {
        let two = limit_files("0::/user/app\n");
        let expected = ["/user/app", "/user", ""].map(|p| format!("/sys/fs/cgroup{p}/memory.max"));
        assert_eq!(two, expected);
        let one = limit_files("5:cpu:/x\n3:hugetlb,memory:/a\n");
        let expected =
            ["/a", ""].map(|p| format!("/sys/fs/cgroup/memory{p}/memory.limit_in_bytes"));
        assert_eq!(one, expected);
        assert!(limit_files("nonsense").is_empty());
    }

    #[test]
    fn a_share_never_exceeds_the_machine() {
        let all = MemoryLimit::Auto.resolve(u32::MAX);
        assert_eq!(all, MemoryLimit::Fraction(1.0).resolve(1));
        assert!(MemoryLimit::Auto.resolve(1) <= all);
    }
}
