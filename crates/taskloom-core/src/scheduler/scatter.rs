//! Scattered data: where it shall go, and what happens if it never arrives.

use super::task::{Kind, State};
use super::transitions::Step;
use super::worker_table::WorkerSlot;
use super::{Map, Scheduler};
use smallvec::SmallVec;
use taskloom_proto::Value;
use taskloom_proto::client::{Answer, PlanScatter};
use taskloom_types::{ClientId, Nanos};

/// A scatter that waits for a first worker.
#[derive(Debug)]
struct WaitingScatter {
    client: ClientId,
    request: u64,
    plan: PlanScatter,
    until: Nanos,
}

/// Values on their way from clients to workers.
#[derive(Debug, Default)]
pub struct Scatters {
    planned: Map<u32, SmallVec<[WorkerSlot; 2]>>,
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
        self.waiting.iter().map(|scatter| scatter.until).min()
    }

    pub fn forget_client(&mut self, client: ClientId) {
        self.waiting.retain(|scatter| scatter.client != client);
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
            let index = match self.tasks.find(&key) {
                Some(index) => index,
                None => {
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
                self.scatters.planned.insert(index, workers.iter().copied().collect());
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
        targets.retain(|slot| !self.workers[*slot].leaving);
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
        self.scatters.planned.retain(|index, workers| {
            workers.retain(|worker| *worker != slot);
            if workers.is_empty() {
                orphans.push(*index);
            }
            !workers.is_empty()
        });
        orphans.sort_unstable();
        for index in orphans {
            if self.tasks.is_live(index) && self.tasks[index].state == State::Waiting {
                self.set_state(index, State::Released);
                self.steps.push(Step::Start(index));
            }
        }
    }
}
