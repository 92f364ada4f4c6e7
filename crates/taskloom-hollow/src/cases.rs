//! What is measured, each case on a fresh scheduler.

use crate::HollowError;
use crate::driver::{Driver, Plan, Shape};
use crate::fleet::Fleet;
use crate::process::SchedulerProcess;
use crate::report::Sample;
use crate::worker::Work;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often hollow workers send heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a case may wait for anything, in s.
const PATIENCE_S: u64 = 300;
const NO_TIME: Work = Work { duration_ns: 0, size_bytes: 0 };

/// A scheduler, its workers and a client.
pub struct Cluster {
    pub scheduler: SchedulerProcess,
    pub fleet: Fleet,
    pub driver: Driver,
    workers: usize,
    /// How long the workers took to join, in s.
    join_s: f64,
    /// Resident memory of the scheduler before anybody came.
    empty_bytes: u64,
}

impl Cluster {
    /// Starts a scheduler and lets all workers join at once.
    pub fn start(program: &Path, workers: usize, threads: usize) -> Result<Self, HollowError> {
        let scheduler = SchedulerProcess::start(program, &[])?;
        let driver = Driver::connect(scheduler.address(), scheduler.token())?;
        driver.wait_for_workers(0)?;
        let empty_bytes = scheduler.resident_bytes()?;
        let mut fleet = Fleet::start(HEARTBEAT)?;
        let start = Instant::now();
        fleet.join(&scheduler.parsed_address()?, scheduler.token(), workers, threads)?;
        driver.wait_for_workers(workers)?;
        let join_s = start.elapsed().as_secs_f64();
        Ok(Self { scheduler, fleet, driver, workers, join_s, empty_bytes })
    }

    /// Submits and waits for all ends; returns wall time and scheduler time per task, in us.
    fn run(&self, plan: Plan) -> Result<(f64, f64), HollowError> {
        let before = self.driver.ends().ready;
        let cpu = self.scheduler.cpu_ns()?;
        let start = Instant::now();
        let handles = self.driver.submit(plan);
        let wanted = before + plan.count;
        self.driver.wait("the end of all tasks", PATIENCE_S, |ends| ends.ready >= wanted)?;
        let wall_us = start.elapsed().as_secs_f64() * 1e6;
        let cpu_us = (self.scheduler.cpu_ns()? - cpu) as f64 / 1e3;
        self.driver.release(handles);
        self.driver.wait_for_workers(0)?;
        let count = plan.count as f64;
        Ok((wall_us / count, cpu_us / count))
    }

    /// Submits `rate` tasks a second for `seconds`, a few at a time; returns scheduler time per
    /// task, in us, and how long it all took, in s.
    fn run_paced(&self, work: Work, rate: u64, seconds: u64) -> Result<(f64, f64), HollowError> {
        const SLICES_PER_S: u64 = 500;
        let before = self.driver.ends().ready;
        let cpu = self.scheduler.cpu_ns()?;
        let start = Instant::now();
        let count = rate / SLICES_PER_S;
        for slice in 0..seconds * SLICES_PER_S {
            let due = start + Duration::from_secs(1) * slice as u32 / SLICES_PER_S as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.driver.submit_timed(Plan { count, work, shape: Shape::Flat });
        }
        let total = count * SLICES_PER_S * seconds;
        let wanted = before + total;
        self.driver.wait("the end of all tasks", PATIENCE_S, |ends| ends.ready >= wanted)?;
        let elapsed_s = start.elapsed().as_secs_f64();
        let cpu_us = (self.scheduler.cpu_ns()? - cpu) as f64 / 1e3;
        Ok((cpu_us / total as f64, elapsed_s))
    }

    /// What every case says of the cluster: nobody may be lost by silence.
    fn sample(&self, case: &'static str) -> Sample {
        Sample::new(case, self.workers).with("lost_workers", self.fleet.census().lost as f64)
    }
}

/// A join storm, then silence but for heartbeats.
pub fn idle(program: &Path, workers: usize, seconds: u64) -> Result<Sample, HollowError> {
    let cluster = Cluster::start(program, workers, 1)?;
    let join_cpu_s = cluster.scheduler.cpu_ns()? as f64 / 1e9;
    // The join's own echoes are over.
    std::thread::sleep(HEARTBEAT);
    let cpu = cluster.scheduler.cpu_ns()?;
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let used_s = (cluster.scheduler.cpu_ns()? - cpu) as f64 / 1e9;
    let bytes = cluster.scheduler.resident_bytes()? - cluster.empty_bytes;
    Ok(cluster
        .sample("idle")
        .with("join_s", cluster.join_s)
        .with("join_cpu_s", join_cpu_s)
        .with("cpu_percent", 100.0 * used_s / start.elapsed().as_secs_f64())
        .with("kb_per_worker", bytes as f64 / 1e3 / workers as f64))
}

/// What a task costs the scheduler: many at once, pairs with an input each, and at a given rate.
pub fn cost(program: &Path, workers: usize, tasks: u64) -> Result<Sample, HollowError> {
    /// Tasks a second, few enough for the workers' process not to be what is measured.
    const RATE: u64 = 20_000;
    let cluster = Cluster::start(program, workers, 1)?;
    let work = NO_TIME;
    // The first tasks of a kind are handed out carefully: nobody knows yet how long they take.
    let learned = 2 * workers as u64 + 1000;
    cluster.run(Plan { count: learned, work, shape: Shape::Flat })?;
    let flat = cluster.run(Plan { count: tasks, work, shape: Shape::Flat })?;
    let pairs = cluster.run(Plan { count: tasks, work, shape: Shape::Pairs })?;
    let (paced_cpu_us, _) = cluster.run_paced(work, RATE, 2)?;
    Ok(cluster
        .sample("cost")
        .with("flat_wall_us", flat.0)
        .with("flat_cpu_us", flat.1)
        .with("pairs_wall_us", pairs.0)
        .with("pairs_cpu_us", pairs.1)
        .with("paced_cpu_us", paced_cpu_us))
}

/// Tasks of 100 ms at a rate that keeps a part of the workers busy.
pub fn rate(
    program: &Path,
    workers: usize,
    rate: u64,
    seconds: u64,
) -> Result<Sample, HollowError> {
    let cluster = Cluster::start(program, workers, 1)?;
    let work = Work { duration_ns: 100_000_000, size_bytes: 0 };
    let cpu = cluster.scheduler.cpu_ns()?;
    let (cpu_us, elapsed_s) = cluster.run_paced(work, rate, seconds)?;
    let used_s = (cluster.scheduler.cpu_ns()? - cpu) as f64 / 1e9;
    let latencies = cluster.driver.take_latencies_us();
    let at = |share: f64| {
        let position = (latencies.len() as f64 * share) as usize;
        latencies.get(position).map_or(0.0, |us| f64::from(*us) / 1e3)
    };
    Ok(cluster
        .sample("rate")
        .with("tasks_per_s", (rate * seconds) as f64 / elapsed_s)
        .with("cpu_percent", 100.0 * used_s / elapsed_s)
        .with("cpu_us", cpu_us)
        .with("p50_ms", at(0.5))
        .with("p99_ms", at(0.99)))
}

/// A tenth of the workers dies at once, each with a task under way; half of the workers is idle.
pub fn deaths(program: &Path, workers: usize) -> Result<Sample, HollowError> {
    let cluster = Cluster::start(program, workers, 1)?;
    let dying = workers / 10;
    let work = Work { duration_ns: 3_000_000_000, size_bytes: 0 };
    // The workers that joined first get them.
    let count = workers as u64 / 2;
    cluster.driver.submit(Plan { count, work, shape: Shape::Flat });
    std::thread::sleep(Duration::from_secs(1));
    let cpu = cluster.scheduler.cpu_ns()?;
    let start = Instant::now();
    cluster.fleet.kill(dying);
    let census = cluster.fleet.wait("new places for the tasks of the dead", 60, |census| {
        census.orphans == 0 && census.adopted.is_some()
    })?;
    let replanned_s =
        census.adopted.map_or(0.0, |at| at.saturating_duration_since(start).as_secs_f64());
    let cpu_s = (cluster.scheduler.cpu_ns()? - cpu) as f64 / 1e9;
    cluster.driver.wait("the end of all tasks", PATIENCE_S, |ends| ends.ready >= count)?;
    let all_s = start.elapsed().as_secs_f64();
    Ok(cluster
        .sample("deaths")
        .with("died", dying as f64)
        .with("replanned_s", replanned_s)
        .with("replan_cpu_s", cpu_s)
        .with("all_ended_s", all_s))
}

/// Many tasks that wait; then all are cancelled.
pub fn held(program: &Path, tasks: u64) -> Result<Sample, HollowError> {
    let workers = 2;
    let cluster = Cluster::start(program, workers, 1)?;
    let work = Work { duration_ns: 3_600_000_000_000, size_bytes: 0 };
    let before = cluster.scheduler.resident_bytes()?;
    let start = Instant::now();
    let handles = cluster.driver.submit(Plan { count: tasks, work, shape: Shape::Flat });
    cluster.driver.wait_for_workers(0)?;
    let submit_s = start.elapsed().as_secs_f64();
    let held_bytes = cluster.scheduler.resident_bytes()? - before;
    let start = Instant::now();
    cluster.driver.cancel(handles);
    cluster.driver.wait("the end of all tasks", PATIENCE_S, |ends| ends.cancelled >= tasks)?;
    let cancel_s = start.elapsed().as_secs_f64();
    // What was freed goes back to the system a moment later.
    std::thread::sleep(Duration::from_secs(1));
    let rest = cluster.scheduler.resident_bytes()?.saturating_sub(before);
    Ok(cluster
        .sample("held")
        .with("submit_per_s", tasks as f64 / submit_s)
        .with("bytes_per_task", held_bytes as f64 / tasks as f64)
        .with("cancel_s", cancel_s)
        .with("rest_bytes_per_task", rest as f64 / tasks as f64))
}

/// Deep and wide graphs: the price per task must not grow with their size.
pub fn shapes(program: &Path, tasks: u64) -> Result<Sample, HollowError> {
    let cluster = Cluster::start(program, 10, 1)?;
    let work = NO_TIME;
    cluster.run(Plan { count: 1000, work, shape: Shape::Flat })?;
    let cpu_us = |shape, count| Ok::<_, HollowError>(cluster.run(Plan { count, work, shape })?.1);
    let chain_short = cpu_us(Shape::Chain, tasks / 10)?;
    let chain_long = cpu_us(Shape::Chain, tasks)?;
    let funnel = cpu_us(Shape::Funnel, tasks)?;
    let fan = cpu_us(Shape::Fan, tasks)?;
    Ok(cluster
        .sample("shapes")
        .with("short_chain_cpu_us", chain_short)
        .with("long_chain_cpu_us", chain_long)
        .with("funnel_cpu_us", funnel)
        .with("fan_cpu_us", fan))
}
