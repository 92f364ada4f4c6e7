//! What runs of tasks wrote: kept by key, beyond the end of the task and of its worker.

use super::Scheduler;
use super::journal::{Journal, Limits};
use super::worker_table::WorkerSlot;
use taskloom_proto::Value;
use taskloom_proto::control::{LogRecord, TaskLog};
use taskloom_types::{Attempt, Key, TaskId};

const LIMITS: Limits = Limits { records: 4096, bytes: 256 * 1024, total_bytes: 64 * 1024 * 1024 };

/// A longer text is cut: workers send less at a time.
const MAX_TEXT: usize = 128 * 1024;

#[derive(Debug)]
struct Entry {
    task: TaskId,
    attempt: Attempt,
    worker: String,
    record: LogRecord,
}

#[derive(Debug)]
pub struct TaskLogs {
    kept: Journal<Key, Entry>,
}

impl Default for TaskLogs {
    fn default() -> Self {
        Self { kept: Journal::new(LIMITS) }
    }
}

impl TaskLogs {
    /// # Errors
    /// A bound or a sum is wrong.
    pub fn validate(&self) -> Result<(), String> {
        self.kept.validate()
    }
}

impl Scheduler {
    pub(super) fn on_task_log(&mut self, slot: WorkerSlot, log: TaskLog) {
        let Some(index) = self.tasks.get(log.task) else {
            self.counters.stale_messages += 1;
            return;
        };
        let key = self.tasks[index].key.clone();
        let is_of_other_work =
            self.task_logs.kept.of(&key).next().is_some_and(|entry| entry.task != log.task);
        if is_of_other_work {
            self.task_logs.kept.forget(&key);
        }
        let worker = &self.workers[slot].info.address;
        for mut record in log.records {
            cut(&mut record.text, MAX_TEXT);
            cut(&mut record.logger, 1024);
            let bytes = record.text.len() + record.logger.len() + worker.len();
            let worker = worker.clone();
            let entry = Entry { task: log.task, attempt: log.attempt, worker, record };
            self.task_logs.kept.write(&key, bytes, entry);
        }
    }

    pub(super) fn logs_of(&self, keys: &[Key]) -> Value {
        let of = |key: &Key| {
            let rows = self.task_logs.kept.of(key).map(describe).collect();
            (Value::Key(key.clone()), Value::List(rows))
        };
        Value::Map(keys.iter().map(of).collect())
    }
}

fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

fn describe(entry: &Entry) -> Value {
    let record = &entry.record;
    let stream = match record.stream {
        LogRecord::STDOUT => "stdout",
        LogRecord::STDERR => "stderr",
        _ => "log",
    };
    Value::map([
        ("stream", Value::from(stream)),
        ("time", Value::from(record.time_s)),
        ("level", Value::from(record.level)),
        ("logger", Value::from(record.logger.clone())),
        ("text", Value::from(record.text.clone())),
        ("worker", Value::from(entry.worker.clone())),
        ("attempt", Value::from(entry.attempt)),
        ("dropped_bytes", Value::from(record.dropped_bytes)),
    ])
}
