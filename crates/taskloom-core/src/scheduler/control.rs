//! The questions of those who operate a cluster.

use super::Scheduler;
use taskloom_proto::client::Answer;
use taskloom_proto::control::ControlQuestion;
use taskloom_types::ClientId;

impl Scheduler {
    pub(super) fn on_control(&mut self, client: ClientId, id: u64, question: ControlQuestion) {
        let value = match question {
            ControlQuestion::Setup(setup) => return self.on_setup(client, id, setup),
            ControlQuestion::EndSetup(end) => return self.on_end_setup(client, id, end),
            ControlQuestion::Replicate(order) => return self.on_replicate(client, id, order),
            ControlQuestion::Rebalance(order) => return self.on_rebalance(client, id, &order),
            ControlQuestion::Setups => self.setups.names(),
            ControlQuestion::Events(topic) => self.kept_events(topic.as_ref()),
            ControlQuestion::TaskLogs(keys) => self.logs_of(&keys),
            ControlQuestion::SchedulerLog => self.log_lines(),
            ControlQuestion::Dump => self.dump(client),
        };
        self.answer(client, id, Answer::ok(value));
    }
}
