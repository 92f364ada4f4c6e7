//! All that the scheduler knows, as plain data: for bug reports.

use super::Scheduler;
use super::task::{TaskRecord, mark};
use taskloom_proto::Value;
use taskloom_proto::client::Question;
use taskloom_types::ClientId;

impl Scheduler {
    pub(super) fn dump(&self, client: ClientId) -> Value {
        let task = |index: u32| {
            let task = &self.tasks[index];
            (Value::Key(task.key.clone()), self.dump_task(task))
        };
        let named = |index: &u32| !self.tasks[*index].has(mark::SHADOWED);
        let tasks = self.tasks.iter().filter(named).map(task).collect();
        let ask = |question| self.look_up(client, question).value;
        Value::map([
            ("scheduler", ask(Question::SchedulerInfo)),
            ("counters", ask(Question::Counters)),
            ("tasks", Value::Map(tasks)),
            ("processing", ask(Question::Processing(vec![]))),
            ("setups", self.setups.names()),
            ("events", self.scheduler_events()),
            ("log", self.log_lines()),
        ])
    }

    /// Only the scheduler's own: others are opaque.
    fn scheduler_events(&self) -> Value {
        self.kept_events(Some(&"all".to_string()))
    }

    fn dump_task(&self, task: &TaskRecord) -> Value {
        let keys = |indices: &[u32]| {
            Value::List(indices.iter().map(|i| Value::Key(self.tasks[*i].key.clone())).collect())
        };
        let addresses = task.replicas.iter().filter_map(|slot| self.workers.get(*slot));
        let who_has = addresses.map(|worker| Value::from(worker.info.address.clone())).collect();
        let worker = self.workers.get(task.worker).map(|worker| worker.info.address.clone());
        let wanted_by = task.wants.iter().filter_map(|want| self.clients.get(&want.client));
        let wanted_by = wanted_by.map(|client| Value::from(client.name.clone())).collect();
        let error = task.error.as_ref();
        let error = error.map(|error| format!("{}: {}", error.type_name, error.message));
        Value::map([
            ("state", Value::from(task.state.name())),
            ("attempt", Value::from(task.attempt)),
            ("priority", Value::from(format!("{:?}", task.priority))),
            ("dependencies", keys(&task.deps)),
            ("waiting_on", Value::from(task.waiting_on)),
            ("waiters", Value::from(task.waiters)),
            ("wanted_by", Value::List(wanted_by)),
            ("who_has", Value::List(who_has)),
            ("processing_on", worker.map_or(Value::Null, Value::from)),
            ("nbytes", Value::from(task.size_bytes)),
            ("retries", Value::from(task.retries_left)),
            ("suspicious", Value::from(u32::from(task.suspicions))),
            ("error", error.map_or(Value::Null, Value::from)),
        ])
    }
}
