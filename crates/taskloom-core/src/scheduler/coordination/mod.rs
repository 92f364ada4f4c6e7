//! What programs share through the scheduler: locks, semaphores, events, queues, variables,
//! published datasets and metadata.
//!
//! A state machine of its own. Its rules know nothing of tasks but their ids: what they want of
//! the tasks (to be kept, to be let go) is collected in `desk::Holds` and applied here.
//!
//! - `desk`: requests that wait, and requests that were given something.
//! - `leases`, `multilock`, `events`, `queues`, `variables`, `metadata`: the objects.
//!
//! Everything that is granted belongs to a request, and so to a connection. A client that leaves,
//! however it does, takes its waits and leases with it; items that it was given and has not
//! taken go back. The reasons are in `docs/design/coordination.md`.

mod desk;
mod events;
mod leases;
mod metadata;
mod multilock;
mod queues;
mod validate;
mod variables;

use super::Scheduler;
use super::clients::ClientRecord;
use super::planted::Fault;
use super::transitions::Step;
use super::worker_table::WorkerSlot;
use desk::{Asker, Claim, Desk, Item, Patience, Place};
use taskloom_proto::Value;
use taskloom_proto::coordination::{Coordination, Settle, SharedValue};
use taskloom_types::{ClientId, Key, Nanos, TaskId};

/// All shared objects.
#[derive(Debug, Default)]
pub struct Coordinator {
    desk: Desk,
    semaphores: leases::Semaphores,
    locks: multilock::MultiLocks,
    events: events::Events,
    queues: queues::Queues,
    variables: variables::Variables,
    datasets: variables::Datasets,
    pub metadata: metadata::Metadata,
}

impl Coordinator {
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.desk.next_deadline()
    }

    /// Whether shared values keep this task.
    pub fn keeps(&self, id: TaskId) -> bool {
        self.desk.holds.has(id)
    }

    /// How many requests and objects there are, for tests.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize) {
        let objects = self.semaphores.by_name.len()
            + self.locks.locks.len()
            + self.events.by_name.len()
            + self.queues.by_name.len()
            + self.variables.by_name.len();
        (self.desk.claims.len(), objects)
    }

    /// The request waits no more: its object forgets it.
    fn withdraw(&mut self, asker: Asker) -> Option<Place> {
        let (place, turn) = self.desk.stop_waiting(asker)?;
        let desk = &mut self.desk;
        match &place {
            Place::Semaphore(name) => self.semaphores.withdraw(name, turn),
            Place::MultiLock => self.locks.withdraw(desk, asker),
            Place::Event(name) => self.events.withdraw(name, turn),
            Place::QueueGet(name) => self.queues.stop_getting(desk, name, turn),
            Place::QueuePut(name) => self.queues.stop_putting(desk, name, turn),
            Place::Variable(name) => self.variables.withdraw(name, turn),
        }
        Some(place)
    }

    fn on_overdue(&mut self, asker: Asker) {
        let Some(place) = self.withdraw(asker) else { return };
        let message = match place {
            Place::Semaphore(_) | Place::MultiLock | Place::Event(_) => {
                return self.desk.answer(asker, Value::Bool(false));
            }
            Place::QueueGet(name) => format!("queue {name} did not get enough items in time"),
            Place::QueuePut(name) => format!("queue {name} stayed full"),
            Place::Variable(name) => format!("variable {name} was not set in time"),
        };
        self.desk.fail(asker, "timeout", message);
    }

    /// The client lets go of what the request stands for.
    fn let_go(&mut self, asker: Asker, is_taken: bool) {
        if self.withdraw(asker).is_some() {
            return;
        }
        let Some(claim) = self.desk.claims.remove(&asker) else { return };
        let desk = &mut self.desk;
        match claim {
            Claim::Lease(name) => self.semaphores.release(desk, asker, &name),
            Claim::Locks => self.locks.release(desk, asker),
            Claim::Open(name) => self.queues.leave(desk, asker, &name, false),
            Claim::Given { items, queue: Some(name) } => {
                self.queues.settle(desk, asker, &name, items, is_taken);
            }
            Claim::Given { items, queue: None } => {
                items.iter().for_each(|item| desk.holds.free(item))
            }
            // It was withdrawn above.
            Claim::Waiting { .. } => {}
        }
    }

    fn release(&mut self, asker: Asker) -> bool {
        let is_lease = matches!(self.desk.claims.get(&asker), Some(Claim::Lease(_) | Claim::Locks));
        if is_lease {
            self.let_go(asker, false);
        }
        is_lease
    }

    fn close_queue(&mut self, asker: Asker) {
        if let Some(Claim::Open(name)) = self.desk.claims.get(&asker).cloned() {
            self.desk.claims.remove(&asker);
            self.queues.leave(&mut self.desk, asker, &name, true);
        }
    }

    /// First what it waits for, so that nothing of what it gives back comes to itself.
    fn forget_client(&mut self, client: ClientId) {
        let claims = self.desk.claims_of(client);
        for asker in &claims {
            self.withdraw(*asker);
        }
        for asker in claims {
            self.let_go(asker, false);
        }
        self.semaphores.forget_client(client);
    }
}

impl Scheduler {
    pub(super) fn on_coordinate(&mut self, client: ClientId, request: u64, what: Coordination) {
        let asker = Asker { client, request };
        if self.coordinator.desk.claims.contains_key(&asker) {
            // A number that is in use: against the protocol.
            self.counters.stale_messages += 1;
            return;
        }
        if let Err(missing) = self.coordinate(asker, what) {
            let message = format!(
                "the future {missing} cannot be shared: it was cancelled, lost or released"
            );
            self.coordinator.desk.fail(asker, "lost", message);
        }
        self.end_coordination();
    }

    /// # Errors
    /// The key of a future that the scheduler does not know.
    fn coordinate(&mut self, asker: Asker, what: Coordination) -> Result<(), Key> {
        let now = self.now;
        let patience = |timeout_ns: Option<u64>| match timeout_ns {
            None => Patience::Endless,
            Some(0) => Patience::None,
            Some(timeout) => Patience::Until(now.after(timeout)),
        };
        let Coordinator { desk, semaphores, locks, events, queues, variables, datasets, .. } =
            &mut self.coordinator;
        match what {
            Coordination::Acquire(acquire) => {
                let how = patience(acquire.timeout_ns);
                semaphores.acquire(desk, asker, acquire, how);
            }
            Coordination::AcquireMany(acquire) => {
                let how = patience(acquire.timeout_ns);
                locks.acquire(desk, asker, acquire, how);
            }
            Coordination::Release(lease) => {
                let lease = Asker { client: asker.client, request: lease };
                let was_held = self.coordinator.release(lease);
                self.coordinator.desk.answer(asker, Value::Bool(was_held));
            }
            Coordination::CountLeases(name) => {
                desk.answer(asker, Value::from(semaphores.count(&name)));
            }
            Coordination::RegisterSemaphore(register) => {
                let user = Some(asker.client);
                match semaphores.register(user, &register.name, register.max_leases) {
                    Ok(_) => desk.answer(asker, Value::Null),
                    Err((kind, message)) => desk.fail(asker, kind, message),
                }
            }
            Coordination::CloseSemaphore(name) => {
                let (leases, waiting) = semaphores.close(desk, &name);
                let counts = [leases, waiting].map(Value::from);
                desk.answer(asker, Value::List(counts.into()));
            }
            Coordination::WaitForEvent(wait) => {
                events.wait(desk, asker, wait.name, patience(wait.timeout_ns));
            }
            Coordination::SetEvent(event) => {
                if event.is_set {
                    events.set(desk, event.name);
                } else {
                    events.clear(&event.name);
                }
                desk.answer(asker, Value::Null);
            }
            Coordination::IsEventSet(name) => {
                desk.answer(asker, Value::Bool(events.is_set(&name)));
            }
            Coordination::OpenQueue(open) => queues.open(desk, asker, open.name, open.max_size),
            Coordination::CloseQueue(opened) => {
                let opened = Asker { client: asker.client, request: opened };
                self.coordinator.close_queue(opened);
                self.coordinator.desk.answer(asker, Value::Null);
            }
            Coordination::PutItem(put) => {
                let (item, how) = (self.item(put.value)?, patience(put.timeout_ns));
                let Coordinator { desk, queues, .. } = &mut self.coordinator;
                queues.put(desk, asker, put.name, item, how);
            }
            Coordination::GetItems(get) => {
                queues.get(desk, asker, get.name, get.count as usize, patience(get.timeout_ns));
            }
            Coordination::QueueSize(name) => desk.answer(asker, Value::from(queues.size(&name))),
            Coordination::SetVariable(set) => {
                let item = self.item(set.value)?;
                let Coordinator { desk, variables, .. } = &mut self.coordinator;
                variables.set(desk, set.name, item);
                desk.answer(asker, Value::Null);
            }
            Coordination::GetVariable(get) => {
                variables.get(desk, asker, get.name, patience(get.timeout_ns));
            }
            Coordination::DeleteVariable(name) => {
                variables.delete(desk, &name);
                desk.answer(asker, Value::Null);
            }
            Coordination::Publish(publish) => {
                let item = |(name, value)| Ok((name, self.item(value)?));
                let entries = publish.entries.into_iter().map(item).collect::<Result<_, Key>>()?;
                let Coordinator { desk, datasets, .. } = &mut self.coordinator;
                datasets.publish(desk, asker, entries, publish.replaces);
            }
            Coordination::GetDatasets(names) => datasets.get(desk, asker, &names),
            Coordination::Unpublish(names) => {
                datasets.unpublish(desk, &names);
                desk.answer(asker, Value::Null);
            }
            Coordination::ListDatasets(_) => desk.answer(asker, datasets.names()),
            Coordination::SetMetadata(set) => {
                match self.coordinator.metadata.set(set.path, set.value) {
                    Ok(()) => self.coordinator.desk.answer(asker, Value::Null),
                    Err(message) => self.coordinator.desk.fail(asker, "value", message),
                }
            }
            Coordination::GetMetadata(path) => match self.coordinator.metadata.get(&path) {
                Some(value) => self.coordinator.desk.answer(asker, value),
                None => self.coordinator.desk.fail(asker, "key", String::new()),
            },
        }
        Ok(())
    }

    /// # Errors
    /// The key of a future that the scheduler does not know.
    fn item(&self, value: SharedValue) -> Result<Item, Key> {
        let task = |key: Key| match self.tasks.find(&key) {
            Some(index) => Ok((key, self.tasks.id(index))),
            None => Err(key),
        };
        let tasks = value.keys.into_iter().map(task).collect::<Result<Vec<_>, Key>>()?;
        Ok(Item { payload: value.payload, tasks: tasks.into() })
    }

    pub(super) fn on_settle(&mut self, client: ClientId, settle: &Settle) {
        let asker = Asker { client, request: settle.request };
        let is_taken = settle.is_taken && !self.has(Fault::TakenItemsComeBack);
        self.coordinator.let_go(asker, is_taken);
        self.end_coordination();
    }

    pub(super) fn end_overdue_coordination(&mut self) {
        while let Some(asker) = self.coordinator.desk.next_overdue(self.now) {
            self.coordinator.on_overdue(asker);
        }
        self.end_coordination();
    }

    pub(super) fn forget_coordination_of(&mut self, client: ClientId) {
        if !self.has(Fault::LeasesOutliveClients) {
            self.coordinator.forget_client(client);
        }
        self.end_coordination();
    }

    /// A worker is lost, and its tasks run elsewhere: what they wait for and hold must not stay
    /// theirs, even if the process lives on and is only cut off.
    pub(super) fn forget_coordination_on(&mut self, slot: WorkerSlot) {
        let address = &self.workers[slot].info.address;
        let is_its = |(_, record): &(_, &ClientRecord)| record.worker == *address;
        let mut clients: Vec<ClientId> =
            self.clients.iter().filter(is_its).map(|(client, _)| *client).collect();
        clients.sort_unstable();
        clients.into_iter().for_each(|client| self.forget_coordination_of(client));
    }

    /// A task is dropped for everybody: values that name it do so in vain from now on.
    pub(super) fn forget_shared(&mut self, index: u32) {
        if self.coordinator.desk.holds.forget(self.tasks.id(index)) {
            self.tasks[index].holds -= 1;
        }
    }

    /// Tells the tasks and the clients what came of it.
    fn end_coordination(&mut self) {
        for (id, is_kept) in self.coordinator.desk.holds.take_changes() {
            if !is_kept {
                self.drop_hold(id);
            } else if let Some(index) = self.tasks.get(id) {
                self.tasks[index].holds += 1;
                self.steps.push(Step::Start(index));
            }
        }
        self.run_steps();
        for (asker, answer) in self.coordinator.desk.take_answers() {
            self.answer(asker.client, asker.request, answer);
        }
    }
}
