//! What running tasks write: gathered per run, sent soon, always before the news of the run's end.
//!
//! The first line is sent at once, so that it is known even if the next instruction ends the
//! process; later ones wait a little for company. A run that writes faster than that is sent keeps
//! the newest part; what is dropped is counted.

use super::WorkerShell;
use super::outbox::Outbox;
use super::values::LocalObject;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use taskloom_proto::control::{LogEvent, LogRecord, TaskLog};
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{Attempt, Nanos, TaskId};

/// Pieces closer together than this travel together.
const PAUSE: Duration = Duration::from_millis(50);

/// What one run may have unsent, in bytes.
const MAX_UNSENT: usize = 64 * 1024;

/// Runs that may have something unsent; more than that is sent at once.
const MAX_RUNS: usize = 1024;

/// What a record costs beside its text.
const OVERHEAD: usize = 32;

/// Records of a run that were not sent yet.
#[derive(Debug, Default)]
struct Unsent {
    records: VecDeque<LogRecord>,
    bytes: usize,
    dropped_bytes: u64,
}

impl Unsent {
    fn add(&mut self, record: LogRecord) {
        self.bytes += record.text.len();
        match self.records.back_mut() {
            // One `print` writes many pieces.
            Some(last) if can_join(last, &record) => last.text.push_str(&record.text),
            _ => {
                self.bytes += OVERHEAD;
                self.records.push_back(record);
            }
        }
        while self.bytes > MAX_UNSENT && self.records.len() > 1 {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.text.len() + OVERHEAD;
            self.dropped_bytes += oldest.dropped_bytes + oldest.text.len() as u64;
        }
    }

    fn take(self) -> Vec<LogRecord> {
        let mut records = Vec::from(self.records);
        if let Some(first) = records.first_mut() {
            first.dropped_bytes += self.dropped_bytes;
        }
        records
    }
}

/// Pieces of one stream, unless they get large: the bound drops whole records.
fn can_join(last: &LogRecord, next: &LogRecord) -> bool {
    const LARGE: usize = 4096;
    last.stream == next.stream && last.stream != LogRecord::LOG && last.text.len() < LARGE
}

/// What all runs have unsent.
#[derive(Debug, Default)]
pub(super) struct TaskLogs {
    /// Whether there is something: looked at at the end of every run.
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    unsent: BTreeMap<(TaskId, Attempt), Unsent>,
    last_sent: Option<Nanos>,
    timer: bool,
}

/// What the caller has to do after adding.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    SendNow,
    StartTimer,
    Nothing,
}

impl TaskLogs {
    fn add(&self, now: Nanos, run: (TaskId, Attempt), mut record: LogRecord) -> Next {
        cut_front(&mut record, MAX_UNSENT / 2);
        // `print` writes a line in pieces: a line that is not complete waits for its end.
        let is_complete = record.stream == LogRecord::LOG || record.text.ends_with('\n');
        let mut state = self.state.lock();
        state.unsent.entry(run).or_default().add(record);
        self.any.store(true, Ordering::Release);
        let pause = PAUSE.as_nanos() as u64;
        let is_first = state.last_sent.is_none_or(|at| now.since(at) > pause);
        if is_first && is_complete || state.unsent.len() > MAX_RUNS {
            state.last_sent = Some(now);
            Next::SendNow
        } else if std::mem::replace(&mut state.timer, true) {
            Next::Nothing
        } else {
            Next::StartTimer
        }
    }

    /// Moves all of it to the messages that go next. Call it under the worker's lock and before the
    /// news of a run's end: afterwards the scheduler may know the task no more.
    pub(super) fn move_to(&self, now: Nanos, outbox: &mut Outbox) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        self.any.store(false, Ordering::Release);
        state.last_sent = Some(now);
        for ((task, attempt), unsent) in std::mem::take(&mut state.unsent) {
            let bytes = unsent.bytes;
            let log = TaskLog { task, attempt, records: unsent.take() };
            outbox.push_unhurried(now, WorkerToScheduler::TaskLog(log), bytes);
        }
    }
}

/// Keeps the end of a text that is too long.
fn cut_front(record: &mut LogRecord, limit: usize) {
    if record.text.len() > limit {
        let from = record.text.len() - limit;
        let from = (from..record.text.len()).find(|at| record.text.is_char_boundary(*at));
        let from = from.unwrap_or(record.text.len());
        record.dropped_bytes += from as u64;
        record.text.drain(..from);
    }
}

impl<O: LocalObject> WorkerShell<O> {
    /// A run wrote something.
    pub fn log_task(&self, run: (TaskId, Attempt), record: LogRecord) {
        match self.logs.add(self.now(), run, record) {
            Next::SendNow => self.send_logs(),
            Next::Nothing => {}
            Next::StartTimer => {
                let me = self.me.clone();
                let _ = self.io.after(PAUSE, move || {
                    if let Some(me) = me.upgrade() {
                        me.logs.state.lock().timer = false;
                        me.send_logs();
                    }
                });
            }
        }
    }

    fn send_logs(&self) {
        let now = self.now();
        self.logs.move_to(now, &mut self.state.lock().outbox);
        self.flush();
    }

    /// Records an event under these topics.
    pub fn log_event(&self, topics: Vec<String>, payload: Bytes) {
        let event = WorkerToScheduler::LogEvent(LogEvent { topics, payload });
        self.state.lock().outbox.push(event);
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: (TaskId, Attempt) = (TaskId { index: 1, generation: 0 }, 1);

    fn record(stream: u8, text: &str) -> LogRecord {
        LogRecord { stream, text: text.into(), ..LogRecord::default() }
    }

    fn sent(logs: &TaskLogs, now: u64) -> Vec<TaskLog> {
        let mut outbox = Outbox::default();
        logs.move_to(Nanos(now), &mut outbox);
        let log = |message| match message {
            WorkerToScheduler::TaskLog(log) => log,
            other => panic!("{other:?}"),
        };
        outbox.take().into_iter().map(log).collect()
    }

    #[test]
    fn the_first_line_is_sent_at_once_and_the_next_ones_together() {
        let logs = TaskLogs::default();
        let pause = PAUSE.as_nanos() as u64;
        assert_eq!(logs.add(Nanos(1), RUN, record(0, "a")), Next::StartTimer);
        assert_eq!(logs.add(Nanos(1), RUN, record(0, "\n")), Next::SendNow);
        logs.state.lock().timer = false;
        assert_eq!(sent(&logs, 1).len(), 1);
        assert_eq!(logs.add(Nanos(2), RUN, record(0, "b")), Next::StartTimer);
        assert_eq!(logs.add(Nanos(3), RUN, record(0, "c")), Next::Nothing);
        let log = sent(&logs, 4).remove(0);
        assert_eq!(log.records, [record(0, "bc")]);
        assert!(sent(&logs, 5).is_empty());
        logs.state.lock().timer = false;
        assert_eq!(logs.add(Nanos(10 + pause), RUN, record(0, "d\n")), Next::SendNow);
    }

    #[test]
    fn streams_and_log_records_keep_their_order_and_stay_apart() {
        let logs = TaskLogs::default();
        for (stream, text) in [(0, "a"), (1, "b"), (1, "c"), (2, "d"), (2, "e")] {
            logs.add(Nanos(1), RUN, record(stream, text));
        }
        let log = sent(&logs, 2).remove(0);
        let expected = [record(0, "a"), record(1, "bc"), record(2, "d"), record(2, "e")];
        assert_eq!(log.records, expected);
    }

    #[test]
    fn a_run_that_writes_too_fast_keeps_the_newest_part_and_counts_the_rest() {
        let logs = TaskLogs::default();
        let line = "x".repeat(1000);
        (0..200).for_each(|n| {
            logs.add(Nanos(n), RUN, record(0, &line));
        });
        let log = sent(&logs, 300).remove(0);
        let kept: usize = log.records.iter().map(|record| record.text.len()).sum();
        assert!(kept <= MAX_UNSENT);
        assert_eq!(kept as u64 + log.records[0].dropped_bytes, 200_000);
    }

    #[test]
    fn a_text_that_is_too_long_keeps_its_end_at_a_character() {
        let mut long = record(0, &"é".repeat(10));
        cut_front(&mut long, 5);
        assert_eq!((long.text.as_str(), long.dropped_bytes), ("éé", 16));
    }
}
