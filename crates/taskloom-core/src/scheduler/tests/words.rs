//! Actions in words, and the promises that every message keeps.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use taskloom_proto::actor::ActorNews;
use taskloom_proto::client::{Answer, Collision, KeyReady};
use taskloom_proto::gone::WorkerGone;
use taskloom_proto::rejoin::Adopted;
use taskloom_proto::worker::{ComputeTask, DepRef, TaskAttempt};
use taskloom_types::{FunctionNo, Handle, Key, TaskId};

/// Names of everybody, and what each has been told.
#[derive(Default)]
pub struct Words {
    workers: BTreeMap<WorkerNo, String>,
    clients: BTreeMap<ClientId, String>,
    tasks: BTreeMap<TaskId, String>,
    handles: BTreeMap<(ClientId, Handle), String>,
    runs: BTreeMap<(WorkerNo, String), TaskAttempt>,
    introduced: BTreeSet<(WorkerNo, WorkerNo)>,
    introduced_to_clients: BTreeSet<(ClientId, WorkerNo)>,
    /// Who was told that a worker is gone.
    pub told_gone: Vec<(String, WorkerGone)>,
    functions: BTreeSet<(WorkerNo, FunctionNo)>,
    /// Keys of watched actors, by the number of the watch.
    watched: Vec<String>,
    pub answers: BTreeMap<u64, Answer>,
    /// The error that a client was told last of a key.
    pub errors: BTreeMap<String, taskloom_proto::ErrorInfo>,
}

impl Words {
    pub fn worker(&mut self, number: WorkerNo, name: &str) {
        self.workers.insert(number, name.into());
    }

    pub fn client(&mut self, client: ClientId, name: &str) {
        self.clients.insert(client, name.into());
    }

    pub fn task(&mut self, id: TaskId, key: &Key) {
        self.tasks.entry(id).or_insert_with(|| key.to_string());
    }

    pub fn handle(&mut self, client: ClientId, handle: Handle, key: &str) {
        self.handles.insert((client, handle), key.into());
    }

    /// The last session of a worker.
    #[track_caller]
    pub fn worker_called(&self, name: &str) -> WorkerNo {
        let called = |(_, other): &(&WorkerNo, &String)| *other == name;
        *self.workers.iter().rev().find(called).expect("a worker of this name").0
    }

    #[track_caller]
    pub fn run(&self, worker: WorkerNo, key: &str) -> TaskAttempt {
        let run = self.runs.get(&(worker, key.into()));
        run.cloned().unwrap_or_else(|| panic!("{} was never sent {key}", self.workers[&worker]))
    }

    /// One line per thing that is told to somebody.
    #[track_caller]
    pub fn tell(&mut self, actions: Vec<Action>) -> Vec<String> {
        let mut lines = Vec::new();
        for action in actions {
            match action {
                Action::ToWorker(worker, message) => self.worker_lines(worker, message, &mut lines),
                Action::ToClient(client, message) => self.client_lines(client, message, &mut lines),
                Action::ToSupervisor(_, message) => lines.push(match message {
                    SchedulerToSupervisor::RestartWorker(worker) => {
                        format!("supervisor restarts {}", worker.name)
                    }
                    SchedulerToSupervisor::StopWorker(worker) => {
                        format!("supervisor stops {}", worker.name)
                    }
                    SchedulerToSupervisor::Close(_) => "supervisor closes".into(),
                }),
                Action::CloseSupervisor(_, why) => lines.push(format!("supervisor: {why}")),
                Action::CloseWorker(worker, why) | Action::CutWorker(worker, why) => {
                    lines.push(format!("{} is cut off: {why}", self.workers[&worker]));
                }
                Action::CloseClient(client, why) => {
                    lines.push(format!("{} is cut off: {why}", self.clients[&client]));
                }
                Action::Stop => lines.push("stop".into()),
            }
        }
        lines
    }

    fn key(&self, id: TaskId) -> String {
        self.tasks.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn keys(&self, ids: &[TaskId]) -> String {
        ids.iter().map(|id| self.key(*id)).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn worker_lines(&mut self, number: WorkerNo, said: SchedulerToWorker, lines: &mut Vec<String>) {
        let name = self.workers[&number].clone();
        match said {
            SchedulerToWorker::Registered(_) => lines.push(format!("{name} is registered")),
            SchedulerToWorker::Function(function) => {
                let is_new = self.functions.insert((number, function.number));
                assert!(is_new, "{name} is told a function twice");
                lines.push(format!("{name} learns {}", function.name));
            }
            SchedulerToWorker::ForgetFunctions(functions) => {
                for function in &functions {
                    let was_known = self.functions.remove(&(number, *function));
                    assert!(was_known, "{name} is to forget what it was not told");
                }
                lines.push(format!("{name} forgets {} functions", functions.len()));
            }
            SchedulerToWorker::Peer(peer) => {
                self.introduced.insert((number, peer.worker));
            }
            SchedulerToWorker::PeersGone(gone) => {
                for gone in gone {
                    let was_known = self.introduced.remove(&(number, gone.worker));
                    assert!(was_known || !gone.cut.is_empty(), "{name} does not know {gone:?}");
                    self.told_gone.push((name.clone(), gone));
                }
            }
            SchedulerToWorker::Compute(tasks) => {
                for task in tasks {
                    lines.push(self.compute(number, &name, task));
                }
            }
            SchedulerToWorker::Free(tasks) => {
                lines.push(format!("{name} frees {}", self.keys(&tasks)));
            }
            SchedulerToWorker::Discard(tasks) => {
                lines.push(format!("{name} discards {}", self.keys(&tasks)));
            }
            SchedulerToWorker::Retract(run) => {
                lines.push(format!("{name} is asked for {} back", self.key(run.task)));
            }
            SchedulerToWorker::Holders(news) => {
                let dep = self.key(news.dep);
                let place = self.place(number, news.value.is_some(), &news.holders);
                lines.push(format!("{name} finds {dep} {place}"));
            }
            SchedulerToWorker::Interrupt(run) => {
                let grace = run.grace_ns.map(|ns| format!(" with {} ms grace", ns / 1_000_000));
                let key = self.key(run.task);
                lines.push(format!("{name} interrupts {key}{}", grace.unwrap_or_default()));
            }
            SchedulerToWorker::Adopt(adopted) => {
                for Adopted { number, task } in adopted {
                    lines.push(format!("{name} has {} as its {number}", self.key(task)));
                }
            }
            SchedulerToWorker::Decline(numbers) => {
                lines.push(format!("{name} may drop its {numbers:?}"));
            }
            SchedulerToWorker::Run(_) => lines.push(format!("{name} calls")),
            SchedulerToWorker::SnapshotKept(kept) => {
                lines.push(format!("{name} may answer up to {}", kept.number));
            }
            SchedulerToWorker::HandOverActor(order) => {
                lines.push(format!("{name} is to hand {} over", self.key(order.actor.task)));
            }
            SchedulerToWorker::Close(_) => lines.push(format!("{name} is told to close")),
            SchedulerToWorker::Acquire(wanted) => {
                for dep in wanted {
                    lines.push(format!("{name} copies {}", self.input(number, &dep)));
                }
            }
        }
    }

    #[track_caller]
    fn compute(&mut self, number: WorkerNo, name: &str, task: ComputeTask) -> String {
        for function in &task.functions {
            let knows = self.functions.contains(&(number, *function));
            assert!(knows, "{name} gets a task before its function");
        }
        let key = self.key(task.task);
        assert_eq!(key, task.key.to_string());
        let run = TaskAttempt { task: task.task, attempt: task.attempt };
        self.runs.insert((number, key.clone()), run);
        let again =
            if task.attempt > 1 { format!(" (attempt {})", task.attempt) } else { String::new() };
        let inputs: Vec<String> = task.deps.iter().map(|dep| self.input(number, dep)).collect();
        let with = if inputs.is_empty() { "" } else { " with " };
        format!("{name} runs {key}{again}{with}{}", inputs.join(", "))
    }

    #[track_caller]
    fn input(&self, number: WorkerNo, dep: &DepRef) -> String {
        format!("{} {}", self.key(dep.task), self.place(number, dep.value.is_some(), &dep.holders))
    }

    #[track_caller]
    fn place(&self, number: WorkerNo, inline: bool, holders: &[WorkerNo]) -> String {
        for holder in holders {
            let knows = self.introduced.contains(&(number, *holder));
            assert!(knows, "a worker is named before it was introduced");
        }
        if inline {
            return "inline".into();
        }
        if holders.is_empty() {
            return "here".into();
        }
        let names: Vec<&str> = holders.iter().map(|holder| self.workers[holder].as_str()).collect();
        format!("from {}", names.join("+"))
    }

    #[track_caller]
    fn client_lines(&mut self, client: ClientId, said: SchedulerToClient, lines: &mut Vec<String>) {
        let name = self.clients[&client].clone();
        let keys = |words: &Self, handles: &[Handle]| {
            let key = |handle: &Handle| words.handles[&(client, *handle)].clone();
            handles.iter().map(key).collect::<Vec<_>>().join(" ")
        };
        match said {
            SchedulerToClient::Ready(list) => {
                for ready in list {
                    lines.push(self.ready(client, &name, &ready));
                }
            }
            SchedulerToClient::Erred(erred) => {
                let key = keys(self, &erred.handles);
                lines.push(format!("{name}: {key} failed, {}", erred.error.type_name));
                self.errors.insert(key, erred.error);
            }
            SchedulerToClient::Cancelled(cancelled) => {
                let keys = keys(self, &cancelled.handles);
                lines.push(format!("{name}: {keys} cancelled, {}", cancelled.reason));
            }
            SchedulerToClient::Pending(list) => {
                lines.push(format!("{name}: {} pending again", keys(self, &list.handles)));
            }
            SchedulerToClient::Peer(peer) => {
                self.introduced_to_clients.insert((client, peer.worker));
            }
            SchedulerToClient::PeersGone(gone) => {
                for gone in gone {
                    let was_known = self.introduced_to_clients.remove(&(client, gone.worker));
                    assert!(was_known || !gone.cut.is_empty(), "{name} does not know {gone:?}");
                    self.told_gone.push((name.clone(), gone));
                }
            }
            SchedulerToClient::Collision(collision) => {
                let Collision { key, kept, refused, .. } = collision;
                lines.push(format!("{name}: {key} is {kept}, not {refused}"));
            }
            SchedulerToClient::Reply(reply) => {
                let how = if reply.answer.error.is_empty() {
                    "an answer".to_string()
                } else {
                    reply.answer.error_kind.clone()
                };
                lines.push(format!("{name} gets {how}"));
                self.answers.insert(reply.id, reply.answer);
            }
            SchedulerToClient::Notice(notice) => lines.push(format!("{name}: {}", notice.message)),
            SchedulerToClient::ActorNews(news) => lines.push(self.news(&name, &news)),
            SchedulerToClient::Closing(_) => lines.push(format!("{name} sees the end")),
            SchedulerToClient::Event(news) => lines.push(format!("{name} hears {}", news.topic)),
        }
    }

    /// The number under which a key is watched, by all clients.
    pub fn watch(&mut self, key: &str) -> u64 {
        let known = self.watched.iter().position(|other| other == key);
        let number = known.unwrap_or_else(|| {
            self.watched.push(key.into());
            self.watched.len() - 1
        });
        number as u64
    }

    fn news(&self, name: &str, news: &ActorNews) -> String {
        let key = &self.watched[news.number as usize];
        let state = match news.state {
            ActorNews::ALIVE => format!("lives at {}", news.address),
            ActorNews::PENDING => "is being made".into(),
            ActorNews::MOVING => "moves".into(),
            _ => {
                let error = news.error.as_ref().map_or("", |error| &error.type_name);
                format!("is gone, {error}")
            }
        };
        format!("{name} hears: {key} {state}")
    }

    #[track_caller]
    fn ready(&self, client: ClientId, name: &str, ready: &KeyReady) -> String {
        let key = &self.handles[&(client, ready.handle)];
        if ready.value.is_some() {
            return format!("{name} has {key}");
        }
        let knows = self.introduced_to_clients.contains(&(client, ready.worker));
        assert!(knows, "a worker is named before it was introduced");
        format!("{name} finds {key} at {}", self.workers[&ready.worker])
    }
}
