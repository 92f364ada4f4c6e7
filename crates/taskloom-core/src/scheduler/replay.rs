//! A task's call, given out to be made again elsewhere: for debugging in the client.

use super::Scheduler;
use super::task::{Kind, TaskRecord};
use taskloom_proto::Value;
use taskloom_proto::client::{Answer, Replay};

impl Scheduler {
    /// The call of a task, or of the one whose error it has.
    pub(super) fn replay(&self, ask: &Replay) -> Answer {
        let Some(asked) = self.tasks.find(&ask.key) else {
            return Answer::failed(
                "unknown",
                format!("the scheduler does not know the task {}; hold its future", ask.key),
            );
        };
        let task = &self.tasks[asked];
        if !ask.cause {
            return self.call_of(task);
        }
        let Some(error) = &task.error else {
            return Answer::failed("no-error", format!("the task {} did not fail", ask.key));
        };
        let origin = error.origin.as_ref().and_then(|key| self.tasks.find(key));
        self.call_of(origin.map_or(task, |index| &self.tasks[index]))
    }

    fn call_of(&self, task: &TaskRecord) -> Answer {
        let key = &task.key;
        match task.kind {
            Kind::Call => {}
            Kind::Data => {
                return Answer::failed("no-call", format!("{key} is scattered data, not a call"));
            }
            Kind::Unknown | Kind::Broken => {
                return Answer::failed("no-call", format!("the call of {key} never arrived"));
            }
        }
        let functions: Option<Vec<Value>> = task
            .functions
            .iter()
            .map(|number| Some(Value::Bytes(self.functions.get(*number)?.payload.clone())))
            .collect();
        let Some(functions) = functions else {
            return Answer::failed("no-call", format!("the function of {key} is gone"));
        };
        let inputs = task.deps.iter().map(|dep| Value::Key(self.tasks[*dep].key.clone()));
        Answer::ok(Value::map([
            ("key", Value::Key(key.clone())),
            ("functions", Value::List(functions)),
            ("inputs", Value::List(inputs.collect())),
            ("body", Value::Bytes(bytes::Bytes::copy_from_slice(&task.body))),
        ]))
    }
}
