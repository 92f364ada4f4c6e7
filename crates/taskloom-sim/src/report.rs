//! What runs did, for people and for tests: a simulator that causes no trouble proves nothing.

/// What a run did, when all was well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    pub events: u64,
    pub futures: u64,
    pub worker_deaths: u64,
    pub worker_pauses: u64,
    /// Connections that broke and came back, and workers that came back after they were given up.
    pub breaks: u64,
    pub rejoined: u64,
    pub results_adopted: u64,
    pub restarts: u64,
    /// Connections of clients that broke, and sessions of clients that began in the place of others.
    pub client_breaks: u64,
    pub scheduler_restarts: u64,
    pub client_sessions: u64,
    pub scattered: u64,
    pub requests: u64,
    /// Requests for locks, queues and other shared objects.
    pub shared: u64,
    pub stale_messages: u64,
    pub recomputed: u64,
    pub stolen: u64,
    pub retracted: u64,
    pub run_ahead: u64,
    pub collisions: u64,
    pub unpickled: u64,
    pub interrupted: u64,
    pub processes_replaced: u64,
    /// Links that broke, stalled, slowed down or were cut between two workers.
    pub network_faults: u64,
    pub clock_jumps: u64,
    /// Workers that stopped and did not go on before they were given up.
    pub frozen: u64,
    /// Values that went to disk, that came back, and that did not.
    pub spilled: u64,
    pub unspilled: u64,
    pub disk_losses: u64,
    /// Workers that paused for lack of memory.
    pub memory_pauses: u64,
    /// Copies that were dropped instead of going to disk.
    pub spared_copies: u64,
    /// Hash of all that happened: equal seeds give equal traces.
    pub trace: u64,
}

impl Report {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.futures += other.futures;
        self.worker_deaths += other.worker_deaths;
        self.worker_pauses += other.worker_pauses;
        self.breaks += other.breaks;
        self.rejoined += other.rejoined;
        self.results_adopted += other.results_adopted;
        self.restarts += other.restarts;
        self.scheduler_restarts += other.scheduler_restarts;
        self.client_breaks += other.client_breaks;
        self.client_sessions += other.client_sessions;
        self.scattered += other.scattered;
        self.requests += other.requests;
        self.shared += other.shared;
        self.stale_messages += other.stale_messages;
        self.recomputed += other.recomputed;
        self.stolen += other.stolen;
        self.retracted += other.retracted;
        self.run_ahead += other.run_ahead;
        self.collisions += other.collisions;
        self.unpickled += other.unpickled;
        self.interrupted += other.interrupted;
        self.processes_replaced += other.processes_replaced;
        self.network_faults += other.network_faults;
        self.clock_jumps += other.clock_jumps;
        self.frozen += other.frozen;
        self.spilled += other.spilled;
        self.unspilled += other.unspilled;
        self.disk_losses += other.disk_losses;
        self.memory_pauses += other.memory_pauses;
        self.spared_copies += other.spared_copies;
        // In any order.
        self.trace = self.trace.wrapping_add(other.trace);
    }
}
