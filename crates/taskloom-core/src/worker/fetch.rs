//! Inputs that other workers hold: whom to ask, for what, and what to do when they cannot give.

use super::planted::Fault;
use super::{Action, Worker};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use taskloom_proto::ErrorInfo;
use taskloom_proto::worker::{DepHolders, DepMissing, UnsentInput, WorkerToScheduler};
use taskloom_types::{Attempt, Nanos, Priority, TaskId, WorkerNo};

type Workers = SmallVec<[WorkerNo; 2]>;
type Queue = BinaryHeap<Reverse<(Priority, TaskId)>>;

/// An input that some run here needs and that is not here.
#[derive(Debug, Default)]
pub(super) struct FetchState {
    pub(super) stage: Stage,
    /// Workers that may have it and were not asked in vain.
    pub(super) holders: Workers,
    /// Workers asked in vain since the scheduler last said where it is.
    asked: Workers,
    /// One of those asked in vain said nothing for [`SILENCE`].
    is_silence: bool,
    size_bytes: u64,
    priority: Priority,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// Nobody is known to have it: the scheduler will say, or a run here will make it.
    #[default]
    Missing,
    /// In the queues of its holders.
    Wanted,
    /// This peer was asked.
    InFlight(WorkerNo),
}

/// Another worker, as far as fetching goes. One request at a time: its reply is large, and what
/// is wanted meanwhile goes into the next.
#[derive(Debug, Default)]
pub(super) struct Peer {
    address: String,
    queue: Queue,
    pub(super) in_flight: Option<Vec<TaskId>>,
    /// Of the request under way, by the sizes the scheduler told.
    in_flight_bytes: u64,
    /// When the request under way, or the last one, was made.
    asked_at: Nanos,
    /// Connection failures in a row.
    failures: u32,
    not_before: Nanos,
    /// It is forgotten when the request under way has ended.
    is_gone: bool,
}

/// How a peer answered for one task.
#[derive(Debug, Clone, PartialEq)]
pub enum FetchOutcome {
    /// The value is here; the shell has stored it, unless it had one before.
    Value { size_bytes: u64 },
    /// The peer does not have it.
    Missing,
    /// The peer has it and cannot serialize it.
    Failed(ErrorInfo),
}

/// The pause after the first connection failure; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: u64 = 10 * Nanos::MILLISECOND;
const MAX_PAUSE: u64 = Nanos::SECOND;
/// A request that fails as late as this is not refused by anybody: nobody answers.
const SILENCE: u64 = 5 * Nanos::SECOND;
/// Values asked for in one request.
const MAX_FETCH_ITEMS: usize = 4096;

impl Worker {
    /// Where a worker serves its data.
    pub fn on_peer(&mut self, peer: WorkerNo, address: String) {
        let peer = self.peers.entry(peer).or_default();
        (peer.address, peer.is_gone) = (address, false);
    }

    /// The scheduler has lost a worker, and names it no more. What it was to be asked for is asked
    /// for elsewhere. A request under way may still be answered, unless the worker was not seen to
    /// end (`is_silent`).
    pub fn on_peer_gone(&mut self, now: Nanos, number: WorkerNo, is_silent: bool) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.is_gone = true;
        let queued = std::mem::take(&mut peer.queue);
        let asked = if is_silent { self.take_in_flight(number) } else { Vec::new() };
        self.forget_if_gone(number);
        self.give_up_peer(number, asked, queued);
        self.start_fetches(now);
    }

    fn forget_if_gone(&mut self, number: WorkerNo) {
        let is_over = |peer: &Peer| peer.is_gone && peer.in_flight.is_none();
        if self.peers.get(&number).is_some_and(is_over) {
            self.peers.remove(&number);
        }
    }

    /// `number` gives neither what it was asked for nor what it was to be asked for.
    fn give_up_peer(&mut self, number: WorkerNo, asked: Vec<TaskId>, queued: Queue) {
        for task in asked {
            self.give_up_holder_in_flight(task, number);
        }
        for Reverse((_, dep)) in queued {
            if is_wanted_from(&self.tasks, dep, number) {
                self.give_up_holder(dep, number);
            }
        }
    }

    /// New places of an input, or its value.
    pub fn on_holders(&mut self, now: Nanos, news: DepHolders) {
        let Some(local) = self.tasks.get(&news.dep) else {
            self.counters.unknown_tasks += 1;
            return;
        };
        if local.data.is_some() || local.users == 0 {
            return;
        }
        match news.value {
            Some(value) => self.keep_inline(news.dep, value),
            None => self.renew_holders(news.dep, news.holders),
        }
        self.start_fetches(now);
    }

    fn renew_holders(&mut self, dep: TaskId, holders: Workers) {
        let Some(local) = self.tasks.get_mut(&dep) else { return };
        if let Some(fetch) = &mut local.fetch {
            fetch.asked.clear();
            fetch.is_silence = false;
        }
        if !holders.is_empty() {
            let fetch = local.fetch.as_ref();
            let (size, priority) =
                fetch.map_or_else(Default::default, |f| (f.size_bytes, f.priority));
            self.want(dep, holders, size, priority);
        }
    }

    /// A run here needs `dep`. Without holders it is made here, or the scheduler is asked.
    pub(super) fn want(
        &mut self,
        dep: TaskId,
        holders: Workers,
        size_bytes: u64,
        priority: Priority,
    ) {
        let Some(local) = self.tasks.get_mut(&dep) else { return };
        if holders.is_empty() {
            if local.run.is_none() && local.fetch.is_none() {
                self.report_missing(dep);
            }
            return;
        }
        let fetch = local
            .fetch
            .get_or_insert_with(|| Box::new(FetchState { priority, ..FetchState::default() }));
        fetch.size_bytes = fetch.size_bytes.max(size_bytes);
        let more_urgent = priority < fetch.priority;
        fetch.priority = fetch.priority.min(priority);
        for holder in holders {
            let peer = self.peers.get_mut(&holder).filter(|peer| !peer.is_gone);
            let list = if peer.is_some() { &mut fetch.holders } else { &mut fetch.asked };
            if !list.contains(&holder) {
                list.push(holder);
                if fetch.stage == Stage::Wanted
                    && !more_urgent
                    && let Some(peer) = peer
                {
                    peer.queue.push(Reverse((priority, dep)));
                }
            }
        }
        match fetch.stage {
            Stage::Missing => self.queue_or_report(dep),
            Stage::Wanted if more_urgent => self.queue_or_report(dep),
            Stage::Wanted | Stage::InFlight(_) => {}
        }
    }

    /// Puts an input into the queues of its holders, or tells the scheduler that there are none.
    fn queue_or_report(&mut self, dep: TaskId) {
        let Some(local) = self.tasks.get_mut(&dep) else { return };
        let Some(fetch) = &mut local.fetch else { return };
        let entry = Reverse((fetch.priority, dep));
        for holder in std::mem::take(&mut fetch.holders) {
            match self.peers.get_mut(&holder).filter(|peer| !peer.is_gone) {
                Some(peer) => {
                    peer.queue.push(entry);
                    fetch.holders.push(holder);
                }
                None => fetch.asked.push(holder),
            }
        }
        if !fetch.holders.is_empty() {
            fetch.stage = Stage::Wanted;
        } else if local.run.is_some() {
            local.fetch = None;
            if self.has(Fault::FailedFetchDropsRun) {
                self.take_back_run(dep);
            }
        } else {
            self.report_missing(dep);
        }
    }

    /// Tells the scheduler that an input is nowhere to be had.
    fn report_missing(&mut self, dep: TaskId) {
        self.decline(dep, "none of its holders could give it");
        let Some(local) = self.tasks.get_mut(&dep).filter(|local| local.users > 0) else { return };
        let fetch = local.fetch.get_or_insert_default();
        fetch.stage = Stage::Missing;
        let asked = std::mem::take(&mut fetch.asked);
        let is_silence = std::mem::take(&mut fetch.is_silence);
        self.send(WorkerToScheduler::DepMissing(DepMissing { dep, asked, is_silence }));
    }

    /// A task's run here is gone without a value. Runs that waited for it wait on; the scheduler
    /// is asked (`ask`) where the value will come from, unless it knows.
    pub(super) fn orphan_waiters(&mut self, task: TaskId, ask: bool) {
        self.forget_if_idle(task);
        let Some(local) = self.tasks.get_mut(&task) else { return };
        if local.data.is_some() || local.run.is_some() || local.users == 0 {
            return;
        }
        if local.fetch.is_some() {
            return;
        }
        if ask {
            self.report_missing(task);
        } else {
            local.fetch = Some(Box::default());
        }
    }

    /// Asks idle peers for what is wanted from them, best priority first.
    pub(super) fn start_fetches(&mut self, now: Nanos) {
        self.fetch_deadline = None;
        let (mut busy, mut coming_bytes) = (0, 0u64);
        let mut candidates: SmallVec<[(Priority, WorkerNo); 8]> = SmallVec::new();
        for (number, peer) in &mut self.peers {
            if peer.in_flight.is_some() {
                busy += 1;
                coming_bytes = coming_bytes.saturating_add(peer.in_flight_bytes);
                continue;
            }
            while peer
                .queue
                .peek()
                .is_some_and(|Reverse((_, dep))| !is_wanted_from(&self.tasks, *dep, *number))
            {
                peer.queue.pop();
            }
            let Some(Reverse((priority, _))) = peer.queue.peek() else { continue };
            if peer.not_before > now {
                let earliest =
                    self.fetch_deadline.map_or(peer.not_before, |d| d.min(peer.not_before));
                self.fetch_deadline = Some(earliest);
                continue;
            }
            candidates.push((*priority, *number));
        }
        candidates.sort_unstable();
        for (_, peer) in candidates.into_iter().take(self.config.max_peers.saturating_sub(busy)) {
            // What is on its way has no place yet. The next answer brings us here again.
            if coming_bytes >= self.config.max_coming_bytes {
                return;
            }
            coming_bytes = coming_bytes.saturating_add(self.ask(now, peer));
        }
    }

    /// Asks one peer; for how many bytes.
    fn ask(&mut self, now: Nanos, number: WorkerNo) -> u64 {
        let Some(peer) = self.peers.get_mut(&number) else { return 0 };
        let mut tasks = Vec::new();
        let mut bytes = 0u64;
        while let Some(Reverse((_, dep))) = peer.queue.peek().copied() {
            if !is_wanted_from(&self.tasks, dep, number) {
                peer.queue.pop();
                continue;
            }
            let Some(fetch) = self.tasks.get_mut(&dep).and_then(|t| t.fetch.as_mut()) else {
                break;
            };
            let full = bytes.saturating_add(fetch.size_bytes) > self.config.max_fetch_bytes;
            if !tasks.is_empty() && (full || tasks.len() >= MAX_FETCH_ITEMS) {
                break;
            }
            peer.queue.pop();
            bytes = bytes.saturating_add(fetch.size_bytes);
            fetch.stage = Stage::InFlight(number);
            tasks.push(dep);
        }
        if tasks.is_empty() {
            return 0;
        }
        peer.in_flight = Some(tasks.clone());
        (peer.in_flight_bytes, peer.asked_at) = (bytes, now);
        let address = peer.address.clone();
        self.actions.push(Action::Fetch { peer: number, address, tasks });
        bytes
    }

    /// A peer answered. The shell has stored the values that came.
    pub fn on_fetch_done(
        &mut self,
        now: Nanos,
        peer: WorkerNo,
        items: Vec<(TaskId, FetchOutcome)>,
    ) {
        let asked = self.take_in_flight(peer);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.failures = 0;
        }
        self.forget_if_gone(peer);
        let mut fetched = Vec::new();
        for (task, outcome) in items {
            if self.has(Fault::AnswerCutShort)
                && self.tasks.get(&task).is_none_or(|local| local.users == 0)
            {
                return;
            }
            match outcome {
                FetchOutcome::Value { size_bytes } => {
                    if self.take_fetched(task, size_bytes) {
                        fetched.push(task);
                    }
                }
                FetchOutcome::Missing => self.give_up_holder_in_flight(task, peer),
                FetchOutcome::Failed(error) => self.fail_waiters(task, peer, &error),
            }
        }
        if !fetched.is_empty() {
            self.send(WorkerToScheduler::Fetched(fetched));
        }
        // What the answer left out.
        for task in asked {
            self.give_up_holder_in_flight(task, peer);
        }
        self.heed_alarm();
        self.start_fetches(now);
    }

    /// A peer could not be reached, or broke off. Nothing more is asked of it for a while, so
    /// that a scheduler that still believes in it does not make the two of us go round in circles.
    pub fn on_fetch_failed(&mut self, now: Nanos, peer: WorkerNo) {
        let asked = self.take_in_flight(peer);
        let (mut queued, mut is_silence) = (Queue::new(), false);
        if let Some(peer) = self.peers.get_mut(&peer) {
            is_silence = now.since(peer.asked_at) >= SILENCE;
            let pause = (FIRST_PAUSE << peer.failures.min(7)).min(MAX_PAUSE);
            peer.failures = peer.failures.saturating_add(1);
            peer.not_before = now.after(pause);
            queued = std::mem::take(&mut peer.queue);
        }
        if self.has(Fault::LostPeerWaitedFor) {
            return;
        }
        self.forget_if_gone(peer);
        for task in asked.iter().filter(|_| is_silence) {
            if let Some(fetch) = self.tasks.get_mut(task).and_then(|local| local.fetch.as_mut()) {
                fetch.is_silence |= fetch.stage == Stage::InFlight(peer);
            }
        }
        self.give_up_peer(peer, asked, queued);
        self.start_fetches(now);
    }

    /// Pauses of peers may be over.
    pub fn on_tick(&mut self, now: Nanos) {
        if self.fetch_deadline.is_some_and(|deadline| deadline <= now) {
            self.start_fetches(now);
        }
        self.pass_limits(now);
    }

    fn take_in_flight(&mut self, peer: WorkerNo) -> Vec<TaskId> {
        self.peers.get_mut(&peer).and_then(|p| p.in_flight.take()).unwrap_or_default()
    }

    /// A fetched value came. True: it is kept as a replica and the scheduler is to be told.
    fn take_fetched(&mut self, task: TaskId, size_bytes: u64) -> bool {
        let local = self.tasks.get(&task);
        if local.is_some_and(|t| t.data.is_some()) {
            // The shell kept the older value.
            return false;
        }
        if self.finish_unstarted(task, size_bytes) {
            self.value_is_here(task, size_bytes, true);
            return false;
        }
        let Some(local) = self.tasks.get(&task).filter(|t| t.users > 0) else {
            self.counters.unwanted_values += 1;
            self.actions.push(Action::DropValue(task));
            self.forget_if_idle(task);
            return false;
        };
        // While a run of the task executes here, its own report will tell the scheduler.
        let report = local.run.is_none();
        self.value_is_here(task, size_bytes, report);
        if let Some(data) = self.tasks.get_mut(&task).and_then(|t| t.data.as_mut()) {
            data.is_spare = data.reported;
        }
        if self.has(Fault::ReplicaReplacesRun)
            && let Some(local) = self.tasks.get_mut(&task)
        {
            local.run = None;
        }
        report
    }

    fn give_up_holder_in_flight(&mut self, dep: TaskId, peer: WorkerNo) {
        let fetch = self.tasks.get(&dep).and_then(|t| t.fetch.as_ref());
        if fetch.is_some_and(|f| f.stage == Stage::InFlight(peer)) {
            self.give_up_holder(dep, peer);
        }
    }

    /// `peer` cannot give `dep`: asks another holder, or else the scheduler.
    fn give_up_holder(&mut self, dep: TaskId, peer: WorkerNo) {
        let tries_others = !self.has(Fault::OtherReplicasUntried);
        let Some(local) = self.tasks.get_mut(&dep) else { return };
        let Some(fetch) = &mut local.fetch else { return };
        fetch.holders.retain(|holder| *holder != peer);
        fetch.asked.push(peer);
        if !tries_others && !fetch.holders.is_empty() {
            fetch.holders.clear();
            fetch.stage = Stage::Missing;
            return;
        }
        self.queue_or_report(dep);
    }

    /// A holder has the value and cannot send it: those who wait for it can only run there.
    fn fail_waiters(&mut self, dep: TaskId, peer: WorkerNo, error: &ErrorInfo) {
        let Some(local) = self.tasks.get_mut(&dep) else { return };
        let in_flight = local.fetch.as_ref().is_some_and(|f| f.stage == Stage::InFlight(peer));
        if !in_flight || local.data.is_some() {
            return;
        }
        let waiters = std::mem::take(&mut local.waiters);
        self.decline(dep, &error.message);
        for (task, serial) in waiters {
            let Some(attempt) = self.attempt_of(task, serial) else { continue };
            self.take_back_run(task);
            let unsent = UnsentInput { task, attempt, holder: peer, error: error.clone() };
            self.send(WorkerToScheduler::Unsent(unsent));
            self.orphan_waiters(task, true);
        }
    }

    /// # Errors
    /// A worker that is gone is kept, or would be asked.
    pub(super) fn validate_peers(&self) -> Result<(), String> {
        let is_wrong = |(_, peer): &(&WorkerNo, &Peer)| {
            peer.is_gone && (peer.in_flight.is_none() || !peer.queue.is_empty())
        };
        let wrong = self.peers.iter().find(is_wrong);
        wrong.map_or(Ok(()), |(number, peer)| Err(format!("worker {number} is gone: {peer:?}")))
    }

    pub(super) fn is_queued(&self, dep: TaskId, peer: WorkerNo) -> bool {
        let queue = self.peers.get(&peer).map(|p| &p.queue);
        queue.is_some_and(|queue| queue.iter().any(|Reverse((_, task))| *task == dep))
    }

    fn attempt_of(&self, task: TaskId, serial: u64) -> Option<Attempt> {
        let run = self.tasks.get(&task)?.run.as_ref()?;
        (run.serial == serial).then_some(run.attempt)
    }
}

/// Whether `dep` is still to be fetched and `peer` may have it.
fn is_wanted_from(
    tasks: &super::Map<TaskId, super::LocalTask>,
    dep: TaskId,
    peer: WorkerNo,
) -> bool {
    let fetch = tasks.get(&dep).and_then(|t| t.fetch.as_ref());
    fetch.is_some_and(|f| f.stage == Stage::Wanted && f.holders.contains(&peer))
}
