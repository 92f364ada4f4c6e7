//! How much memory a process occupies.

use std::fs;

/// Resident memory in bytes of `process`, a number or `self`; `None` if it cannot be told, as of a
/// process that has ended. Read several times a second: `statm` costs a fraction of `status`.
pub(crate) fn resident_bytes(process: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Resident memory of this process; 0 where it cannot be told.
pub(crate) fn own_resident_bytes() -> u64 {
    resident_bytes("self").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_and_one_that_is_gone_is_not() {
        assert!(own_resident_bytes() > 100_000);
        let own_number = std::process::id().to_string();
        assert!(resident_bytes(&own_number).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(resident_bytes(&u32::MAX.to_string()), None);
    }
}
