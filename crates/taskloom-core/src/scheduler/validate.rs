//! The invariants, recounted from scratch. For tests and the simulator; it takes linear time.

use super::standing::Standing;
use super::task::{Kind, State, mark};
use super::{Map, Scheduler};
use taskloom_types::{TaskId, WorkerNo};

impl Scheduler {
    /// Checks every invariant. Call between events.
    ///
    /// # Errors
    /// The first broken one, in words.
    pub fn validate(&self) -> Result<(), String> {
        if !self.steps.is_empty() {
            return Err("consequences are left undrawn".into());
        }
        if self.counters.illegal_transitions > 0 {
            return Err("a transition that is not in the table was made".into());
        }
        let uses = self.count_uses();
        self.tasks.iter().try_for_each(|index| self.validate_task(index, &uses))?;
        self.validate_counts()?;
        self.validate_policies()?;
        self.standings.validate(&self.workers)?;
        self.validate_reservations()?;
        self.workers.slots().try_for_each(|slot| self.validate_worker(slot))?;
        self.validate_functions()?;
        self.validate_memory()?;
        self.validate_setups()?;
        self.validate_absences()?;
        self.validate_offers()?;
        self.validate_replication()?;
        self.events.validate()?;
        if self.events.subscribers().any(|client| !self.clients.contains_key(&client)) {
            return Err("a client that is gone is subscribed".into());
        }
        self.task_logs.validate()?;
        self.validate_clients()?;
        self.validate_introductions()?;
        self.validate_partings()?;
        self.validate_coordination()?;
        self.validate_deposits()?;
        self.validate_holds()?;
        self.validate_actors()
    }

    /// Whether a worker's session goes on.
    #[must_use]
    pub fn has_worker(&self, number: WorkerNo) -> bool {
        self.workers.slot(number).is_some()
    }

    /// Who is thought to hold which results.
    pub fn holdings(&self) -> impl Iterator<Item = (TaskId, WorkerNo)> {
        self.workers.iter().flat_map(|worker| {
            worker.held.iter().map(|index| (self.tasks.id(*index), worker.number))
        })
    }

    /// Checks that nothing is left of tasks when there are none.
    ///
    /// # Errors
    /// The first table that still knows of one.
    pub fn validate_empty(&self) -> Result<(), String> {
        let tables = [
            ("tasks", self.tasks.len()),
            ("policies", self.policies.uses().count()),
            ("pauses", self.delays.len()),
            ("pickled futures", self.deposits.held().count()),
            ("copies", usize::from(!self.replication.is_idle())),
            ("classes", self.classes.iter().count() - 1),
            ("runs", self.workers.iter().map(|worker| worker.processing.len()).sum()),
            ("held results", self.workers.iter().map(|worker| worker.held.len()).sum()),
            ("handles", self.clients.values().map(|client| client.handles.len()).sum()),
        ];
        match tables.iter().find(|(_, count)| *count > 0) {
            Some((table, count)) => Err(format!("{count} {table} are left")),
            None => Ok(()),
        }
    }

    /// By arena index: how many tasks need it, and how many tasks of any state use it.
    fn count_uses(&self) -> Vec<(u32, u32)> {
        let mut uses: Vec<(u32, u32)> = Vec::new();
        for index in self.tasks.iter() {
            let task = &self.tasks[index];
            for dep in &task.deps {
                if uses.len() <= *dep as usize {
                    uses.resize(*dep as usize + 1, (0, 0));
                }
                let (waiters, dependents) = &mut uses[*dep as usize];
                let names_it = self.keeps_inputs(index) && task.state == State::Memory;
                *waiters += u32::from(task.state.is_active() || names_it);
                *dependents += 1;
            }
        }
        uses
    }

    fn validate_task(&self, index: u32, uses: &[(u32, u32)]) -> Result<(), String> {
        let task = &self.tasks[index];
        let broken = |what: &str| Err(format!("task {} ({:?}): {what}", task.key, task.state));
        let id = self.tasks.id(index);
        let counted = uses.get(index as usize).copied().unwrap_or_default();
        if counted != (task.waiters, task.live_dependents) {
            return broken("the count of those that need or use it is wrong");
        }
        for dep in &task.deps {
            if !self.tasks.is_live(*dep) || !self.tasks[*dep].dependents.contains(&id) {
                return broken("an input does not know of it");
            }
        }
        let missing =
            task.deps.iter().filter(|dep| self.tasks[**dep].state != State::Memory).count();
        if task.state.is_active() && task.waiting_on as usize != missing {
            return broken("it counts its missing inputs wrongly");
        }
        if task.state.is_active() && !task.is_needed() {
            return broken("nobody needs it, and yet it is to run");
        }
        if task.state == State::Memory && !task.is_needed() && !task.outlives_its_needs() {
            return broken("nobody needs the result, and yet it is kept");
        }
        if !task.is_needed() && task.live_dependents == 0 {
            return broken("it should have been forgotten");
        }
        // Somebody may still submit it; lost data that only an open submission holds ends with it.
        let may_rest = match task.kind {
            Kind::Unknown => true,
            Kind::Data => task.waiters == 0 && task.wants.is_empty(),
            Kind::Call | Kind::Broken => false,
        };
        if task.state == State::Released && task.is_needed() && !may_rest {
            return broken("it is needed, and nobody makes it");
        }
        let is_ready = task.state == State::Waiting
            && task.waiting_on == 0
            && !task.has(mark::HELD_BACK)
            && task.kind == Kind::Call;
        if is_ready {
            return broken("all inputs are there, and it is not queued");
        }
        if (task.state == State::Memory) != (!task.replicas.is_empty() || task.value.is_some()) {
            return broken("its state and its copies disagree");
        }
        if (task.state == State::Processing) != self.workers.get(task.worker).is_some() {
            return broken("its state and its worker disagree");
        }
        if (task.state == State::Erred) != task.error.is_some() {
            return broken("its state and its error disagree");
        }
        if task.state == State::Queued && task.waiting_on > 0 {
            return broken("it is queued without all inputs");
        }
        self.validate_naming(index)?;
        for slot in &task.replicas {
            if !self.workers.get(*slot).is_some_and(|worker| worker.held.contains(&index)) {
                return broken("a holder does not know of it");
            }
        }
        Ok(())
    }

    fn validate_deposits(&self) -> Result<(), String> {
        match self.deposits.held().find(|id| self.tasks.get(*id).is_none()) {
            Some(_) => Err("a pickled future holds a task that is gone".into()),
            None => Ok(()),
        }
    }

    /// Why a task is kept besides wants and dependents, counted: open submissions, a client that
    /// forgot it before its end, shared values, pickled futures.
    fn validate_holds(&self) -> Result<(), String> {
        let mut holds: Map<TaskId, u32> = Map::default();
        let open = self.clients.values().flat_map(|client| client.open_submissions.values());
        for (_, id) in open.flat_map(|open| &open.unwanted) {
            *holds.entry(*id).or_default() += 1;
        }
        for index in self.tasks.iter() {
            let (task, id) = (&self.tasks[index], self.tasks.id(index));
            let open = holds.get(&id).copied().unwrap_or(0);
            let counted = open
                + u32::from(task.has(mark::DETACHED))
                + self.shared_holds(id)
                + self.deposits.count(id) as u32;
            if task.holds != counted {
                return Err(format!("task {}: {} holds, not {counted}", task.key, task.holds));
            }
        }
        Ok(())
    }

    /// Pauses belong to tasks that wait for nothing else but inputs, and policies to tasks.
    fn validate_policies(&self) -> Result<(), String> {
        let mut uses: Map<u32, u32> = Map::default();
        let mut delayed = 0;
        for index in self.tasks.iter() {
            let task = &self.tasks[index];
            if task.policy != 0 {
                *uses.entry(task.policy).or_default() += 1;
            }
            let until = self.delays.until(self.tasks.id(index));
            if task.has(mark::DELAYED) != until.is_some() {
                return Err(format!("task {}: its mark and its pause disagree", task.key));
            }
            if until.is_some() && task.state != State::Waiting {
                return Err(format!("task {} ({:?}) is in a pause", task.key, task.state));
            }
            delayed += usize::from(until.is_some());
        }
        if delayed != self.delays.len() {
            return Err(format!("{} pauses for {delayed} tasks", self.delays.len()));
        }
        let counted: Map<u32, u32> = self.policies.uses().collect();
        if counted != uses {
            return Err(format!("policies are used as {uses:?}, not {counted:?}"));
        }
        Ok(())
    }

    fn validate_counts(&self) -> Result<(), String> {
        let mut counts = [0u64; 7];
        let mut inline = 0;
        for index in self.tasks.iter() {
            counts[self.tasks[index].state as usize] += 1;
            inline += self.tasks[index].value.as_ref().map_or(0, |value| value.len() as u64);
        }
        if counts != self.state_counts {
            return Err(format!("states are counted as {:?}, not {counts:?}", self.state_counts));
        }
        if inline != self.inline_bytes {
            return Err(format!("inline bytes are {inline}, not {}", self.inline_bytes));
        }
        Ok(())
    }

    /// Functions and workers agree on who was sent what; nothing is kept of workers that left.
    fn validate_functions(&self) -> Result<(), String> {
        let mut holdings = 0;
        for (number, slot) in self.functions.holdings() {
            holdings += 1;
            if !self.workers.get(slot).is_some_and(|worker| worker.functions.contains(&number)) {
                return Err(format!("{number:?} is held by worker {}, which has it not", slot.0));
            }
        }
        let known: usize = self.workers.iter().map(|worker| worker.functions.len()).sum();
        if known != holdings {
            return Err(format!("{known} functions are on workers, but {holdings} were sent"));
        }
        Ok(())
    }

    fn validate_worker(&self, slot: super::WorkerSlot) -> Result<(), String> {
        let worker = &self.workers[slot];
        let broken = |what: &str| Err(format!("worker {}: {what}", worker.info.name));
        let mut active = 0;
        let mut blocked = 0;
        let mut left = worker.info.resources.clone();
        for (at, index) in worker.processing.iter().enumerate() {
            let task = &self.tasks[*index];
            if task.worker != slot || task.processing_at as usize != at {
                return broken("its list of tasks and the tasks disagree");
            }
            active += u32::from(!task.has(mark::SECEDED));
            blocked += u32::from(!task.has(mark::SECEDED) && task.waiting_on > 0);
            let needed = &self.classes[task.class].resources;
            if !left.covers(needed) {
                return broken("its resources are given out twice");
            }
            left.take(needed);
        }
        for (_, _, resources) in &worker.ghosts {
            left.take(resources);
        }
        if (active, blocked) != (worker.active, worker.blocked) {
            return broken("it counts its active tasks wrongly");
        }
        self.validate_standing(slot)?;
        if left != worker.available {
            return broken("it counts its free resources wrongly");
        }
        for index in &worker.held {
            if !self.tasks.is_live(*index) || !self.tasks[*index].replicas.contains(&slot) {
                return broken("it is thought to hold a result that does not name it");
            }
        }
        Ok(())
    }

    /// No worker with room is forgotten where there is work: that would wait for ever.
    fn validate_standing(&self, slot: super::WorkerSlot) -> Result<(), String> {
        let worker = &self.workers[slot];
        let broken = |what: &str| Err(format!("worker {}: {what}", worker.info.name));
        let standing = worker.place.standing;
        if worker.has_free_slot() && !matches!(standing, Standing::Due | Standing::Idle) {
            return broken("it has a free thread and does not look for work");
        }
        let has_own = worker.queue.len() > 0;
        if has_own && !(worker.is_victim && self.victims.contains(&slot)) {
            return broken("nobody knows of the tasks in its queue");
        }
        let is_overfull = worker.active > worker.info.nthreads;
        if is_overfull && !(worker.is_overfull && self.overfull.contains(&slot)) {
            return broken("nobody knows that it has more than it can run");
        }
        let could_take = |class: &u32| {
            let class = &self.classes[*class];
            class.queue.len() > 0 && worker.available.covers(&class.resources)
        };
        let overlooks = standing == Standing::Idle && worker.has_free_slot() && !worker.holds_back;
        if !self.placement_due && overlooks && (has_own || worker.classes.iter().any(could_take)) {
            return broken("it has a free thread and overlooks what it could run");
        }
        Ok(())
    }

    /// Nobody is remembered as introduced to a worker that is gone.
    fn validate_introductions(&self) -> Result<(), String> {
        let is_gone = |number: &&WorkerNo| self.workers.slot(**number).is_none();
        let of_workers = self.workers.iter().flat_map(|worker| &worker.peers);
        let of_clients = self.clients.values().flat_map(|client| &client.peers);
        match of_workers.chain(of_clients).find(is_gone) {
            Some(number) => Err(format!("introductions to {number:?}, which is gone, are kept")),
            None => Ok(()),
        }
    }

    fn validate_clients(&self) -> Result<(), String> {
        for (client, record) in &self.clients {
            for (handle, id) in &record.handles {
                if self.tasks.get(*id).is_none() {
                    return Err(format!("client {client}: handle {handle} names no task"));
                }
            }
        }
        for index in self.tasks.iter() {
            for want in &self.tasks[index].wants {
                let known =
                    self.clients.get(&want.client).and_then(|c| c.handles.get(&want.handle));
                if known.copied() != Some(self.tasks.id(index)) {
                    return Err(format!("{}: a want without a handle", self.tasks[index].key));
                }
            }
        }
        Ok(())
    }
}
