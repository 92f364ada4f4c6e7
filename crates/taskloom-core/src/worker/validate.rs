//! What must hold between any two events. For tests and the simulator.

use super::fetch::Stage;
use super::runs::RunState;
use super::{LocalTask, Map, Worker};
use taskloom_types::TaskId;

impl Worker {
    /// Checks the invariants; the error names the first that is broken.
    pub fn validate(&self) -> Result<(), String> {
        let users = self.count_users();
        let mut managed = self.kept_bytes();
        let mut ready = 0;
        for (task, local) in &self.tasks {
            let fail = |what: &str| Err(format!("task {task}: {what}: {local:?}"));
            managed += local.data.as_ref().map_or(0, |d| d.size_bytes);
            if local.users != users.get(task).copied().unwrap_or(0) {
                return fail("wrong number of users");
            }
            if local.is_forgettable() {
                return fail("nothing is left to know, yet it is known");
            }
            if local.data.as_ref().is_some_and(|d| !d.reported) && local.users == 0 {
                return fail("value kept for nobody");
            }
            if local.fetch.is_some() && (local.users == 0 || local.data.is_some()) {
                return fail("fetched for nobody");
            }
            if local.users > 0
                && local.data.is_none()
                && local.run.is_none()
                && local.fetch.is_none()
            {
                return fail("needed, and nobody will bring it");
            }
            self.validate_run(*task, local)?;
            self.validate_fetch(*task, local)?;
            ready += usize::from(local.run.as_ref().is_some_and(|r| r.state == RunState::Ready));
        }
        if self.limits.runs().any(|run| !self.running.contains_key(&run)) {
            return Err("a limit of a run that has ended".into());
        }
        self.validate_memory()?;
        self.validate_peers()?;
        if managed != self.managed_bytes {
            return Err(format!("managed bytes {} but sum {managed}", self.managed_bytes));
        }
        if ready != self.ready.live + self.ready_coroutines.live {
            return Err(format!("{ready} ready runs, but the queues count otherwise"));
        }
        Ok(())
    }

    fn count_users(&self) -> Map<TaskId, u32> {
        let mut users = Map::default();
        let calls = self.tasks.values().filter_map(|t| t.run.as_ref()?.call.as_ref());
        for dep in calls.flat_map(|call| &call.deps) {
            *users.entry(*dep).or_default() += 1;
        }
        for (task, _) in self.tasks.iter().filter(|(_, local)| local.acquired) {
            *users.entry(*task).or_default() += 1;
        }
        users
    }

    fn validate_run(&self, task: TaskId, local: &LocalTask) -> Result<(), String> {
        let Some(run) = &local.run else { return Ok(()) };
        let fail = |what: &str| Err(format!("task {task}: {what}: {local:?}"));
        let missing = || {
            let deps = run.call.iter().flat_map(|call| &call.deps);
            deps.filter(|dep| !self.has_value(**dep)).count()
        };
        match run.state {
            RunState::Waiting(0) => return fail("waits for nothing"),
            RunState::Waiting(count) => {
                if count as usize != missing() {
                    return fail("waits for another number of inputs than are missing");
                }
                let deps = run.call.iter().flat_map(|call| &call.deps);
                for dep in deps.filter(|dep| !self.has_value(**dep)) {
                    let waits = self
                        .tasks
                        .get(dep)
                        .is_some_and(|d| d.waiters.contains(&(task, run.serial)));
                    if !waits {
                        return fail("will not be told when its input comes");
                    }
                }
            }
            RunState::OnDisk if missing() > 0 => {
                return fail("waits for the disk without all inputs");
            }
            RunState::OnDisk => {}
            RunState::Loading(count) => {
                let deps = run.call.iter().flat_map(|call| &call.deps);
                let is_away = |dep: &&TaskId| {
                    let data = self.tasks.get(*dep).and_then(|t| t.data.as_ref());
                    data.is_some_and(|data| !data.place.is_in_memory())
                };
                if count == 0 || count as usize != deps.filter(is_away).count() {
                    return fail("waits for another number of inputs than are on disk");
                }
            }
            RunState::Ready if missing() > 0 => return fail("ready without all inputs"),
            RunState::Ready => {}
            RunState::Executing | RunState::Seceded => {
                let running = self.running.get(&(task, run.attempt));
                if run.call.is_some() || running.is_none_or(|r| r.abandoned) {
                    return fail("executing, but no thread is in it");
                }
            }
        }
        if run.call.is_some() && local.data.is_some() {
            return fail("not started although its value is here");
        }
        Ok(())
    }

    fn validate_fetch(&self, task: TaskId, local: &LocalTask) -> Result<(), String> {
        let Some(fetch) = &local.fetch else { return Ok(()) };
        let fail = |what: &str| Err(format!("task {task}: {what}: {local:?}"));
        match fetch.stage {
            Stage::Missing if !fetch.holders.is_empty() => {
                fail("missing although holders are known")
            }
            Stage::Wanted if fetch.holders.is_empty() => fail("wanted from nobody"),
            Stage::Wanted if !fetch.holders.iter().any(|h| self.is_queued(task, *h)) => {
                fail("wanted, but in no queue")
            }
            Stage::InFlight(peer) => {
                let peer = self.peers.get(&peer).and_then(|p| p.in_flight.as_ref());
                if peer.is_some_and(|tasks| tasks.contains(&task)) {
                    Ok(())
                } else {
                    fail("in flight, but its peer was not asked")
                }
            }
            Stage::Missing | Stage::Wanted => Ok(()),
        }
    }
}
