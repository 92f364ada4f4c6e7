//! Results that name others. A shuffle's inputs are files of the workers that wrote them
//! ([`TaskSpec::LOCAL`]), and its barrier's result says where all of them are
//! ([`TaskSpec::KEEPS_INPUTS`]): the readers depend on the barrier alone, so that the graph has as
//! many edges as it has tasks.
//!
//! As long as such a list of names is in memory, what it names is: it keeps its inputs needed, and
//! when one of them is lost it is lost with it. Both are made again, and of the inputs only what
//! was lost.

use super::Scheduler;
use super::task::State;
use taskloom_proto::client::TaskSpec;

impl Scheduler {
    /// Whether the result names what only its first holder has.
    pub(super) fn is_local(&self, index: u32) -> bool {
        self.tasks[index].flags & TaskSpec::LOCAL != 0
    }

    /// Whether the result, once made, needs those of its inputs.
    pub(super) fn keeps_inputs(&self, index: u32) -> bool {
        self.tasks[index].flags & TaskSpec::KEEPS_INPUTS != 0
    }

    /// An input of a result that names it is gone.
    pub(super) fn lose_with_input(&mut self, index: u32) {
        if self.tasks[index].state == State::Memory {
            self.drop_copies(index);
            self.lose_result(index);
        }
    }

    /// Whether a task goes with an input that is dropped: it still is to be made from it, or its
    /// result names that input, which is lost.
    pub(super) fn is_nothing_without(&self, index: u32, is_input_lost: bool) -> bool {
        let names_it = self.keeps_inputs(index) && self.tasks[index].state == State::Memory;
        self.tasks[index].state.is_active() || (names_it && is_input_lost)
    }

    /// Whether a run that ended has seen an input that was lost meanwhile.
    pub(super) fn names_what_is_gone(&self, index: u32) -> bool {
        self.keeps_inputs(index) && self.tasks[index].waiting_on > 0
    }

    /// # Errors
    /// A list of names without what it names.
    pub(super) fn validate_naming(&self, index: u32) -> Result<(), String> {
        let task = &self.tasks[index];
        let has_all = || task.deps.iter().all(|dep| self.tasks[*dep].state == State::Memory);
        match self.keeps_inputs(index) && task.state == State::Memory && !has_all() {
            true => Err(format!("{} names results that are gone", task.key)),
            false => Ok(()),
        }
    }
}
