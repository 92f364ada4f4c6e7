//! Events, plugins and logs in a simulated cluster: what operators and tasks do beside the work.

use crate::world::World;
use bytes::Bytes;
use taskloom_proto::client::Question;
use taskloom_proto::control::{
    ControlQuestion, EndSetup, LogRecord, Rebalance, Replicate, Setup, TaskLog,
};
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{Attempt, ClientId, Key, TaskId, WorkerNo};

impl World {
    /// Something that needs no answer; then a question about control.
    pub fn control_something(&mut self, client: ClientId) -> Question {
        let topic = ["all", "news", "transitions"][self.rng.below(3) as usize].to_string();
        let choice = self.rng.below(3);
        if let Some(record) = self.client(client) {
            let (real, topics) = (&record.real.client, vec![topic.clone()]);
            match choice {
                0 => real.subscribe(topics),
                1 => real.unsubscribe(topics),
                _ => real.log_event(topics, Bytes::new()),
            }
            self.carry(client);
        }
        let name = format!("setup-{}", self.rng.below(3));
        let keys = vec![self.some_key(), self.some_key(), Key::from_text("data-0")];
        Question::Control(match self.rng.below(12) {
            8..=9 => {
                let n = self.rng.below(4) as u32;
                ControlQuestion::Replicate(Replicate { keys, n, workers: vec![] })
            }
            10..=11 => ControlQuestion::Rebalance(Rebalance::default()),
            0..=1 => ControlQuestion::Setup(Setup { name, ..Setup::default() }),
            2 => ControlQuestion::EndSetup(EndSetup { name, ..EndSetup::default() }),
            3 => ControlQuestion::Events(Some(topic)),
            4 => ControlQuestion::TaskLogs(vec![self.some_key()]),
            5 => ControlQuestion::SchedulerLog,
            6 => ControlQuestion::Setups,
            _ => ControlQuestion::Dump,
        })
    }

    /// One run in eight writes something.
    pub fn write_log(&mut self, number: WorkerNo, task: TaskId, attempt: Attempt) {
        if task.index.is_multiple_of(8) {
            let records = vec![LogRecord { text: "x\n".into(), ..LogRecord::default() }];
            let log = TaskLog { task, attempt, records };
            self.from_worker(number, WorkerToScheduler::TaskLog(log));
        }
    }
}
