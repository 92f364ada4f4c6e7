//! How much memory a process occupies.

use std::fs;

/// Resident memory in bytes of `process`, a number or `self`; `None` if it cannot be told, as of a
/// process that has ended. Read several times a second: `statm` costs a fraction of `status`.
pub(crate) fn resident_bytes(process: &str) -> Option<u64> {
    statm(process).map(|[resident, _]| resident)
}

/// Memory that this process occupies, in bytes, but for what holds nothing: `idle_bytes` of its shared
/// memory. 0 where it cannot be told.
///
/// Of shared memory that tasks' arrays are in, a part may not be among the resident memory: what
/// was made private is mapped anew, and pages that nobody has touched since are nobody's.
pub(crate) fn own_resident_bytes(idle_bytes: u64) -> u64 {
    let Some([resident, shared]) = statm("self") else { return 0 };
    let occupied = resident.saturating_sub(idle_bytes);
    match taskloom_data::shared::held_with_private() {
        0 => occupied,
        held => occupied.max(resident.saturating_sub(shared) + held),
    }
}

/// Resident memory of a process, and what of it lies in files or shared memory, in bytes.
fn statm(process: &str) -> Option<[u64; 2]> {
    let text = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut pages = text.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
    let page = rustix::param::page_size() as u64;
    Some([pages.next()? * page, pages.next()? * page])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_and_one_that_is_gone_is_not() {
        assert!(own_resident_bytes(0) > 100_000);
        assert_eq!(own_resident_bytes(u64::MAX), 0);
        let own_number = std::process::id().to_string();
        assert!(resident_bytes(&own_number).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(resident_bytes(&u32::MAX.to_string()), None);
    }
}
