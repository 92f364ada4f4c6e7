//! All that one seed has in store for its world: who joins when, what clients do, which misfortunes
//! come. A plan is a list of steps that do not depend on each other, so that a failing run can be
//! tried again with fewer of them: see `shrink`.

use crate::rng::{Rng, mix};
use crate::workload::{Frame, Node, Trouble, graph};
use std::collections::BTreeSet;
use std::fmt;
use taskloom_types::ClientId;

/// What a client does.
#[derive(Debug, Clone)]
pub enum Deed {
    /// Submits a new graph. `outside`: its first task also uses an older future.
    Submit {
        nodes: Vec<Node>,
        outside: bool,
    },
    SubmitAgain,
    SubmitColliding,
    Release,
    Cancel,
    Retry,
    Detach,
    Desire,
    Pickle,
    Unpickle,
    Scatter,
    Share,
    Watch,
    Ask,
    /// Retires a worker.
    Retire,
    /// Restarts some workers, or all.
    Restart,
    PassFunctions,
    Vanish,
}

/// Which direction of a worker's connection to the scheduler does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Both,
    FromWorker,
    ToWorker,
}

/// What happens to a worker, to its connections, or to the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfortune {
    /// The process is killed.
    Dies,
    /// It stops for so many ms, as by SIGSTOP and SIGCONT.
    Pauses(u64),
    /// It stops, and goes on only after it was given up.
    Freezes,
    /// Its connection to the scheduler is reset.
    LinkBreaks,
    /// Nothing passes for so many ms; all of it comes later.
    LinkStalls(Way, u64),
    /// Every message takes so many us longer, for 50 ms.
    LinkSlows(u64),
    /// It and the worker of this name do not reach each other for so many ms.
    PartsFrom(u64, u64),
    /// It and the worker of this name never reach each other again.
    PartsForGood(u64),
    /// Its clock jumps ahead by so many ms.
    ClockJumps(u64),
    /// The scheduler's process stops for so many ms.
    SchedulerPauses(u64),
    /// The scheduler's clock jumps ahead by so many ms.
    SchedulerClockJumps(u64),
    /// Its process is measured, and is larger by so many bytes than what it holds.
    Measures(u64),
}

/// What a step brings.
#[derive(Debug, Clone)]
pub enum What {
    WorkerStarts(u64),
    Client(ClientId, Deed),
    /// The connection of a client breaks, for so many ms.
    Line(ClientId, u64),
    /// The scheduler is killed and started again.
    SchedulerRestarts,
    /// A worker by name.
    Worker(u64, Misfortune),
}

#[derive(Debug, Clone)]
pub struct Step {
    pub at_us: u64,
    /// All chance in the step comes from it.
    pub key: u64,
    pub what: What,
}

/// What the steps of a plan may be.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    pub seed: u64,
    /// Graphs per client.
    pub graphs: u64,
    /// Tasks per graph, if not by chance.
    pub tasks: Option<u64>,
    pub names: u64,
    pub clients: u64,
    pub trouble: Trouble,
    pub kills: bool,
    /// Whether the scheduler notices workers that are silent.
    pub heartbeats: bool,
    /// Whether workers have little memory.
    pub is_memory_short: bool,
    pub sessions: SessionTrouble,
}

/// What breaks between clients and the scheduler, and the scheduler itself.
#[derive(Debug, Clone, Copy)]
pub struct SessionTrouble {
    /// Connections of clients break, and come back within the grace time.
    pub breaks: bool,
    /// … or after it.
    pub outlasts_grace: bool,
    /// The scheduler is killed and started again.
    pub restarts: bool,
}

impl SessionTrouble {
    /// Has its own chance, as other troubles have theirs: a seed's plan stays what it was.
    pub fn random(seed: u64, is_calm: bool) -> Self {
        let mut rng = Rng::new(seed ^ 0x005e_5510);
        let breaks = rng.chance(25);
        let outlasts_grace = breaks && !is_calm && rng.chance(75);
        Self { breaks, outlasts_grace, restarts: !is_calm && rng.chance(12) }
    }
}

/// Which steps of a plan are played, and which tasks of its graphs are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// `None`: all.
    pub steps: Option<BTreeSet<usize>>,
    /// By step and position in its graph.
    pub left_out: BTreeSet<(usize, usize)>,
}

impl Part {
    #[must_use]
    pub fn plays(&self, step: usize) -> bool {
        self.steps.as_ref().is_none_or(|steps| steps.contains(&step))
    }

    /// Reads `3,7,9` and `3.0,3.2` as [`fmt::Display`] writes them after the options' names.
    #[must_use]
    pub fn parse(only: Option<&str>, without: Option<&str>) -> Option<Self> {
        let number = |text: &str| text.parse::<usize>().ok();
        let steps = match only {
            Some(text) => Some(text.split(',').map(number).collect::<Option<_>>()?),
            None => None,
        };
        let pair = |text: &str| {
            let (step, task) = text.split_once('.')?;
            Some((number(step)?, number(task)?))
        };
        let left_out = match without {
            Some(text) => text.split(',').map(pair).collect::<Option<_>>()?,
            None => BTreeSet::new(),
        };
        Some(Self { steps, left_out })
    }
}

/// As options of the command that plays it.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(steps) = &self.steps {
            let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
            write!(f, " --only {}", steps.join(","))?;
        }
        if !self.left_out.is_empty() {
            let tasks = self.left_out.iter().map(|(step, task)| format!("{step}.{task}"));
            write!(f, " --without {}", tasks.collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }
}

/// The steps in the order of their numbers, not of their times.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn new(stage: &Stage) -> Self {
        let mut plan = Self::default();
        for name in 0..stage.names {
            plan.add(stage, 20_000, |_, _| What::WorkerStarts(name));
        }
        for number in 1..=stage.clients {
            let client = ClientId(number as u32);
            // What is done in a new session has to come after the old one.
            let SessionTrouble { outlasts_grace, restarts, .. } = stage.sessions;
            let within_us = if outlasts_grace || restarts { 180_000 } else { 60_000 };
            for _ in 0..stage.graphs * 2 {
                plan.add(stage, within_us, |rng, step| {
                    What::Client(client, deed(rng, stage, step))
                });
            }
        }
        plan.add_misfortunes(stage);
        plan
    }

    /// Adds a step at a random time below `within_us`.
    fn add(&mut self, stage: &Stage, within_us: u64, what: impl FnOnce(&mut Rng, u64) -> What) {
        let number = self.steps.len() as u64;
        let key = mix(mix(stage.seed).wrapping_add(number));
        let mut rng = Rng::new(key);
        let at_us = rng.below(within_us);
        let what = what(&mut rng, number);
        self.steps.push(Step { at_us, key, what });
    }

    fn add_misfortunes(&mut self, stage: &Stage) {
        let trouble = stage.trouble;
        let mut rng = Rng::new(stage.seed ^ 0x0bad_1dea);
        if stage.kills {
            for _ in 0..rng.below(5) {
                self.add_misfortune(stage, |_| Misfortune::Dies);
            }
        }
        if trouble.pauses {
            for _ in 0..rng.below(4) {
                self.add_misfortune(stage, |rng| match rng.below(8) {
                    0..=4 => Misfortune::Pauses(rng.between(5, 250)),
                    5 => Misfortune::SchedulerPauses(rng.between(1, 250)),
                    _ if stage.heartbeats => Misfortune::Freezes,
                    _ => Misfortune::Pauses(rng.between(5, 250)),
                });
            }
        }
        if trouble.clocks {
            for _ in 0..rng.between(1, 3) {
                self.add_misfortune(stage, |rng| {
                    let jump_ms = [rng.between(1, 50), 1_000, 3_600_000][rng.below(3) as usize];
                    match rng.below(3) {
                        0 => Misfortune::SchedulerClockJumps(jump_ms),
                        _ => Misfortune::ClockJumps(jump_ms),
                    }
                });
            }
        }
        if trouble.network {
            for _ in 0..rng.between(1, 5) {
                self.add_misfortune(stage, |rng| network_fault(rng, stage.names));
            }
            if rng.chance(25) {
                self.swizzle(stage, &mut rng);
            }
        }
        self.add_breaks(stage);
        if stage.is_memory_short {
            for _ in 0..stage.names * rng.below(12) {
                self.add_misfortune(stage, |rng| Misfortune::Measures(rng.below(50_000)));
            }
        }
    }

    fn add_breaks(&mut self, stage: &Stage) {
        let SessionTrouble { breaks, outlasts_grace, restarts } = stage.sessions;
        if restarts {
            for _ in 0..Rng::new(stage.seed ^ 0x5c4e_d01e).between(1, 2) {
                self.add(stage, 150_000, |_, _| What::SchedulerRestarts);
            }
        }
        if !breaks {
            return;
        }
        for _ in 0..3 * stage.clients {
            self.add(stage, 80_000, |rng, _| {
                let client = ClientId(rng.between(1, stage.clients) as u32);
                let most_ms = if outlasts_grace && rng.chance(60) { 200 } else { 40 };
                What::Line(client, rng.between(1, most_ms))
            });
        }
    }

    fn add_misfortune(&mut self, stage: &Stage, which: impl FnOnce(&mut Rng) -> Misfortune) {
        self.add(stage, 80_000, |rng, _| {
            let name = rng.below(stage.names);
            What::Worker(name, which(rng))
        });
    }

    /// All links stop one after another, and work again in another order.
    fn swizzle(&mut self, stage: &Stage, rng: &mut Rng) {
        let first_us = rng.below(40_000);
        for name in 0..stage.names {
            let stalls = Misfortune::LinkStalls(Way::Both, rng.between(10, 60));
            self.add(stage, 10_000, |_, _| What::Worker(name, stalls));
            if let Some(step) = self.steps.last_mut() {
                step.at_us += first_us;
            }
        }
    }

    /// Takes out the tasks that a part leaves out, and what the steps that it does not play
    /// would have needed.
    #[must_use]
    pub fn part(mut self, part: &Part) -> Self {
        for (number, step) in self.steps.iter_mut().enumerate() {
            if let What::Client(_, Deed::Submit { nodes, .. }) = &mut step.what {
                leave_out(nodes, |position| part.left_out.contains(&(number, position)));
            }
        }
        self
    }

    /// How many tasks the graph of a step has.
    #[must_use]
    pub fn tasks_of(&self, step: usize) -> usize {
        match self.steps.get(step).map(|step| &step.what) {
            Some(What::Client(_, Deed::Submit { nodes, .. })) => nodes.len(),
            _ => 0,
        }
    }
}

/// Removes tasks; those that need them need what they needed no longer.
fn leave_out(nodes: &mut Vec<Node>, is_out: impl Fn(usize) -> bool) {
    let mut places = Vec::with_capacity(nodes.len());
    let mut kept = 0;
    for position in 0..nodes.len() {
        places.push((!is_out(position)).then_some(kept));
        kept += usize::from(!is_out(position));
    }
    let mut position = 0;
    nodes.retain_mut(|node| {
        node.deps = node.deps.iter().filter_map(|dep| places[*dep]).collect();
        position += 1;
        !is_out(position - 1)
    });
}

fn network_fault(rng: &mut Rng, names: u64) -> Misfortune {
    let ways = [Way::Both, Way::FromWorker, Way::ToWorker];
    match rng.below(10) {
        0..=1 => Misfortune::LinkBreaks,
        2..=4 => Misfortune::LinkStalls(ways[rng.below(3) as usize], rng.between(1, 150)),
        5..=6 => Misfortune::LinkSlows(rng.between(100, 10_000)),
        _ if rng.chance(25) => Misfortune::PartsForGood(rng.below(names)),
        _ => Misfortune::PartsFrom(rng.below(names), rng.between(5, 100)),
    }
}

fn deed(rng: &mut Rng, stage: &Stage, step: u64) -> Deed {
    let trouble = stage.trouble;
    if trouble.retire && rng.chance(6) {
        return Deed::Retire;
    }
    if trouble.restart && rng.chance(6) {
        return Deed::Restart;
    }
    if trouble.calm {
        return if rng.chance(80) { new_graph(rng, stage, step) } else { Deed::Ask };
    }
    if trouble.sharing && rng.chance(40) {
        return Deed::Share;
    }
    match rng.below(100) {
        0..=43 => new_graph(rng, stage, step),
        44..=55 => Deed::SubmitAgain,
        56..=62 => Deed::Release,
        63..=67 => Deed::Pickle,
        68..=73 => Deed::Cancel,
        74..=76 => Deed::Retry,
        77..=78 if stage.clients > 1 => Deed::Vanish,
        79..=82 => Deed::Desire,
        83..=86 if trouble.scatter => Deed::Scatter,
        87..=91 if trouble.collisions => Deed::SubmitColliding,
        92..=93 => Deed::PassFunctions,
        94 => Deed::Ask,
        95 => Deed::Watch,
        96..=98 => Deed::Unpickle,
        _ => Deed::Detach,
    }
}

fn new_graph(rng: &mut Rng, stage: &Stage, step: u64) -> Deed {
    let frame = Frame { tasks: stage.tasks, names: stage.names, first_identity: (step + 1) << 20 };
    let nodes = graph(rng, stage.trouble, frame);
    Deed::Submit { nodes, outside: !stage.trouble.calm && rng.chance(25) }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.3} ms  ", self.at_us as f64 / 1e3)?;
        match &self.what {
            What::WorkerStarts(name) => write!(f, "worker-{name} starts"),
            What::Worker(_, fault @ Misfortune::SchedulerPauses(_))
            | What::Worker(_, fault @ Misfortune::SchedulerClockJumps(_)) => write!(f, "{fault:?}"),
            What::SchedulerRestarts => write!(f, "the scheduler is killed and started again"),
            What::Line(client, ms) => write!(f, "client {client}: no connection for {ms} ms"),
            What::Worker(name, fault) => write!(f, "worker-{name}: {fault:?}"),
            What::Client(client, Deed::Submit { nodes, outside }) => {
                let older = if *outside { ", the first of which uses an older future" } else { "" };
                write!(f, "client {client} submits {} tasks{older}", nodes.len())?;
                nodes.iter().enumerate().try_for_each(|(position, node)| {
                    write!(f, "\n               {position}: {node}")
                })
            }
            What::Client(client, deed) => write!(f, "client {client}: {deed:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_reads_what_it_writes() {
        let part = Part {
            steps: Some([0, 3, 17].into_iter().collect()),
            left_out: [(3, 0), (3, 2)].into_iter().collect(),
        };
        assert_eq!(part.to_string(), " --only 0,3,17 --without 3.0,3.2");
        assert_eq!(Part::parse(Some("0,3,17"), Some("3.0,3.2")), Some(part));
        assert_eq!(Part::parse(None, None), Some(Part::default()));
        assert_eq!(Part::parse(Some("zero"), None), None);
        assert_eq!(Part::parse(None, Some("3")), None);
    }

    #[test]
    fn a_task_that_is_left_out_is_no_input_of_others() {
        let mut rng = Rng::new(7);
        let frame = Frame { tasks: Some(4), names: 1, first_identity: 0 };
        let mut nodes = graph(&mut rng, Trouble::none(), frame);
        for (position, node) in nodes.iter_mut().enumerate() {
            node.deps = (0..position).collect();
        }
        leave_out(&mut nodes, |position| position == 1);
        let deps: Vec<_> = nodes.iter().map(|node| node.deps.clone()).collect();
        assert_eq!(deps, [vec![], vec![0], vec![0, 1]]);
    }
}
