//! Random graphs, and what each of their tasks does.

use crate::rng::{Rng, mix};
use std::fmt;
use taskloom_proto::Body;
use taskloom_proto::client::TaskSpec;
use taskloom_proto::policy::TaskPolicy;
use taskloom_types::Nanos;

/// What a task's function does when it is called. Encoded in the task's body, so that a worker
/// needs to know nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Names the function and its plain arguments.
    pub identity: u64,
    pub behaviour: Behaviour,
    /// Run time in us.
    pub duration_us: u32,
    /// Size of the result in bytes: up to 1 KiB it travels inline.
    pub size_bytes: u64,
    /// What it may count on, for checks at the worker: hundredths of a GPU, and the number of
    /// the only worker that may run it.
    pub gpu_percent: u8,
    pub pinned: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Return,
    /// Raises on the first `n` runs of the whole simulation, then returns.
    RaiseFirst(u8),
    RaiseAlways,
    /// Raises `Reschedule` on the first run.
    RescheduleOnce,
    /// Ends the worker's process, on the first `n` runs.
    KillFirst(u8),
    KillAlways,
    /// Leaves its slot half-way, and comes back.
    Secede,
    /// Ends only when it is interrupted.
    Hang,
    /// Never ends: its process must.
    Stuck,
    /// Makes an actor, which is lost with its worker.
    Actor,
    /// Makes an actor, which is saved at once.
    SavedActor,
    /// Makes an actor from a snapshot: the identity is its value.
    Restored,
}

impl Call {
    pub fn encode(&self) -> Body {
        let (tag, number) = match self.behaviour {
            Behaviour::Return => (0, 0),
            Behaviour::RaiseFirst(n) => (1, n),
            Behaviour::RaiseAlways => (2, 0),
            Behaviour::RescheduleOnce => (3, 0),
            Behaviour::KillFirst(n) => (4, n),
            Behaviour::KillAlways => (5, 0),
            Behaviour::Secede => (6, 0),
            Behaviour::Hang => (7, 0),
            Behaviour::Stuck => (8, 0),
            Behaviour::Actor => (9, 0),
            Behaviour::SavedActor => (10, 0),
            Behaviour::Restored => (11, 0),
        };
        let mut body = Body::new();
        body.extend_from_slice(&self.identity.to_le_bytes());
        body.extend_from_slice(&[tag, number]);
        body.extend_from_slice(&self.duration_us.to_le_bytes());
        body.extend_from_slice(&self.size_bytes.to_le_bytes());
        body.extend_from_slice(&[self.gpu_percent, self.pinned.unwrap_or(u8::MAX)]);
        body
    }

    pub fn decode(body: &[u8]) -> Self {
        let number = |at: usize, len: usize| {
            let mut raw = [0; 8];
            raw[..len].copy_from_slice(&body[at..at + len]);
            u64::from_le_bytes(raw)
        };
        let behaviour = match (body[8], body[9]) {
            (1, n) => Behaviour::RaiseFirst(n),
            (2, _) => Behaviour::RaiseAlways,
            (3, _) => Behaviour::RescheduleOnce,
            (4, n) => Behaviour::KillFirst(n),
            (5, _) => Behaviour::KillAlways,
            (6, _) => Behaviour::Secede,
            (7, _) => Behaviour::Hang,
            (8, _) => Behaviour::Stuck,
            (9, _) => Behaviour::Actor,
            (10, _) => Behaviour::SavedActor,
            (11, _) => Behaviour::Restored,
            _ => Behaviour::Return,
        };
        Self {
            identity: number(0, 8),
            behaviour,
            duration_us: number(10, 4) as u32,
            size_bytes: number(14, 8),
            gpu_percent: body[22],
            pinned: Some(body[23]).filter(|name| *name != u8::MAX),
        }
    }

    /// The model of calling the function.
    pub fn value(&self, inputs: impl IntoIterator<Item = u64>) -> u64 {
        if self.behaviour == Behaviour::Restored {
            return self.identity;
        }
        inputs.into_iter().fold(mix(self.identity), |hash, input| mix(hash ^ input.rotate_left(17)))
    }

    /// Whether the result is an actor.
    pub fn makes_actor(&self) -> bool {
        use Behaviour::{Actor, Restored, SavedActor};
        matches!(self.behaviour, Actor | SavedActor | Restored)
    }

    /// Some results name what only their workers have, and some name results of inputs.
    pub fn naming_flags(&self) -> u8 {
        match self.identity % 12 {
            _ if self.makes_actor() => 0,
            0 => TaskSpec::LOCAL,
            1 => TaskSpec::KEEPS_INPUTS,
            2 => TaskSpec::LOCAL | TaskSpec::KEEPS_INPUTS,
            _ => 0,
        }
    }

    /// What is kept of an actor of this value, if anything.
    pub fn snapshot(&self, value: u64) -> Option<Body> {
        let is_saved = matches!(self.behaviour, Behaviour::SavedActor | Behaviour::Restored);
        let restored = Self { identity: value, behaviour: Behaviour::Restored, ..*self };
        is_saved.then(|| restored.encode())
    }

    /// Hash of function and arguments, as clients send it.
    pub fn spec_hash(&self) -> u64 {
        mix(self.identity ^ 0x5bec)
    }
}

/// A task of a graph, by position.
#[derive(Debug, Clone)]
pub struct Node {
    pub call: Call,
    pub deps: Vec<usize>,
    pub wanted: bool,
    /// The worker that is to run it.
    pub pinned: Option<u64>,
    /// Whether others may when that one is not there.
    pub others: bool,
    pub retries: u32,
    /// Pauses before retries, limits of its time.
    pub policy: Option<TaskPolicy>,
    pub priority: i32,
    /// Which of the few functions it calls.
    pub function: u8,
}

/// In a few words, for people.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { behaviour, duration_us, size_bytes, gpu_percent, .. } = self.call;
        write!(f, "{behaviour:?} after {duration_us} us, {size_bytes} B")?;
        if !self.deps.is_empty() {
            write!(f, ", needs {:?}", self.deps)?;
        }
        if gpu_percent > 0 {
            write!(f, ", {gpu_percent} % of a GPU")?;
        }
        if let Some(name) = self.pinned {
            write!(f, ", {} worker-{name}", if self.others { "rather on" } else { "on" })?;
        }
        if self.retries > 0 {
            write!(f, ", {} retries", self.retries)?;
        }
        if self.policy.is_some() {
            write!(f, ", with a policy")?;
        }
        if self.priority != 0 {
            write!(f, ", priority {}", self.priority)?;
        }
        if self.wanted { Ok(()) } else { write!(f, ", not asked for") }
    }
}

/// Which kinds of trouble a run has; each seed has some of them (swarm testing).
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    pub raise: bool,
    pub kill: bool,
    pub reschedule: bool,
    pub secede: bool,
    /// Retries with pauses, and only after some errors.
    pub policies: bool,
    /// Tasks with limits of their time, some of which do not end by themselves.
    pub timeouts: bool,
    pub resources: bool,
    pub pins: bool,
    pub priorities: bool,
    /// Keys that come with other work while they are in use.
    pub collisions: bool,
    pub scatter: bool,
    /// Workers that stop for a while, as by SIGSTOP.
    pub pauses: bool,
    pub restart: bool,
    pub retire: bool,
    pub actors: bool,
    /// Tasks fail when no worker may run them for this long, in ms.
    pub no_worker_ms: Option<u64>,
    /// Locks, queues and other objects that clients share.
    pub sharing: bool,
    /// Links that break, stall and slow down; workers that do not reach each other.
    pub network: bool,
    /// Transfers between workers that take long.
    pub slow_transfers: bool,
    /// Clocks that jump ahead.
    pub clocks: bool,
    /// Many tasks end their process, and most results are on workers only.
    pub deadly: bool,
    /// Nothing goes wrong, and nothing is released: then every task runs exactly once.
    pub calm: bool,
}

impl Trouble {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self {
            raise: false,
            kill: false,
            reschedule: false,
            secede: false,
            policies: false,
            timeouts: false,
            resources: false,
            pins: false,
            priorities: false,
            collisions: false,
            scatter: false,
            pauses: false,
            restart: false,
            retire: false,
            actors: false,
            no_worker_ms: None,
            sharing: false,
            network: false,
            slow_transfers: false,
            clocks: false,
            deadly: false,
            calm: true,
        }
    }

    pub fn random(rng: &mut Rng) -> Self {
        if rng.chance(8) {
            return Self {
                secede: rng.chance(50),
                resources: rng.chance(50),
                pins: rng.chance(50),
                priorities: rng.chance(50),
                retire: rng.chance(50),
                ..Self::none()
            };
        }
        let deadly = rng.chance(8);
        Self {
            raise: rng.chance(40),
            kill: deadly || rng.chance(25),
            reschedule: rng.chance(25),
            secede: rng.chance(25),
            policies: rng.chance(30),
            timeouts: rng.chance(25),
            resources: rng.chance(30),
            pins: rng.chance(30),
            priorities: rng.chance(30),
            collisions: rng.chance(25),
            scatter: rng.chance(35),
            pauses: rng.chance(20),
            restart: rng.chance(10),
            retire: rng.chance(15),
            actors: rng.chance(35),
            no_worker_ms: rng.chance(10).then(|| rng.between(5, 60)),
            sharing: rng.chance(40),
            network: rng.chance(25),
            slow_transfers: rng.chance(25),
            clocks: rng.chance(10),
            deadly,
            calm: false,
        }
    }
}

fn behaviour(rng: &mut Rng, trouble: Trouble) -> Behaviour {
    if trouble.deadly && rng.chance(25) {
        return Behaviour::KillFirst(rng.between(1, 3) as u8);
    }
    match rng.below(100) {
        0..=3 if trouble.raise => Behaviour::RaiseAlways,
        4..=9 if trouble.raise => Behaviour::RaiseFirst(rng.between(1, 3) as u8),
        10..=11 if trouble.kill => Behaviour::KillAlways,
        12..=15 if trouble.kill => Behaviour::KillFirst(rng.between(1, 3) as u8),
        16..=21 if trouble.reschedule => Behaviour::RescheduleOnce,
        22..=27 if trouble.secede => Behaviour::Secede,
        28..=31 if trouble.timeouts => Behaviour::Hang,
        32..=33 if trouble.timeouts => Behaviour::Stuck,
        34..=41 if trouble.actors => Behaviour::Actor,
        42..=49 if trouble.actors => Behaviour::SavedActor,
        _ => Behaviour::Return,
    }
}

/// The rarely used options of a task. One that does not end by itself has the limit that ends it.
fn policy(rng: &mut Rng, trouble: Trouble, behaviour: Behaviour) -> Option<TaskPolicy> {
    let mut policy = TaskPolicy::default();
    if trouble.policies && rng.chance(40) {
        let retry = &mut policy.retry;
        retry.retries = 3;
        retry.delays_ns = (0..rng.below(3)).map(|_| rng.below(20) * Nanos::MILLISECOND).collect();
        retry.factor_permille = 2_000;
        retry.max_delay_ns = 40 * Nanos::MILLISECOND;
        retry.jitter_permille = 500;
        if rng.chance(20) {
            let names = vec![["Planted", "TimeoutError"][rng.below(2) as usize].to_string()];
            if rng.chance(50) { retry.on = names } else { retry.not_on = names }
        }
    }
    let is_limited = trouble.timeouts && rng.chance(20);
    if is_limited || behaviour == Behaviour::Hang {
        policy.timeout_ns = rng.between(1, 20) * Nanos::MILLISECOND;
    }
    if (is_limited && rng.chance(50)) || behaviour == Behaviour::Stuck {
        policy.hard_timeout_ns = policy.timeout_ns + rng.between(1, 20) * Nanos::MILLISECOND;
    }
    if trouble.timeouts && rng.chance(30) {
        policy.cancel_grace_ns = Some(rng.below(10) * Nanos::MILLISECOND);
    }
    (policy != TaskPolicy::default()).then_some(policy)
}

/// What a graph may look like.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Tasks of the graph, if not by chance.
    pub tasks: Option<u64>,
    /// Workers that may be named.
    pub names: u64,
    /// The calls get the numbers after it.
    pub first_identity: u64,
}

/// A random graph; dependencies come before their dependents.
pub fn graph(rng: &mut Rng, trouble: Trouble, frame: Frame) -> Vec<Node> {
    let limit = if rng.chance(10) { 60 } else { 14 };
    let size = frame.tasks.unwrap_or_else(|| 1 + rng.below(limit)) as usize;
    let shape = rng.below(7);
    let scale = [5, 50, 500, 20_000][rng.below(4) as usize];
    (0..size)
        .map(|position| {
            let gpu = trouble.resources && rng.chance(20);
            // A GPU is only at worker 0: a pin elsewhere could never be met.
            let pinned = (trouble.pins && !gpu && rng.chance(15)).then(|| rng.below(frame.names));
            let others = pinned.is_some() && rng.chance(30);
            let behaviour = match behaviour(rng, trouble) {
                // A thread that never ends keeps its GPU where no process can be replaced.
                Behaviour::Stuck if gpu => Behaviour::Hang,
                other => other,
            };
            let mut call = Call {
                identity: frame.first_identity + 1 + position as u64,
                behaviour,
                duration_us: 1 + rng.below(scale) as u32,
                size_bytes: match rng.chance(if trouble.deadly { 10 } else { 50 }) {
                    true => 8,
                    false => 1 << rng.between(11, 24),
                },
                gpu_percent: if gpu { [50, 100][rng.below(2) as usize] } else { 0 },
                pinned: pinned.filter(|_| !others).map(|name| name as u8),
            };
            if call.makes_actor() {
                // The result is a proxy.
                call.size_bytes = 8;
            }
            let mut deps = inputs(rng, shape, position);
            deps.sort_unstable();
            deps.dedup();
            Node {
                call,
                deps,
                wanted: position + 1 == size || rng.chance(30),
                pinned,
                others,
                policy: policy(rng, trouble, behaviour),
                retries: if rng.chance(20) { rng.between(1, 4) as u32 } else { 0 },
                priority: if trouble.priorities { rng.between(0, 4) as i32 - 2 } else { 0 },
                function: rng.below(4) as u8,
            }
        })
        .collect()
}

fn inputs(rng: &mut Rng, shape: u64, position: usize) -> Vec<usize> {
    if position == 0 {
        return Vec::new();
    }
    let some = |rng: &mut Rng| rng.below(position as u64) as usize;
    match shape {
        // Independent.
        0 => Vec::new(),
        // A chain.
        1 => vec![position - 1],
        // A tree towards the last.
        2 => {
            let first = 2 * position;
            [first, first + 1].into_iter().filter_map(|n| position.checked_sub(n % 7 + 1)).collect()
        }
        // Everything into one, now and then.
        3 if rng.chance(25) => (0..position).collect(),
        3 => Vec::new(),
        // Three chains side by side, which meet now and then.
        4 if rng.chance(10) => (position.saturating_sub(3)..position).collect(),
        4 => position.checked_sub(3).into_iter().collect(),
        // One chain that many tasks hang on.
        5 if rng.chance(50) => vec![position - 1],
        5 => vec![position / 2],
        _ => (0..rng.below(4)).map(|_| some(rng)).collect(),
    }
}
