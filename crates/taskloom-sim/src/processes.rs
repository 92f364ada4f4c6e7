//! Worker processes: their start, their threads, their transfers and their end.

use crate::agenda::Happening;
use crate::broken::{Broken, Checked};
use crate::worker::{Effect, INLINE_BYTES, SimWorker, Thread};
use crate::workload::Behaviour;
use crate::world::{TTL_NS, World};
use bytes::Bytes;
use taskloom_core::scheduler::Event;
use taskloom_core::worker::{FetchOutcome, Interrupt};
use taskloom_proto::actor::{ActorLife, ActorSnapshot};
use taskloom_proto::client::Closing;
use taskloom_proto::hand_over::ActorHandedOver;
use taskloom_proto::rejoin::Named;
use taskloom_proto::supervisor::{SchedulerToSupervisor, SupervisorToScheduler, WorkerExited};
use taskloom_proto::worker::{
    Heartbeat, RegisterWorker, RunDone, SchedulerToWorker, TaskDone, WorkerToScheduler,
};
use taskloom_proto::{ErrorInfo, ExitKind, ExitReason, SmallBytes};
use taskloom_types::{Amount, Attempt, Nanos, Resources, TaskId, WorkerNo};

enum Ends {
    Returns,
    Raises,
    Reschedules,
    Kills,
}

impl World {
    pub fn alive(&mut self, number: WorkerNo) -> Option<&mut SimWorker> {
        self.workers.get_mut(&number).filter(|worker| worker.alive)
    }

    pub fn number_of(&self, name: u64) -> Option<WorkerNo> {
        let is_it = |worker: &&SimWorker| worker.alive && worker.name == name;
        self.workers.values().find(is_it).map(|worker| worker.number)
    }

    pub fn start_worker(&mut self, name: u64) {
        if self.number_of(name).is_some() {
            return;
        }
        self.last_number += 1;
        let number = WorkerNo(self.last_number);
        let nthreads = self.rng.between(1, 3) as usize;
        let memory = self.memory.limits.unwrap_or_default();
        let mut worker = SimWorker::new(
            number,
            name,
            nthreads,
            memory,
            #[cfg(feature = "planted")]
            self.settings.planted,
        );
        worker.epoch = self.scheduler.epoch();
        let register = self.registration(&worker);
        self.workers.insert(number, worker);
        self.from_worker(number, WorkerToScheduler::Register(register));
        if self.heartbeats {
            self.agenda.after_us(1, Happening::Heartbeat(number));
        }
    }

    pub fn registration(&self, worker: &SimWorker) -> RegisterWorker {
        let gpus = if worker.name == 0 { 1.0 } else { 0.0 };
        let resources = Amount::from_f64(gpus).filter(|amount| amount.0 > 0);
        let memory = self.memory.limits.unwrap_or_default();
        RegisterWorker {
            name: format!("worker-{}", worker.name),
            address: worker.address(),
            nthreads: worker.nthreads as u32,
            memory_limit: memory.limit_bytes,
            target_bytes: memory.target_bytes,
            pause_bytes: memory.pause_bytes,
            resources: Resources::new(
                resources.map(|amount| ("GPU".to_string(), amount)).into_iter().collect(),
            ),
            pid: worker.pid,
            supervised: self.supervised,
            ..RegisterWorker::default()
        }
    }

    pub fn heartbeat(&mut self, number: WorkerNo) {
        let Some(worker) = self.alive(number) else { return };
        let executing = worker.rules.executing().map(|(task, attempt, _)| (task, attempt, 0));
        let heartbeat = Heartbeat { executing: executing.collect(), ..Heartbeat::default() };
        self.from_worker(number, WorkerToScheduler::Heartbeat(heartbeat));
        let at = self.agenda.now.after(TTL_NS / 5);
        self.agenda.put(at, Happening::Heartbeat(number));
    }

    /// The process stops, and goes on after a while as if nothing had been.
    pub fn pause(&mut self, number: WorkerNo, until: Nanos) {
        let now = self.agenda.now;
        let Some(worker) = self.alive(number).filter(|worker| worker.paused_until <= now) else {
            return;
        };
        worker.paused_until = until;
        self.disturb(number, until);
        self.report.worker_pauses += 1;
    }

    /// The process is killed; now and then it says before that it stops.
    pub fn kill_in_its_sleep(&mut self, number: WorkerNo) {
        if self.rng.chance(15) {
            let closing = Closing { reason: "told to".into() };
            self.from_worker(number, WorkerToScheduler::Closing(closing));
        }
        self.kill(number, ExitKind::Signalled(9));
    }

    pub fn supervisor_acts(&mut self, message: SchedulerToSupervisor) {
        let (SchedulerToSupervisor::RestartWorker(worker)
        | SchedulerToSupervisor::StopWorker(worker)) = message
        else {
            return;
        };
        let name = worker.name.strip_prefix("worker-").and_then(|name| name.parse().ok());
        if let Some(number) = name.and_then(|name| self.number_of(name)) {
            self.kill(number, ExitKind::Requested);
        }
    }

    /// The scheduler closes the connection. A process that is stopped or that hears nothing notices
    /// later; what it says until then comes from a session that is over.
    ///
    /// # Errors
    /// The worker was given up although nothing was wrong with it.
    pub fn cut_off(&mut self, number: WorkerNo, why: &str) -> Checked {
        let now = self.agenda.now;
        let deaf_until = self.network.deaf_until(number);
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let is_double = why.starts_with("a worker named");
        if !is_double && worker.disturbed_until < now {
            return Err(Broken::new("I6", format!("healthy worker {number} was given up: {why}")));
        }
        self.thaw(number);
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let notices_at = worker.paused_until.max(deaf_until);
        if notices_at <= now {
            self.kill(number, ExitKind::Unknown);
            return Ok(());
        }
        let at = notices_at.after(2 * Nanos::MILLISECOND);
        self.agenda.put(at, Happening::WorkerNotices(number));
        Ok(())
    }

    /// A process that was given up goes on after a while, if it was stopped till then.
    pub fn thaw(&mut self, number: WorkerNo) {
        let now = self.agenda.now;
        let soon_ms = self.rng.between(5, 250);
        let Some(worker) = self.alive(number).filter(|worker| worker.is_frozen()) else { return };
        let goes_on_at = now.after(soon_ms * Nanos::MILLISECOND);
        worker.paused_until = goes_on_at;
        for planned in std::mem::take(&mut worker.parked) {
            self.agenda.put_off(goes_on_at, planned);
        }
    }

    /// The process is gone. What it had sent may still arrive; then its connection is seen to
    /// close, and its supervisor reports, in any order, or never.
    pub fn kill(&mut self, number: WorkerNo, kind: ExitKind) {
        let Some(worker) = self.alive(number) else { return };
        worker.alive = false;
        worker.outbox.clear();
        worker.parked.clear();
        let (name, pid) = (worker.name, worker.pid);
        let executing: Vec<(TaskId, Attempt)> = worker.threads.keys().copied().collect();
        worker.threads.clear();
        worker.values.clear();
        worker.on_disk.clear();
        self.report.worker_deaths += 1;
        if kind != ExitKind::Requested {
            self.ledger.violent_deaths += 1;
        }
        let left = Event::WorkerLeft { worker: number };
        self.send((1, number.0.into()), Happening::ToScheduler(left));
        if self.supervised && self.rng.chance(85) {
            let exited = WorkerExited {
                name: format!("worker-{name}"),
                pid,
                reason: ExitReason { kind, ..ExitReason::default() },
                executing,
                restarting: true,
            };
            let message = SupervisorToScheduler::WorkerExited(exited);
            let event = Event::SupervisorMessage { supervisor: self.supervisor, message };
            let delay = self.rng.below(5_000);
            self.agenda.after_us(delay, Happening::ToScheduler(event));
        }
        let delay = 5_000 + self.rng.below(30_000);
        self.agenda.after_us(delay, Happening::WorkerStarts(name));
    }

    pub fn to_worker(&mut self, number: WorkerNo, message: SchedulerToWorker) -> Checked {
        let now = self.agenda.now;
        if self.network.is_broken(number) {
            return Ok(());
        }
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let effects = worker.on_message(now, message)?;
        self.carry_out(number, effects)
    }

    /// Carries out effects, lets threads start what is ready, and checks the worker.
    pub fn carry_out(&mut self, number: WorkerNo, effects: Vec<Effect>) -> Checked {
        for effect in effects {
            match effect {
                Effect::Send(message) => {
                    self.notice_pause(number, &message);
                    self.from_worker(number, message);
                }
                Effect::Fetch { peer, tasks } => {
                    let lane = (4, (u64::from(number.0) << 32) | u64::from(peer.0));
                    self.send(lane, Happening::PeerAnswers { asker: number, peer, tasks });
                }
                Effect::ReportDone { task, attempt, size_bytes } => {
                    self.report_done(number, task, attempt, size_bytes, 1);
                }
                Effect::Interrupt { task, attempt, why } => {
                    // A moment passes before the thread meets it, or ends by itself.
                    let soon = self.rng.below(500);
                    let interrupted = Happening::Interrupted(number, task, attempt, why);
                    self.agenda.after_us(soon, interrupted);
                }
                Effect::Called { request } => {
                    let done = RunDone { request, ok: true, payload: bytes::Bytes::new() };
                    self.from_worker(number, WorkerToScheduler::RunDone(done));
                }
                Effect::Write { task, ticket } => self.begin_write(number, task, ticket),
                Effect::Read { task, ticket } => self.begin_read(number, task, ticket),
                Effect::HandOver(actor) => self.hand_over(number, actor)?,
                Effect::Closed => {
                    self.kill(number, ExitKind::Requested);
                    return Ok(());
                }
            }
        }
        let now = self.agenda.now;
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let started = worker.start_runs(now)?;
        // The shell's timer.
        let tick_at = worker.rules.next_deadline().filter(|_| worker.tick_at.is_none());
        let tick_at = tick_at.map(|at| Nanos(at.0.saturating_sub(worker.ahead_ns)));
        worker.tick_at = worker.tick_at.or(tick_at);
        worker.rules.validate().map_err(|what| format!("worker {number}: {what}"))?;
        worker.check_resources()?;
        let later = worker.effects();
        for thread in started {
            self.ledger.on_start(&thread)?;
            self.thread_started(number, &thread);
        }
        if let Some(at) = tick_at {
            self.agenda.put(at.max(now), Happening::WorkerTick(number));
        }
        if later.is_empty() { Ok(()) } else { self.carry_out(number, later) }
    }

    fn thread_started(&mut self, number: WorkerNo, thread: &Thread) {
        self.write_log(number, thread.run.task, thread.run.attempt);
        let (task, attempt) = (thread.run.task, thread.run.attempt);
        let duration = u64::from(thread.call.duration_us);
        if matches!(thread.call.behaviour, Behaviour::Hang | Behaviour::Stuck) {
            return;
        }
        if thread.call.behaviour == Behaviour::Secede {
            self.agenda.after_us(duration / 2, Happening::ThreadHalf(number, task, attempt));
        } else {
            self.agenda.after_us(duration, Happening::ThreadDone(number, task, attempt));
        }
    }

    pub fn secede(&mut self, number: WorkerNo, task: TaskId, attempt: Attempt) -> Checked {
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let Some(thread) = worker.threads.get_mut(&(task, attempt)) else { return Ok(()) };
        thread.seceded = true;
        worker.rules.on_seceded(task, attempt);
        let effects = worker.effects();
        let away = self.rng.below(3_000);
        self.agenda.after_us(away, Happening::ThreadBack(number, task, attempt));
        self.carry_out(number, effects)
    }

    pub fn rejoin(&mut self, number: WorkerNo, task: TaskId, attempt: Attempt) -> Checked {
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let Some(thread) = worker.threads.get_mut(&(task, attempt)) else { return Ok(()) };
        thread.seceded = false;
        worker.rules.on_rejoined(task, attempt);
        let effects = worker.effects();
        self.agenda.after_us(1, Happening::ThreadDone(number, task, attempt));
        self.carry_out(number, effects)
    }

    /// How a run ends, by what was planted in it and by how often it has happened.
    fn end_of(&mut self, thread: &Thread) -> Ends {
        let count = self.planted.entry(thread.call.identity).or_default();
        let is_due = |limit: u8| *count < limit;
        let ends = match thread.call.behaviour {
            Behaviour::RaiseFirst(n) if is_due(n) => Ends::Raises,
            Behaviour::RaiseAlways => Ends::Raises,
            Behaviour::KillFirst(n) if is_due(n) => Ends::Kills,
            Behaviour::KillAlways => Ends::Kills,
            Behaviour::RescheduleOnce if is_due(1) => Ends::Reschedules,
            _ => Ends::Returns,
        };
        if !matches!(ends, Ends::Returns) {
            *count = count.saturating_add(1);
        }
        ends
    }

    pub fn thread_done(&mut self, number: WorkerNo, task: TaskId, attempt: Attempt) -> Checked {
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let Some(thread) = worker.threads.get(&(task, attempt)).cloned() else { return Ok(()) };
        let ends = self.end_of(&thread);
        if matches!(ends, Ends::Kills) {
            self.ledger.on_kill(&thread)?;
            self.kill(number, ExitKind::Signalled(11));
            return Ok(());
        }
        if matches!(ends, Ends::Raises) {
            self.ledger.on_raise(&thread)?;
        }
        let Some(worker) = self.alive(number) else { return Ok(()) };
        worker.threads.remove(&(task, attempt));
        let duration_ns = u64::from(thread.call.duration_us) * 1_000;
        match ends {
            Ends::Raises => {
                let error = ErrorInfo { type_name: "Planted".into(), ..ErrorInfo::default() };
                worker.rules.on_erred(task, attempt, duration_ns, error);
            }
            Ends::Reschedules => worker.rules.on_rescheduled(task, attempt),
            Ends::Returns | Ends::Kills => {
                let value = thread.call.value(thread.inputs.iter().copied());
                let size_bytes = thread.call.size_bytes;
                if worker.rules.on_finished(task, attempt, size_bytes, duration_ns) {
                    worker.keep(task, value);
                    if let Some(state) = thread.call.snapshot(value) {
                        let actor = ActorLife { task, attempt };
                        let state = Bytes::copy_from_slice(&state);
                        worker.saved.insert(task, (attempt, state.clone()));
                        let snapshot = ActorSnapshot { actor, number: 1, state };
                        self.from_worker(number, WorkerToScheduler::ActorSnapshot(snapshot));
                    }
                    self.report_done(number, task, attempt, size_bytes, duration_ns);
                }
            }
        }
        let effects = self.alive(number).map(SimWorker::effects).unwrap_or_default();
        self.carry_out(number, effects)
    }

    /// An exception meets a run. One that is stuck does not notice.
    pub fn interrupted(
        &mut self,
        number: WorkerNo,
        task: TaskId,
        attempt: Attempt,
        why: Interrupt,
    ) -> Checked {
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let Some(thread) = worker.threads.get(&(task, attempt)) else { return Ok(()) };
        if why == Interrupt::Cancelled && !thread.abandoned {
            let what = format!("{} is interrupted although somebody wants it", thread.run.key);
            return Err(Broken::new("I5", what));
        }
        if thread.call.behaviour == Behaviour::Stuck {
            return Ok(());
        }
        worker.threads.remove(&(task, attempt));
        let types = ["taskloom.errors.TaskTimeout", "builtins.TimeoutError"];
        let error = ErrorInfo {
            type_name: "TaskTimeout".into(),
            types: types.map(String::from).to_vec(),
            ..ErrorInfo::default()
        };
        worker.rules.on_erred(task, attempt, 1, error);
        let effects = worker.effects();
        self.report.interrupted += 1;
        self.carry_out(number, effects)
    }

    /// Gives an actor's last state, says that there is none, or never says anything.
    fn hand_over(&mut self, number: WorkerNo, actor: ActorLife) -> Checked {
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let saved = worker.saved.get(&actor.task).filter(|(of, _)| *of == actor.attempt);
        let Some((_, state)) = saved.cloned() else {
            let what =
                format!("worker {number} is to hand over {}, which is not there", actor.task);
            return Err(Broken::new("I6", what));
        };
        let (state, error) = match self.rng.below(10) {
            0 => return Ok(()),
            1 => (Bytes::new(), "planted".to_string()),
            _ => (state, String::new()),
        };
        let last = ActorHandedOver { actor, state, error };
        self.from_worker(number, WorkerToScheduler::ActorHandedOver(last));
        Ok(())
    }

    fn report_done(
        &mut self,
        number: WorkerNo,
        task: TaskId,
        attempt: Attempt,
        size_bytes: u64,
        duration_ns: u64,
    ) {
        let value = self.workers.get(&number).and_then(|worker| worker.values.get(&task));
        let value = value
            .filter(|_| size_bytes <= INLINE_BYTES)
            .map(|value| SmallBytes::copy_of(&value.to_le_bytes()));
        let done = TaskDone { task, attempt, size_bytes, duration_ns, value };
        let soon_us = self.rng.below(200);
        let is_now = self.rng.chance(40);
        let Some(worker) = self.alive(number) else { return };
        worker.outbox.push(done);
        if is_now {
            self.flush_worker(number);
        } else {
            self.agenda.after_us(soon_us, Happening::WorkerFlushes(number));
        }
    }

    /// The results that a worker has gathered leave it in one message.
    pub fn flush_worker(&mut self, number: WorkerNo) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        let batch = std::mem::take(&mut worker.outbox);
        if !batch.is_empty() {
            self.send_from_worker(number, WorkerToScheduler::Done(batch));
        }
    }

    /// A peer reads what it is asked for, and sends it.
    pub fn peer_answers(&mut self, asker: WorkerNo, peer: WorkerNo, tasks: Vec<TaskId>) -> Checked {
        let now = self.agenda.now;
        let is_cut = (self.faults && self.rng.chance(self.cut_percent))
            || self.network.are_parted(now, asker, peer);
        if is_cut || self.alive(peer).is_none() {
            return self.peer_fails(asker, peer);
        }
        let mut items = Vec::new();
        for task in tasks {
            items.push((task, self.serve(peer, task)?));
        }
        let travel_us = match self.rng.below(20) {
            0 if self.trouble.slow_transfers => self.rng.below(200_000),
            1..=4 if self.trouble.slow_transfers => self.rng.below(20_000),
            _ => return self.peer_gives(asker, peer, items),
        };
        self.agenda.after_us(travel_us, Happening::PeerGives { asker, peer, items });
        Ok(())
    }

    /// What a peer sent arrives, unless the peer died meanwhile and the connection with it.
    pub fn peer_gives(
        &mut self,
        asker: WorkerNo,
        peer: WorkerNo,
        items: Vec<(TaskId, Option<u64>)>,
    ) -> Checked {
        let is_dead = self.workers.get(&peer).is_none_or(|peer| !peer.alive);
        if is_dead && self.rng.chance(50) {
            return self.peer_fails(asker, peer);
        }
        let now = self.agenda.now;
        let Some(worker) = self.alive(asker) else { return Ok(()) };
        let mut outcomes = Vec::new();
        for (task, value) in items {
            let outcome = match value {
                Some(value) => {
                    if !worker.on_disk.contains_key(&task) {
                        worker.values.entry(task).or_insert(value);
                    }
                    FetchOutcome::Value { size_bytes: 1 << 12 }
                }
                None => FetchOutcome::Missing,
            };
            outcomes.push((task, outcome));
        }
        worker.rules.on_fetch_done(worker.clock(now), peer, outcomes);
        let effects = worker.effects();
        self.carry_out(asker, effects)
    }

    /// The connection to a peer breaks, or it has not answered for too long.
    pub fn peer_fails(&mut self, asker: WorkerNo, peer: WorkerNo) -> Checked {
        let now = self.agenda.now;
        let Some(worker) = self.alive(asker) else { return Ok(()) };
        worker.rules.on_fetch_failed(worker.clock(now), peer);
        let effects = worker.effects();
        self.carry_out(asker, effects)
    }

    pub fn worker_tick(&mut self, number: WorkerNo) -> Checked {
        let now = self.agenda.now;
        let Some(worker) = self.alive(number) else { return Ok(()) };
        worker.tick_at = None;
        worker.rules.on_tick(worker.clock(now));
        let effects = worker.effects();
        self.carry_out(number, effects)
    }

    /// A client's value arrives. Returns whether somebody was there to take it.
    ///
    /// # Errors
    /// The worker breaks an invariant by it.
    pub fn store(&mut self, number: WorkerNo, named: Named, value: u64) -> Checked<bool> {
        const SIZE_BYTES: u64 = 1 << 13;
        let Some(worker) = self.alive(number) else { return Ok(false) };
        worker.keep(named.task, value);
        worker.rules.on_stored(named, SIZE_BYTES);
        let effects = worker.effects();
        self.carry_out(number, effects)?;
        Ok(true)
    }
}
