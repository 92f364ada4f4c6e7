//! Submissions: tasks come in batches, keys and functions are interned, collisions are told.

use super::clients::{ClientRecord, OpenSubmission};
use super::offers;
use super::planted::Fault;
use super::task::{Kind, State, Want, mark};
use super::transitions::{DropReason, Step, dropped_error};
use super::worker_table::WorkerSlot;
use super::{Map, Scheduler, Set};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use taskloom_proto::client::{
    Collision, RegisterFunction, SchedulerToClient, SubmitBatch, TaskSpec,
};
use taskloom_proto::worker::SchedulerToWorker;
use taskloom_proto::{ErrorInfo, TaskOptions};
use taskloom_types::{
    ClientId, FunctionId, FunctionNo, Generation, Handle, Key, Priority, Resources, TaskId,
};

/// Orders beyond it count as equal: sums of orders must not overflow.
const MAX_ORDER: u64 = 1 << 40;

/// A function that clients registered. The scheduler never looks into the payload.
#[derive(Debug)]
pub struct FunctionRecord {
    pub id: FunctionId,
    pub name: String,
    pub payload: Bytes,
    /// Clients that believe that the scheduler has it.
    clients: u32,
    /// Live tasks that use it.
    tasks: u32,
    /// Workers that were sent it.
    holders: Vec<WorkerSlot>,
}

/// Functions by id and by number. One that no client and no task refers to is dropped.
#[derive(Debug, Default)]
pub struct FunctionTable {
    by_id: Map<FunctionId, FunctionNo>,
    records: Map<FunctionNo, FunctionRecord>,
    last: u32,
}

impl FunctionTable {
    pub fn get(&self, number: FunctionNo) -> Option<&FunctionRecord> {
        self.records.get(&number)
    }

    /// The function, to be sent to a worker that has it from then on.
    pub fn get_for(&mut self, number: FunctionNo, worker: WorkerSlot) -> Option<&FunctionRecord> {
        let record = self.records.get_mut(&number)?;
        record.holders.push(worker);
        Some(record)
    }

    /// A worker that was sent these is gone.
    pub fn lose_holder(&mut self, numbers: &Set<FunctionNo>, worker: WorkerSlot) {
        for number in numbers {
            let Some(record) = self.records.get_mut(number) else { continue };
            if let Some(at) = record.holders.iter().position(|holder| *holder == worker) {
                record.holders.swap_remove(at);
            }
        }
    }

    /// Every function with every worker that was sent it.
    pub fn holdings(&self) -> impl Iterator<Item = (FunctionNo, WorkerSlot)> {
        let records = self.records.iter();
        records.flat_map(|(number, record)| record.holders.iter().map(|slot| (*number, *slot)))
    }

    fn insert(&mut self, function: RegisterFunction) -> FunctionNo {
        if let Some(number) = self.by_id.get(&function.id) {
            return *number;
        }
        self.last += 1;
        let number = FunctionNo(self.last);
        self.by_id.insert(function.id, number);
        let RegisterFunction { id, name, payload } = function;
        let record = FunctionRecord { id, name, payload, clients: 0, tasks: 0, holders: vec![] };
        self.records.insert(number, record);
        number
    }

    /// Changes the counts; returns the function if it is gone by that.
    fn count(&mut self, number: FunctionNo, clients: i32, tasks: i32) -> Option<FunctionRecord> {
        let record = self.records.get_mut(&number)?;
        record.clients = record.clients.saturating_add_signed(clients);
        record.tasks = record.tasks.saturating_add_signed(tasks);
        if record.clients > 0 || record.tasks > 0 {
            return None;
        }
        self.by_id.remove(&record.id);
        self.records.remove(&number)
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }
}

/// A batch's tables, interned and kept while it is applied.
struct Interned {
    functions: Vec<Option<FunctionNo>>,
    prefixes: Vec<u32>,
    classes: Vec<u32>,
    policies: Vec<u32>,
}

/// What the key of a spec leads to.
enum Found {
    /// A new task was made.
    New(u32),
    /// The key's task does the same work.
    Same(u32),
    /// The key's task does other work, and somebody holds or needs it.
    Other(u32),
}

impl Scheduler {
    pub(super) fn on_register_function(&mut self, client: ClientId, function: RegisterFunction) {
        let number = self.functions.insert(function);
        let Some(record) = self.clients.get_mut(&client) else { return };
        if record.functions.insert(number) {
            self.functions.count(number, 1, 0);
        }
    }

    pub(super) fn on_forget_functions(&mut self, client: ClientId, ids: &[FunctionId]) {
        for id in ids {
            let Some(number) = self.functions.by_id.get(id).copied() else { continue };
            let Some(record) = self.clients.get_mut(&client) else { continue };
            if record.functions.remove(&number) {
                self.release_function(number, -1, 0);
            }
        }
    }

    /// A client is gone, and with it its claims on functions.
    pub(super) fn release_client_functions(&mut self, functions: &Set<FunctionNo>) {
        let mut numbers: Vec<_> = functions.iter().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().for_each(|number| self.release_function(number, -1, 0));
    }

    pub(super) fn release_functions(&mut self, functions: &[FunctionNo]) {
        functions.iter().for_each(|number| self.release_function(*number, 0, -1));
    }

    fn release_function(&mut self, number: FunctionNo, clients: i32, tasks: i32) {
        let Some(function) = self.functions.count(number, clients, tasks) else { return };
        let mut holders = function.holders;
        holders.sort_unstable();
        for slot in holders {
            let Some(worker) = self.workers.get_mut(slot) else { continue };
            if worker.functions.remove(&number) {
                let message = SchedulerToWorker::ForgetFunctions(vec![number]);
                self.outbox.send_worker(worker, message);
            }
        }
    }

    pub(super) fn on_submit(&mut self, client: ClientId, batch: SubmitBatch) {
        self.tasks.reserve(batch.tasks.len());
        self.counters.tasks_submitted += batch.tasks.len() as u64;
        let (generation, base) = self.rank_of(client, &batch);
        let interned = self.intern(&batch);
        for spec in batch.tasks {
            let order = base.wrapping_add(spec.order.min(MAX_ORDER));
            self.next_order = self.next_order.max(order.wrapping_add(1));
            let options = batch.options.get(spec.option as usize);
            let user = options.map_or(0, |options| options.priority);
            let retries = options.map_or(0, |options| options.retries);
            let priority = Priority::new(user, generation, order);
            self.submit_one(client, batch.submission, spec, &interned, priority, retries);
        }
        self.let_go_of_interned(&interned);
        if batch.last {
            self.close_submission(client, batch.submission);
        }
    }

    /// A submission's generation, and what is added to the orders of its tasks: the same for all
    /// of its pieces, whatever else comes between them.
    fn rank_of(&mut self, client: ClientId, batch: &SubmitBatch) -> (Generation, u64) {
        let record = self.clients.get(&client);
        if let Some(open) = record.and_then(|r| r.open_submissions.get(&batch.submission)) {
            return (open.generation, open.base);
        }
        let (generation, base) = (self.generation_of(client, batch), self.next_order);
        if let (false, Some(record)) = (batch.last, self.clients.get_mut(&client)) {
            let open = OpenSubmission { generation, base, unwanted: Vec::new() };
            record.open_submissions.insert(batch.submission, open);
        }
        (generation, base)
    }

    /// Submissions close together share a generation; those from inside a task sort before it.
    fn generation_of(&mut self, client: ClientId, batch: &SubmitBatch) -> Generation {
        let parent = batch.parent.and_then(|id| self.tasks.get(id));
        if let Some(parent) = parent {
            return self.tasks[parent].priority.generation().child();
        }
        let now = self.now;
        let Some(record) = self.clients.get_mut(&client) else { return self.generation };
        let is_close = record
            .submitted_at
            .is_some_and(|at| now.since(at) <= batch.fifo_timeout_us.saturating_mul(1_000));
        if !is_close {
            self.generation = self.generation.next();
            record.generation = self.generation;
        }
        record.submitted_at = Some(now);
        record.generation
    }

    fn intern(&mut self, batch: &SubmitBatch) -> Interned {
        let functions =
            batch.functions.iter().map(|id| self.functions.by_id.get(id).copied()).collect();
        let mut prefixes = Vec::with_capacity(batch.prefixes.len());
        for name in &batch.prefixes {
            let prefix = self.prefixes.intern(name);
            self.prefixes[prefix].tasks += 1;
            prefixes.push(prefix);
        }
        let mut classes = Vec::with_capacity(batch.options.len());
        for options in &batch.options {
            let words = (&options.workers[..], options.allow_other_workers);
            let class = self.intern_class(words, &options.resources);
            self.classes[class].tasks += 1;
            classes.push(class);
        }
        let policy = |options: &TaskOptions| {
            options.policy.as_ref().map_or(0, |policy| self.policies.intern(policy))
        };
        let policies = batch.options.iter().map(policy).collect();
        Interned { functions, prefixes, classes, policies }
    }

    /// The class of these restrictions, whose tasks are to be counted. `words`: who is named, and
    /// whether others serve when none of them is there.
    pub(super) fn intern_class(&mut self, words: (&[String], bool), needs: &Resources) -> u32 {
        let (class, is_new) = self.classes.intern(words.0, words.1, needs, &self.workers);
        if is_new {
            for slot in self.classes[class].eligible.clone() {
                self.workers[slot].classes.push(class);
            }
        }
        class
    }

    /// The batch is applied: its prefixes and classes live on only where tasks use them.
    fn let_go_of_interned(&mut self, interned: &Interned) {
        interned.prefixes.iter().for_each(|prefix| self.prefixes.release(*prefix));
        interned.policies.iter().for_each(|policy| self.policies.release(*policy));
        for class in &interned.classes {
            if let Some(eligible) = self.classes.release(*class) {
                self.drop_class(*class, &eligible);
            }
        }
    }

    fn submit_one(
        &mut self,
        client: ClientId,
        submission: u64,
        spec: TaskSpec,
        interned: &Interned,
        priority: Priority,
        retries: u32,
    ) {
        let handle = spec.handle;
        let is_wanted = spec.flags & TaskSpec::WANTED != 0;
        let refused = spec
            .functions
            .iter()
            .find_map(|position| interned.functions.get(*position as usize).copied().flatten());
        let index = match self.find_or_make(&spec) {
            Found::New(index) => {
                self.fill_in(client, index, spec, interned, priority, retries);
                index
            }
            Found::Same(index) => index,
            Found::Other(index) if spec.flags & TaskSpec::GRAPH != 0 => {
                self.counters.spec_differences += 1;
                index
            }
            Found::Other(index) => {
                self.counters.collisions += 1;
                let is_strict = self.tell_collision(client, index, &spec, refused);
                if is_strict {
                    return;
                }
                index
            }
        };
        self.bind(client, submission, handle, index, is_wanted);
        self.adopt_offers(index);
    }

    fn find_or_make(&mut self, spec: &TaskSpec) -> Found {
        let Some(index) = self.tasks.find(&spec.key) else {
            return Found::New(self.insert_task(spec.key.clone()));
        };
        let task = &self.tasks[index];
        if task.kind == Kind::Unknown {
            return match self.is_claimed_for_other_work(index, spec) {
                true => Found::Other(index),
                false => Found::New(index),
            };
        }
        if self.is_dead_actor(index) && self.make_way(index) {
            return Found::New(self.insert_task(spec.key.clone()));
        }
        if self.tasks[index].kind == Kind::Broken && !self.is_actor(index) {
            // It failed for what its client did not have; this one may.
            self.shadow(index);
            return Found::New(self.insert_task(spec.key.clone()));
        }
        if self.tasks[index].is_or_becomes(spec.spec_hash) {
            return match self.may_learn_its_work(index, spec) {
                true => Found::New(index),
                false => Found::Same(index),
            };
        }
        if self.make_way(index) {
            return Found::New(self.insert_task(spec.key.clone()));
        }
        Found::Other(index)
    }

    /// Whether it is a result of an earlier session, of which nobody has said yet how to make it again.
    /// One that needs its worker or its inputs is not what they make now.
    fn may_learn_its_work(&self, index: u32, spec: &TaskSpec) -> bool {
        let task = &self.tasks[index];
        let is_free = task.state == State::Memory && spec.flags & offers::BOUND == 0;
        let is_claimed = task.kind == Kind::Data && spec.spec_hash != 0;
        is_claimed && (is_free || task.state == State::Released)
    }

    /// Whether somebody waits for an earlier result of the key, which is of other work. A graph's keys
    /// name values, however they are made.
    fn is_claimed_for_other_work(&self, index: u32, spec: &TaskSpec) -> bool {
        let claimed = self.tasks[index].spec_hash;
        claimed != 0 && claimed != spec.spec_hash && spec.flags & TaskSpec::GRAPH == 0
    }

    /// A task that only the lineage of held results keeps goes on without its name, so that the
    /// key can be used for other work. Returns whether it does.
    pub(super) fn make_way(&mut self, index: u32) -> bool {
        let task = &self.tasks[index];
        let rests = task.state == State::Released
            || (task.state == State::Erred && self.is_dead_actor(index));
        let is_lineage = rests && !task.is_needed();
        if is_lineage {
            self.shadow(index);
        }
        is_lineage
    }

    /// The task goes on without its name.
    pub(super) fn shadow(&mut self, index: u32) {
        self.tasks.unname(index);
        self.tasks[index].marks |= mark::SHADOWED;
    }

    pub(super) fn insert_task(&mut self, key: Key) -> u32 {
        let index = self.tasks.insert(key);
        self.state_counts[State::Released as usize] += 1;
        let prefix = self.prefixes.intern("");
        self.prefixes[prefix].tasks += 1;
        self.classes[0].tasks += 1;
        self.tasks[index].prefix = prefix;
        index
    }

    /// Writes a spec into a new task.
    fn fill_in(
        &mut self,
        client: ClientId,
        index: u32,
        spec: TaskSpec,
        interned: &Interned,
        priority: Priority,
        retries: u32,
    ) {
        let deps = self.resolve_deps(client, &spec.deps);
        let functions: Option<SmallVec<[FunctionNo; 2]>> = spec
            .functions
            .iter()
            .map(|position| interned.functions.get(*position as usize).copied().flatten())
            .collect();
        let prefix = interned.prefixes.get(spec.prefix as usize).copied();
        let class = interned.classes.get(spec.option as usize).copied().unwrap_or(0);
        self.set_prefix_and_class(index, prefix, class);
        let policy = interned.policies.get(spec.option as usize).copied().unwrap_or(0);
        self.policies.add_use(policy);
        let task = &mut self.tasks[index];
        task.kind = Kind::Call;
        task.flags = spec.flags;
        task.priority = priority;
        task.retries_left = retries;
        task.policy = policy;
        task.spec_hash = spec.spec_hash;
        task.body = spec.body;
        if self.is_actor(index) {
            self.add_actor(index);
        }
        let broken = match (&deps, &functions) {
            (Err(missing), _) => Some(missing_input_error(&spec.key, missing)),
            (_, None) => Some(missing_function_error(&spec.key)),
            (Ok(deps), _) if self.closes_a_circle(index, deps) => Some(circle_error(&spec.key)),
            _ => None,
        };
        if broken.is_some() && self.tasks[index].state == State::Memory {
            // It has its result, and cannot be made again.
            self.tasks[index].kind = Kind::Data;
            return;
        }
        if let Some(error) = broken {
            self.tasks[index].kind = Kind::Broken;
            self.set_state(index, State::Waiting);
            self.steps.push(Step::Fail(index, error));
            return;
        }
        for number in functions.iter().flatten() {
            self.functions.count(*number, 0, 1);
        }
        self.tasks[index].functions = functions.unwrap_or_default();
        self.set_deps(index, deps.unwrap_or_default());
    }

    pub(super) fn set_prefix_and_class(&mut self, index: u32, prefix: Option<u32>, class: u32) {
        let task = &mut self.tasks[index];
        let old_class = std::mem::replace(&mut task.class, class);
        self.classes[class].tasks += 1;
        if let Some(prefix) = prefix {
            let old_prefix = std::mem::replace(&mut task.prefix, prefix);
            self.prefixes[prefix].tasks += 1;
            self.prefixes.release(old_prefix);
        }
        if let Some(eligible) = self.classes.release(old_class) {
            self.drop_class(old_class, &eligible);
        }
    }

    /// Whether one of these inputs needs the task. Only a key that others asked for before it was
    /// submitted can come to that.
    fn closes_a_circle(&self, index: u32, deps: &[u32]) -> bool {
        if self.tasks[index].live_dependents == 0 {
            return deps.contains(&index);
        }
        let mut open = deps.to_vec();
        let mut seen: Set<u32> = open.iter().copied().collect();
        while let Some(input) = open.pop() {
            if input == index {
                return true;
            }
            let deps = self.tasks[input].deps.iter().copied();
            open.extend(deps.filter(|dep| seen.insert(*dep)));
        }
        false
    }

    fn set_deps(&mut self, index: u32, deps: SmallVec<[u32; 2]>) {
        let id = self.tasks.id(index);
        for dep in &deps {
            let record = &mut self.tasks[*dep];
            record.dependents.push(id);
            record.live_dependents += 1;
        }
        self.tasks[index].deps = deps;
    }

    /// Arena indices of a client's handles, or the first that means nothing (any more).
    fn resolve_deps(
        &self,
        client: ClientId,
        deps: &[Handle],
    ) -> Result<SmallVec<[u32; 2]>, Handle> {
        let Some(record) = self.clients.get(&client) else { return Err(Handle(0)) };
        let resolve = |handle: &Handle| {
            let id = record.handles.get(handle).copied().ok_or(*handle)?;
            self.tasks.get(id).ok_or(*handle)
        };
        deps.iter().map(resolve).collect()
    }

    /// Connects a client's handle with its task, and starts the task.
    pub(super) fn bind(
        &mut self,
        client: ClientId,
        submission: u64,
        handle: Handle,
        index: u32,
        is_wanted: bool,
    ) {
        let id = self.tasks.id(index);
        let Some(record) = self.clients.get_mut(&client) else { return };
        let before = record.handles.insert(handle, id);
        if is_wanted {
            self.want(client, handle, index);
        } else {
            self.tasks[index].holds += 1;
            record.open_submissions.entry(submission).or_default().unwanted.push((handle, id));
            self.steps.push(Step::Start(index));
        }
        if let Some(before) = before {
            self.unbind(client, handle, before);
        }
        self.run_steps();
    }

    /// A client used a handle anew, against the protocol: the handle names one task only.
    fn unbind(&mut self, client: ClientId, handle: Handle, before: TaskId) {
        self.counters.stale_messages += 1;
        let now = self.clients.get(&client).and_then(|record| record.handles.get(&handle));
        let Some(index) = self.tasks.get(before) else { return };
        let mut is_kept = now == Some(&before);
        self.tasks[index].wants.retain(|want| {
            let is_it = (want.client, want.handle) == (client, handle);
            // Of two equal wants for one task the first stays.
            !is_it || std::mem::take(&mut is_kept)
        });
        self.steps.push(Step::Relax(index));
    }

    /// A client wants the result: it is told at once if the end is known.
    pub(super) fn want(&mut self, client: ClientId, handle: Handle, index: u32) {
        self.tasks[index].wants.push(Want { client, handle });
        match self.tasks[index].state {
            State::Memory => self.tell_ready(index, client, handle),
            State::Erred => self.tell_erred_to(index, client, handle),
            State::Released => self.steps.push(Step::Start(index)),
            _ => {}
        }
    }

    /// The submission is complete: tasks that nobody wants or needs go.
    fn close_submission(&mut self, client: ClientId, submission: u64) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        let Some(open) = record.open_submissions.remove(&submission) else { return };
        if self.has(Fault::UnaskedStay) {
            return;
        }
        for (handle, id) in open.unwanted {
            let is_wanted = self
                .tasks
                .get(id)
                .is_some_and(|index| self.tasks[index].wants.contains(&Want { client, handle }));
            if let Some(record) = self.clients.get_mut(&client)
                && record.handles.get(&handle) == Some(&id)
                && !is_wanted
            {
                record.handles.remove(&handle);
            }
            self.drop_hold(id);
        }
        self.run_steps();
    }

    pub(super) fn drop_hold(&mut self, id: TaskId) {
        let Some(index) = self.tasks.get(id) else { return };
        self.tasks[index].holds -= 1;
        if !self.tasks[index].is_needed() {
            self.steps.push(Step::Relax(index));
        }
    }

    /// Returns whether the client is strict: then it gets nothing for its spec.
    fn tell_collision(
        &mut self,
        client: ClientId,
        index: u32,
        spec: &TaskSpec,
        refused: Option<FunctionNo>,
    ) -> bool {
        let name = |number: Option<FunctionNo>| {
            let function = number.and_then(|number| self.functions.get(number));
            function.map_or_else(|| "data".to_string(), |function| function.name.clone())
        };
        let kept_name = name(self.tasks[index].functions.first().copied());
        let refused_name = name(refused);
        let (kept, refused) = if self.tasks[index].kind == Kind::Unknown {
            ("other work of an earlier session".into(), format!("{refused_name}(…)"))
        } else if kept_name == refused_name {
            (format!("{kept_name}(…)"), format!("{refused_name}(…) with other arguments"))
        } else {
            (format!("{kept_name}(…)"), format!("{refused_name}(…)"))
        };
        let Some(record) = self.clients.get_mut(&client) else { return true };
        let key = spec.key.clone();
        let collision = Collision { handle: spec.handle, key, kept, refused };
        let message = SchedulerToClient::Collision(collision);
        self.outbox.send_client(client, &mut record.last_action, message);
        record.is_strict
    }

    /// A client left while its submissions were open.
    pub(super) fn close_all_submissions(&mut self, record: &mut ClientRecord) {
        let mut open: Vec<_> = record.open_submissions.drain().collect();
        open.sort_unstable_by_key(|(submission, _)| *submission);
        for (_, id) in open.into_iter().flat_map(|(_, open)| open.unwanted) {
            self.drop_hold(id);
        }
    }
}

fn missing_input_error(key: &Key, missing: &Handle) -> Arc<ErrorInfo> {
    let why = DropReason {
        reason: "missing-dependency".into(),
        message: format!(
            "an input (the client's number {missing}) was cancelled, lost or released before \
             the task was submitted"
        ),
        ..DropReason::default()
    };
    dropped_error(key, &why)
}

fn circle_error(key: &Key) -> Arc<ErrorInfo> {
    Arc::new(ErrorInfo {
        type_name: "ValueError".into(),
        message: format!("task {key} needs itself: one of its inputs was made from its key"),
        origin: Some(key.clone()),
        ..ErrorInfo::default()
    })
}

fn missing_function_error(key: &Key) -> Arc<ErrorInfo> {
    Arc::new(ErrorInfo {
        type_name: "ProtocolError".into(),
        message: format!("task {key} names a function that its client has not registered"),
        origin: Some(key.clone()),
        ..ErrorInfo::default()
    })
}
