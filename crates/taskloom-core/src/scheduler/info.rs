//! Answers that only read: where things are, and why.

use super::Scheduler;
use super::task::{State, TaskRecord, mark};
use super::worker_table::{WorkerRecord, WorkerSlot};
use taskloom_proto::Value;
use taskloom_proto::client::{Answer, Question};
use taskloom_types::{ClientId, Handle, Key};

fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::List(items.into_iter().map(Into::into).collect())
}

fn status_of(worker: &WorkerRecord) -> &'static str {
    match worker {
        WorkerRecord { leaving: true, .. } => "closing",
        WorkerRecord { preparing: true, .. } => "preparing",
        WorkerRecord { paused: Some(_), .. } => "paused",
        _ => "running",
    }
}

impl Scheduler {
    pub(super) fn look_up(&self, client: ClientId, question: Question) -> Answer {
        Answer::ok(match question {
            Question::SchedulerInfo => self.describe(),
            Question::WhoHas(keys) => {
                self.by_key(&keys, |task| Some(self.addresses(&task.replicas)))
            }
            Question::SizeBytes(keys) => self.by_key(&keys, |task| {
                (task.state == State::Memory).then(|| Value::from(task.size_bytes))
            }),
            Question::HasWhat(words) => self.by_worker(&words, |slot| {
                let mut held: Vec<u32> = self.workers[slot].held.iter().copied().collect();
                held.sort_unstable();
                list(held.into_iter().map(|index| self.tasks[index].key.clone()))
            }),
            Question::Processing(words) => self.by_worker(&words, |slot| {
                let processing = self.workers[slot].processing.iter();
                list(processing.map(|index| self.tasks[*index].key.clone()))
            }),
            Question::Executing(keys) => self.executing(&keys),
            Question::Story(key) => self.story_of(&key),
            Question::Explain(key) => self.explain(&key),
            Question::Locate(handles) => self.locate(client, &handles),
            Question::Counters => self.counters_value(),
            Question::Barrier
            | Question::PlanScatter(_)
            | Question::RunEverywhere(_)
            | Question::WaitForWorkers(_)
            | Question::Restart(_)
            | Question::RetireWorkers(_)
            | Question::Replay(_)
            | Question::Adapt(_)
            | Question::Shutdown
            | Question::Control(_)
            | Question::Coordinate(_) => Value::Null,
        })
    }

    fn addresses(&self, slots: &[WorkerSlot]) -> Value {
        list(slots.iter().map(|slot| self.workers[*slot].info.address.clone()))
    }

    /// `{key: answer}` of the keys that are known, or of all.
    fn by_key(&self, keys: &[Key], answer: impl Fn(&TaskRecord) -> Option<Value>) -> Value {
        let entry = |index: u32| {
            let task = &self.tasks[index];
            if task.has(mark::SHADOWED) {
                return None;
            }
            Some((Value::Key(task.key.clone()), answer(task)?))
        };
        if keys.is_empty() {
            return Value::Map(self.tasks.iter().filter_map(entry).collect());
        }
        Value::Map(
            keys.iter()
                .filter_map(|key| match self.tasks.find(key) {
                    Some(index) => entry(index),
                    None => None,
                })
                .collect(),
        )
    }

    fn by_worker(&self, words: &[String], answer: impl Fn(WorkerSlot) -> Value) -> Value {
        let entry =
            |slot: WorkerSlot| (Value::from(self.workers[slot].info.address.clone()), answer(slot));
        Value::Map(self.workers.called(words).into_iter().map(entry).collect())
    }

    /// The shell passes connections of clients on to workers that they cannot reach: so many now,
    /// so many bytes in all.
    pub fn note_relayed(&mut self, connections: usize, bytes: u64) {
        self.relayed = super::Relayed { connections, bytes };
    }

    /// Whether a worker serves its data there.
    #[must_use]
    pub fn has_worker_at(&self, address: &str) -> bool {
        self.workers.iter().any(|worker| worker.info.address == address)
    }

    fn describe(&self) -> Value {
        let workers = self.by_worker(&[], |slot| self.describe_worker(slot));
        let states = State::ALL.map(|state| {
            (Value::from(state.name()), Value::from(self.state_counts[state as usize]))
        });
        let relay = Value::map([
            ("connections", Value::from(self.relayed.connections)),
            ("bytes", Value::from(self.relayed.bytes)),
        ]);
        Value::map([
            ("type", Value::from("Scheduler")),
            ("id", Value::from(format!("Scheduler-{:016x}", self.epoch))),
            ("address", Value::from(self.config.address.as_str())),
            ("version", Value::from(env!("CARGO_PKG_VERSION"))),
            ("workers", workers),
            ("n_workers", Value::from(self.workers.len())),
            ("clients", list(self.clients.values().map(|client| client.name.clone()))),
            ("tasks", Value::Map(states.to_vec())),
            ("functions", Value::from(self.functions.len())),
            ("relay", relay),
        ])
    }

    pub(super) fn describe_worker(&self, slot: WorkerSlot) -> Value {
        let worker = &self.workers[slot];
        let info = &worker.info;
        let resources = info
            .resources
            .iter()
            .map(|(name, amount)| (Value::from(name), Value::from(amount.as_f64())))
            .collect();
        let spilled = Value::map([
            ("memory", Value::from(worker.metrics.spilled_bytes)),
            ("disk", Value::from(worker.metrics.disk_bytes)),
        ]);
        let metrics = Value::map([
            ("executing", Value::from(worker.metrics.executing.len())),
            ("ready", Value::from(worker.metrics.ready)),
            ("cpu", Value::from(worker.metrics.cpu_percent)),
            ("memory", Value::from(worker.metrics.resident_bytes)),
            ("managed_bytes", Value::from(worker.metrics.managed_bytes)),
            ("spilled_bytes", spilled),
            ("unspillable_bytes", Value::from(worker.metrics.unspillable_bytes)),
            ("spill_error", Value::from(worker.metrics.spill_error.as_str())),
            ("in_memory", Value::from(worker.held.len())),
            ("processing", Value::from(worker.processing.len())),
        ]);
        Value::map([
            ("type", Value::from("Worker")),
            ("id", Value::from(info.name.as_str())),
            ("name", Value::from(info.name.as_str())),
            ("host", Value::from(info.host.as_str())),
            ("pid", Value::from(info.pid)),
            ("nthreads", Value::from(info.nthreads)),
            ("memory_limit", Value::from(info.memory_limit)),
            ("resources", Value::Map(resources)),
            ("local_directory", Value::from(info.local_directory.as_str())),
            ("supervised", Value::from(info.supervised)),
            ("status", Value::from(status_of(worker))),
            ("status_reason", Value::from(worker.paused.clone().unwrap_or_default())),
            ("memory", self.describe_memory(slot)),
            ("version", Value::from(info.version.as_str())),
            ("occupancy_s", Value::from(worker.occupancy_ns as f64 / 1e9)),
            ("last_seen_s", Value::from(self.now.since(worker.last_seen) as f64 / 1e9)),
            ("metrics", metrics),
        ])
    }

    /// `{address: {key: seconds}}` of the tasks that ran at the last heartbeat.
    fn executing(&self, keys: &[Key]) -> Value {
        self.by_worker(&[], |slot| {
            let executing = self.workers[slot].metrics.executing.iter();
            let entries = executing.filter_map(|(id, _, micros)| {
                let key = &self.tasks[self.tasks.get(*id)?].key;
                let is_asked = keys.is_empty() || keys.contains(key);
                is_asked.then(|| (Value::Key(key.clone()), Value::Float(*micros as f64 / 1e6)))
            });
            Value::Map(entries.collect())
        })
    }

    fn story_of(&self, key: &Key) -> Value {
        let chapters = self.story.of(key).map(|chapter| {
            list([
                Value::from(chapter.at.0 as f64 / 1e9),
                Value::from(chapter.from.name()),
                Value::from(chapter.to.name()),
                Value::from(chapter.worker.0),
            ])
        });
        list(chapters)
    }

    fn locate(&self, client: ClientId, handles: &[Handle]) -> Value {
        let place = |handle: &Handle| {
            let id = self.clients.get(&client)?.handles.get(handle)?;
            let task = &self.tasks[self.tasks.get(*id)?];
            let address = self.addresses(&task.replicas);
            Some(list([Value::Int(id.to_u64() as i64), address]))
        };
        list(handles.iter().map(|handle| place(handle).unwrap_or(Value::Null)))
    }

    fn counters_value(&self) -> Value {
        let counters = &self.counters;
        Value::map([
            ("transitions", Value::from(counters.transitions)),
            ("illegal_transitions", Value::from(counters.illegal_transitions)),
            ("stale_messages", Value::from(counters.stale_messages)),
            ("sessions_resumed", Value::from(counters.sessions_resumed)),
            ("results_adopted", Value::from(counters.results_adopted)),
            ("tasks_submitted", Value::from(counters.tasks_submitted)),
            ("tasks_done", Value::from(counters.tasks_done)),
            ("tasks_erred", Value::from(counters.tasks_erred)),
            ("collisions", Value::from(counters.collisions)),
            ("spec_differences", Value::from(counters.spec_differences)),
            ("stolen", Value::from(counters.stolen)),
            ("retracted", Value::from(counters.retracted)),
            ("recomputed", Value::from(counters.recomputed)),
            ("run_ahead", Value::from(counters.run_ahead)),
            ("workers_lost", Value::from(counters.workers_lost)),
            ("processes_replaced", Value::from(counters.processes_replaced)),
            ("tasks", Value::from(self.tasks.len())),
        ])
    }

    /// Why a task is where it is. `reason` is one of: `unknown-key`, `not-submitted`, `finished`,
    /// `erred`, `not-needed`, `waiting-for-dependencies`, `waiting-for-verdict` (its worker died,
    /// the supervisor has not said how), `waiting-for-retry` (it failed and is tried again in
    /// `retry_in_s` seconds), `no-worker` (nobody offers what it asks for),
    /// `waiting-for-resources` (those who offer them use them), `waiting-for-slot`,
    /// `waiting-for-memory` (the memory of all that may run it is short: they are paused),
    /// `suspect` (it runs alone, after it may have killed workers), `sent-ahead`, `seceded`,
    /// `processing`.
    fn explain(&self, key: &Key) -> Value {
        let Some(index) = self.tasks.find(key) else {
            return Value::map([
                ("key", Value::Key(key.clone())),
                ("state", Value::from("forgotten")),
                ("reason", Value::from("unknown-key")),
            ]);
        };
        let task = &self.tasks[index];
        let class = &self.classes[task.class];
        let reason = self.reason(task);
        let missing: Vec<Value> = task
            .deps
            .iter()
            .map(|dep| &self.tasks[*dep])
            .filter(|dep| dep.state != State::Memory)
            .take(100)
            .map(|dep| list([Value::Key(dep.key.clone()), Value::from(dep.state.name())]))
            .collect();
        let resources = class
            .resources
            .iter()
            .map(|(name, amount)| (Value::from(name), Value::from(amount.as_f64())))
            .collect();
        let worker = self.workers.get(task.worker).map(|worker| worker.info.address.clone());
        let retry_in_s = self
            .delays
            .until(self.tasks.id(index))
            .map_or(Value::Null, |until| Value::from(until.since(self.now) as f64 / 1e9));
        Value::map([
            ("key", Value::Key(task.key.clone())),
            ("state", Value::from(task.state.name())),
            ("reason", Value::from(reason)),
            ("missing_dependencies", Value::List(missing)),
            ("workers", list(class.workers.iter().cloned())),
            ("allow_other_workers", Value::from(class.allow_other_workers)),
            ("resources", Value::Map(resources)),
            ("eligible_workers", self.addresses(&class.eligible)),
            ("worker", worker.map_or(Value::Null, Value::from)),
            ("attempt", Value::from(task.attempt)),
            ("retries_left", Value::from(task.retries_left)),
            ("retry_in_s", retry_in_s),
            ("suspicions", Value::from(u32::from(task.suspicions))),
            ("who_has", self.addresses(&task.replicas)),
        ])
    }

    fn reason(&self, task: &TaskRecord) -> &'static str {
        match task.state {
            State::Released if task.kind == super::task::Kind::Unknown => "not-submitted",
            State::Released => "not-needed",
            State::Waiting if task.has(mark::LIMBO) => "waiting-for-verdict",
            State::Waiting if task.has(mark::DELAYED) => "waiting-for-retry",
            State::Waiting => "waiting-for-dependencies",
            State::NoWorker => "no-worker",
            State::Queued if task.suspicions > 0 => "suspect",
            State::Queued => self.queued_reason(task),
            State::Processing if task.has(mark::SECEDED) => "seceded",
            State::Processing if task.has(mark::CANARY) => "suspect",
            State::Processing if task.waiting_on > 0 => "sent-ahead",
            State::Processing => "processing",
            State::Memory => "finished",
            State::Erred => "erred",
        }
    }

    fn queued_reason(&self, task: &TaskRecord) -> &'static str {
        let class = &self.classes[task.class];
        let is_free = |slot: &WorkerSlot| self.workers[*slot].available.covers(&class.resources);
        let is_paused = |slot: &WorkerSlot| self.workers[*slot].paused.is_some();
        if class.eligible.iter().all(is_paused) {
            "waiting-for-memory"
        } else if class.eligible.iter().any(is_free) {
            "waiting-for-slot"
        } else {
            "waiting-for-resources"
        }
    }
}
