//! Scattered data: where it shall go, and what happens if it never arrives.

use super::planted::Fault;
use super::task::{Kind, State};
use super::transitions::Step;
use super::worker_table::WorkerSlot;
use super::{Map, Scheduler};
use smallvec::SmallVec;
use std::collections::VecDeque;
use taskloom_proto::Value;
use taskloom_proto::client::{Answer, PlanScatter};
use taskloom_types::{ClientId, Handle, Nanos, TaskId};

/// In place of the handle of a value that was released while its scatter waited.
const RELEASED: Handle = Handle(0);

/// A scatter that waits for a first worker.
#[derive(Debug)]
struct WaitingScatter {
    client: ClientId,
    request: u64,
    plan: PlanScatter,
    until: Nanos,
}

/// Who is to put a value where.
#[derive(Debug, Default)]
struct Planned {
    clients: SmallVec<[ClientId; 1]>,
    workers: SmallVec<[WorkerSlot; 2]>,
}

/// Values on their way from clients to workers.
#[derive(Debug, Default)]
pub struct Scatters {
    planned: Map<u32, Planned>,
    /// Values whose clients left before the news came that they are stored, and how long to
    /// wait for that: the news comes from the worker, by another way.
    abandoned: VecDeque<(Nanos, Vec<TaskId>)>,
    waiting: Vec<WaitingScatter>,
    /// Where the next value goes: by turns.
    turn: usize,
}

impl Scatters {
    /// Whether a client has been told to put this value on some worker.
    pub fn is_planned(&self, index: u32) -> bool {
        self.planned.contains_key(&index)
    }

    pub fn forget(&mut self, index: u32) {
        if !self.planned.is_empty() {
            self.planned.remove(&index);
        }
    }

    pub fn next_deadline(&self) -> Option<Nanos> {
        let waiting = self.waiting.iter().map(|scatter| scatter.until).min();
        let abandoned = self.abandoned.front().map(|(until, _)| *until);
        waiting.into_iter().chain(abandoned).min()
    }

    /// Whether the client waits to be told where to put this value.
    pub fn is_waiting(&self, client: ClientId, handle: Handle) -> bool {
        let mut own = self.waiting.iter().filter(|scatter| scatter.client == client);
        own.any(|scatter| scatter.plan.items.iter().any(|item| item.0 == handle))
    }

    /// The client lets go of a value before it was told where to put it.
    pub fn release_waiting(&mut self, client: ClientId, handle: Handle) {
        for scatter in self.waiting.iter_mut().filter(|scatter| scatter.client == client) {
            for item in scatter.plan.items.iter_mut().filter(|item| item.0 == handle) {
                item.0 = RELEASED;
            }
        }
    }

    /// A client left. Returns the tasks that nobody is going to put anywhere.
    fn forget_client(&mut self, client: ClientId) -> Vec<u32> {
        self.waiting.retain(|scatter| scatter.client != client);
        let mut left = Vec::new();
        for (index, planned) in &mut self.planned {
            let before = planned.clients.len();
            planned.clients.retain(|other| *other != client);
            if planned.clients.is_empty() && before > 0 {
                left.push(*index);
            }
        }
        left.sort_unstable();
        left
    }
}

impl Scheduler {
    /// Makes a task per value and answers `[[task, [address]]]`, where no address means that the
    /// data is there already under the same key.
    pub(super) fn on_plan_scatter(&mut self, client: ClientId, request: u64, plan: PlanScatter) {
        let targets = self.scatter_targets(&plan);
        if targets.is_empty() {
            let until = self.now.after(plan.timeout_ns);
            self.scatters.waiting.push(WaitingScatter { client, request, plan, until });
            return;
        }
        let mut answer = Vec::with_capacity(plan.items.len());
        for (handle, key, _) in plan.items {
            if handle == RELEASED {
                answer.push(Value::List(vec![Value::Int(0), Value::List(vec![])]));
                continue;
            }
            let index = match self.tasks.find(&key) {
                Some(index) if !self.make_way(index) => index,
                _ => {
                    let index = self.insert_task(key);
                    self.tasks[index].kind = Kind::Data;
                    index
                }
            };
            if self.tasks[index].kind == Kind::Unknown {
                self.tasks[index].kind = Kind::Data;
            }
            let needs_data = self.tasks[index].kind == Kind::Data
                && matches!(self.tasks[index].state, State::Released | State::Waiting);
            let workers = if needs_data { self.choose(&targets, plan.broadcast) } else { vec![] };
            if needs_data {
                let planned = self.scatters.planned.entry(index).or_default();
                planned.clients.push(client);
                planned.workers.extend(workers.iter().copied());
            }
            let addresses = workers
                .iter()
                .map(|slot| Value::from(self.workers[*slot].info.address.clone()))
                .collect::<Vec<_>>();
            let id = self.tasks.id(index).to_u64();
            answer.push(Value::List(vec![Value::Int(id as i64), Value::List(addresses)]));
            self.bind(client, 0, handle, index, true);
        }
        self.answer(client, request, Answer::ok(Value::List(answer)));
    }

    fn scatter_targets(&self, plan: &PlanScatter) -> Vec<WorkerSlot> {
        let mut targets = self.workers.called(&plan.workers);
        targets.retain(|slot| self.workers[*slot].takes_copies());
        targets
    }

    fn choose(&mut self, targets: &[WorkerSlot], broadcast: bool) -> Vec<WorkerSlot> {
        if broadcast {
            return targets.to_vec();
        }
        self.scatters.turn = self.scatters.turn.wrapping_add(1);
        vec![targets[self.scatters.turn % targets.len()]]
    }

    pub(super) fn place_waiting_scatters(&mut self) {
        for scatter in std::mem::take(&mut self.scatters.waiting) {
            let WaitingScatter { client, request, plan, until } = scatter;
            if self.scatter_targets(&plan).is_empty() {
                self.scatters.waiting.push(WaitingScatter { client, request, plan, until });
            } else {
                self.on_plan_scatter(client, request, plan);
            }
        }
    }

    pub(super) fn fail_overdue_scatters(&mut self) {
        let now = self.now;
        let (overdue, waiting) = std::mem::take(&mut self.scatters.waiting)
            .into_iter()
            .partition(|scatter: &WaitingScatter| scatter.until <= now);
        self.scatters.waiting = waiting;
        let overdue: Vec<WaitingScatter> = overdue;
        for scatter in overdue {
            let message = if scatter.plan.workers.is_empty() {
                "no worker joined in time to take the data".to_string()
            } else {
                format!("none of the workers {:?} is connected", scatter.plan.workers)
            };
            self.answer(scatter.client, scatter.request, Answer::failed("timeout", message));
        }
    }

    /// A worker left: values on their way to it and to no other are lost.
    pub(super) fn forget_scatters_to(&mut self, slot: WorkerSlot) {
        let mut orphans = Vec::new();
        self.scatters.planned.retain(|index, planned| {
            planned.workers.retain(|worker| *worker != slot);
            if planned.workers.is_empty() {
                orphans.push(*index);
            }
            !planned.workers.is_empty()
        });
        orphans.sort_unstable();
        orphans.into_iter().for_each(|index| self.lose_scattered(index));
    }

    /// A client left: what it was to put somewhere comes soon or never.
    pub(super) fn forget_scatters_of(&mut self, client: ClientId) {
        let left = self.scatters.forget_client(client);
        if !left.is_empty() {
            let until = self.now.after(self.config.exit_report_ns);
            let ids = left.into_iter().map(|index| self.tasks.id(index)).collect();
            self.scatters.abandoned.push_back((until, ids));
        }
    }

    pub(super) fn lose_abandoned_scatters(&mut self) {
        while self.scatters.abandoned.front().is_some_and(|(until, _)| *until <= self.now) {
            let Some((_, ids)) = self.scatters.abandoned.pop_front() else { return };
            for index in ids.into_iter().filter_map(|id| self.tasks.get(id)).collect::<Vec<_>>() {
                let planned = self.scatters.planned.get(&index);
                if planned.is_some_and(|planned| planned.clients.is_empty()) {
                    self.scatters.forget(index);
                    self.lose_scattered(index);
                }
            }
        }
    }

    /// A value will not arrive.
    fn lose_scattered(&mut self, index: u32) {
        let is_waiting = self.tasks.is_live(index) && self.tasks[index].state == State::Waiting;
        if is_waiting && !self.has(Fault::ScatterWaitsForever) {
            self.set_state(index, State::Released);
            self.steps.push(Step::Start(index));
        }
    }
}
