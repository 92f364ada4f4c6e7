//! Whether the kernel ended a process since memory ran out: counters of the process's control
//! group, or of the machine, before and after.

use std::fs;

/// Kills for lack of memory so far; equal numbers mean that nothing happened in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OomKills {
    group: Option<u64>,
    machine: Option<u64>,
}

impl OomKills {
    pub(super) fn now() -> Self {
        Self { group: of_own_group(), machine: counter("/proc/vmstat", "oom_kill") }
    }

    /// Whether kills were counted since `earlier`. The group's counter is about us; the
    /// machine's is only asked where there is no other.
    pub(super) fn increased_since(self, earlier: Self) -> bool {
        match (self.group, earlier.group) {
            (Some(now), Some(then)) => now > then,
            _ => self.machine > earlier.machine,
        }
    }
}

/// Children start in the group of their supervisor.
fn of_own_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (controllers, path) = (fields.nth(1)?, fields.next()?);
        if controllers.is_empty() {
            return counter(&format!("/sys/fs/cgroup{path}/memory.events"), "oom_kill");
        }
        if controllers.split(',').any(|name| name == "memory") {
            return counter(&format!("/sys/fs/cgroup/memory{path}/memory.oom_control"), "oom_kill");
        }
        None
    })
}

/// The number behind `name` in a file of `name number` lines.
fn counter(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kills(group: Option<u64>, machine: Option<u64>) -> OomKills {
        OomKills { group, machine }
    }

    #[test]
    fn the_groups_counter_is_believed_before_the_machines() {
        let before = kills(Some(1), Some(5));
        assert!(kills(Some(2), Some(5)).increased_since(before));
        assert!(!kills(Some(1), Some(6)).increased_since(before));
        assert!(kills(None, Some(6)).increased_since(kills(None, Some(5))));
        assert!(!kills(None, None).increased_since(kills(None, None)));
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "oom 1\noom_kill_disable 0\noom_kill 3\n").unwrap();
        assert_eq!(counter(file.path().to_str().unwrap(), "oom_kill"), Some(3));
        assert_eq!(counter("/nowhere", "oom_kill"), None);
    }
}
