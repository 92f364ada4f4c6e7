//! How this process wants values to travel, from its environment.

use std::sync::OnceLock;
use std::time::Duration;
use taskloom_net::{Address, log};
use taskloom_proto::transfer::Range;

/// After how many seconds an unused connection is closed.
const IDLE_S: f64 = 300.0;

/// See [`Options::get`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    pub shared_memory: bool,
    /// Connections that are not used for so long are closed; `None`: never.
    pub idle_time: Option<Duration>,
    compression: Compression,
    checksums: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Off,
    /// lz4, from workers on other hosts.
    BetweenHosts,
    Always(u8),
}

impl Options {
    /// - `TASKLOOM_SHARED_MEMORY=0`: values are not put into shared memory, nor taken from there.
    /// - `TASKLOOM_COMPRESSION=auto|off|lz4|zstd`: what this process accepts when it fetches a
    ///   large value over a socket; `auto` is lz4 from other hosts.
    /// - `TASKLOOM_IDLE_CONNECTION`: seconds after which a connection to a worker that nobody uses is
    ///   closed; 300, and 0 for never.
    /// - `TASKLOOM_CHECKSUMS=1`: what is fetched over a socket in ranges is checked.
    pub fn get() -> Self {
        static OPTIONS: OnceLock<Options> = OnceLock::new();
        *OPTIONS.get_or_init(|| {
            let (options, complaint) = Self::read(|name| std::env::var(name).ok());
            if let Some(complaint) = complaint {
                log::report(&complaint);
            }
            options
        })
    }

    pub fn read(variable: impl Fn(&str) -> Option<String>) -> (Self, Option<String>) {
        let is_set = |name: &str, default: bool| match variable(name).as_deref() {
            Some("0" | "no" | "off" | "false") => false,
            Some("1" | "yes" | "on" | "true") => true,
            _ => default,
        };
        let mut complaint = None;
        let compression = match variable("TASKLOOM_COMPRESSION").as_deref() {
            None | Some("" | "auto") => Compression::BetweenHosts,
            Some("off" | "none" | "0") => Compression::Off,
            Some("lz4") => Compression::Always(Range::LZ4),
            Some("zstd") => Compression::Always(Range::ZSTD),
            Some(other) => {
                complaint = Some(format!(
                    "TASKLOOM_COMPRESSION is '{other}': write auto, off, lz4 or zstd; auto is used"
                ));
                Compression::BetweenHosts
            }
        };
        let idle = variable("TASKLOOM_IDLE_CONNECTION").filter(|text| !text.is_empty());
        let seconds = idle.as_deref().map_or(Ok(IDLE_S), str::parse::<f64>);
        let idle_time = seconds.ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if idle_time.is_none() {
            let text = idle.unwrap_or_default();
            complaint = Some(format!(
                "TASKLOOM_IDLE_CONNECTION is '{text}': write seconds, 0 for never; {IDLE_S} is used"
            ));
        }
        let idle_time = idle_time.unwrap_or(Duration::from_secs_f64(IDLE_S));
        let options = Self {
            idle_time: Some(idle_time).filter(|time| !time.is_zero()),
            shared_memory: is_set("TASKLOOM_SHARED_MEMORY", true),
            compression,
            checksums: is_set("TASKLOOM_CHECKSUMS", false),
        };
        (options, complaint)
    }

    /// What ranges of a worker's values are asked with: bits such as [`Range::LZ4`].
    pub fn wishes(self, address: &str) -> u8 {
        let compression = match self.compression {
            Compression::Off => 0,
            Compression::Always(codec) => codec,
            Compression::BetweenHosts if is_on_this_host(address) => 0,
            Compression::BetweenHosts => Range::LZ4,
        };
        compression | if self.checksums { Range::DIGEST } else { 0 }
    }
}

fn is_on_this_host(address: &str) -> bool {
    match address.parse() {
        Ok(Address::Tcp { host, .. }) => {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        Ok(Address::Unix(_)) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &'static str) -> (Options, Option<String>) {
        Options::read(|asked| (asked == name).then(|| value.to_string()))
    }

    #[test]
    fn compression_is_for_other_hosts_unless_somebody_chose() {
        let (auto, _) = read("", "");
        assert_eq!(auto.wishes("tcp://127.0.0.1:1"), 0);
        assert_eq!(auto.wishes("tcp://192.0.2.1:1"), Range::LZ4);
        let (zstd, _) = read("TASKLOOM_COMPRESSION", "zstd");
        assert_eq!(zstd.wishes("tcp://127.0.0.1:1"), Range::ZSTD);
        let (off, _) = read("TASKLOOM_COMPRESSION", "off");
        assert_eq!(off.wishes("tcp://192.0.2.1:1"), 0);
    }

    #[test]
    fn unused_connections_are_closed_after_the_seconds_that_somebody_chose() {
        let name = "TASKLOOM_IDLE_CONNECTION";
        assert_eq!(read("", "").0.idle_time, Some(Duration::from_secs(300)));
        assert_eq!(read(name, "1.5").0.idle_time, Some(Duration::from_millis(1500)));
        assert_eq!(read(name, "0").0.idle_time, None);
        for wrong in ["soon", "-1", "inf"] {
            let (options, complaint) = read(name, wrong);
            assert_eq!(options, read("", "").0);
            assert!(complaint.unwrap().contains(wrong));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let (options, complaint) = read("TASKLOOM_COMPRESSION", "snappy");
        assert_eq!(options, read("", "").0);
        assert!(complaint.unwrap().contains("'snappy'"));
    }

    #[test]
    fn checksums_and_shared_memory_are_switched_by_name() {
        assert!(!read("TASKLOOM_SHARED_MEMORY", "off").0.shared_memory);
        let wishes = read("TASKLOOM_CHECKSUMS", "1").0.wishes("tcp://127.0.0.1:1");
        assert_eq!(wishes, Range::DIGEST);
    }
}
