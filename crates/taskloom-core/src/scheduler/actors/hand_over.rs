//! Actors of workers that leave in order: the worker gives the last state, and only then is the
//! actor made elsewhere. What it cannot give in time is made again from the last snapshot.

use super::super::Scheduler;
use super::super::task::State;
use super::super::worker_table::WorkerSlot;
use super::{ActorRecord, Watch, remove_from};
use taskloom_proto::Body;
use taskloom_proto::actor::{ActorLife, ActorNews, MAX_SNAPSHOT_BYTES};
use taskloom_proto::client::{Notice, SchedulerToClient};
use taskloom_proto::hand_over::{ActorHandedOver, HandOverActor};
use taskloom_proto::worker::SchedulerToWorker;
use taskloom_types::{ClientId, Nanos, WorkerNo};

/// How far an orderly move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Move {
    #[default]
    None,
    /// The worker that leaves was asked for the last state.
    Asked,
    /// It has ended all calls, and the actor is made elsewhere. Those who watch hear of it when
    /// it lives again: their calls are answered by the old place, be it that they did not begin.
    UnderWay { from: WorkerNo, until: Nanos },
}

impl Scheduler {
    /// Asks a worker that leaves for the actors that can be made elsewhere. Returns whether some
    /// are still to be handed over. What was made since the last time is found by calling again.
    pub(in super::super) fn ask_for_actors(&mut self, slot: WorkerSlot) -> bool {
        if self.workers[slot].actors == 0 || self.workers[slot].ends_with_all {
            return false;
        }
        let to_hand_over = |index: &u32| {
            let record = self.actors.records.get(index)?;
            let is_there = record.has_snapshot && self.lives_on(*index, slot);
            is_there.then_some((*index, record.moving))
        };
        let here = self.actors.by_place.get(&slot);
        let found: Vec<(u32, Move)> = here.into_iter().flatten().filter_map(to_hand_over).collect();
        let until = self.now.after(self.config.hand_over_ns);
        for (index, _) in found.iter().filter(|(_, moving)| *moving == Move::None) {
            let actor = self.life(*index);
            self.actors.hand_overs.push_back((until, actor));
            self.set_move(*index, Move::Asked);
            let message = SchedulerToWorker::HandOverActor(HandOverActor { actor });
            self.outbox.send_worker(&mut self.workers[slot], message);
            self.tell_of_move(*index);
        }
        !found.is_empty()
    }

    /// Whether actors that this worker gave away are being made. Until they are there it answers
    /// calls that reach it late.
    pub(in super::super) fn awaits_successors(&self, number: WorkerNo) -> bool {
        let is_awaited = |index: &u32| {
            let moving = self.actors.records.get(index).map(|record| record.moving);
            let is_in_time =
                matches!(moving, Some(Move::UnderWay { until, .. }) if self.now < until);
            is_in_time && self.tasks[*index].state == State::Processing
        };
        self.actors.by_origin.get(&number).is_some_and(|given| given.iter().any(is_awaited))
    }

    /// Those who watch are to send no more calls to the old place.
    fn tell_of_move(&mut self, index: u32) {
        let Some(record) = self.actors.records.get(&index) else { return };
        for Watch { client, number, .. } in record.watches.clone() {
            let news = ActorNews { number, state: ActorNews::MOVING, ..ActorNews::default() };
            self.send_news(client, news);
        }
    }

    /// Whether an actor's worker may leave without an end of the actor.
    pub(in super::super) fn can_be_handed_over(&self, index: u32) -> bool {
        self.actors.records.get(&index).is_some_and(|record| record.has_snapshot)
    }

    pub(super) fn moves_in_order(&self, index: u32) -> bool {
        self.actors.records.get(&index).is_some_and(|record| record.moving != Move::None)
    }

    /// Notes how far an actor's move is. Call at each change.
    pub(super) fn set_move(&mut self, index: u32, moving: Move) {
        let Some(record) = self.actors.records.get_mut(&index) else { return };
        if let Move::UnderWay { from, .. } = std::mem::replace(&mut record.moving, moving) {
            remove_from(&mut self.actors.by_origin, from, index);
        }
        if let Move::UnderWay { from, .. } = moving {
            self.actors.by_origin.entry(from).or_default().insert(index);
        }
    }

    /// The life, if it is still to be handed over.
    fn asked(&self, actor: ActorLife) -> Option<(u32, WorkerSlot)> {
        let index = self.tasks.get(actor.task)?;
        let record = self.actors.records.get(&index)?;
        let is_meant = record.moving == Move::Asked && self.life(index) == actor;
        is_meant.then_some((index, record.place))
    }

    /// The last state of an actor, or the word that there is none.
    pub(in super::super) fn on_actor_handed_over(
        &mut self,
        slot: WorkerSlot,
        last: ActorHandedOver,
    ) {
        let ActorHandedOver { actor, state, error } = last;
        let Some((index, _)) = self.asked(actor).filter(|(_, place)| *place == slot) else {
            self.counters.stale_messages += 1;
            return;
        };
        if !error.is_empty() {
            self.warn_of_old_snapshot(index, &error);
        } else if state.len() > MAX_SNAPSHOT_BYTES {
            self.warn_of_old_snapshot(index, "the worker gave more than a snapshot may take");
        } else {
            self.tasks[index].body = Body::from_slice(&state);
        }
        let until = self.now.after(self.config.hand_over_ns);
        let from = self.workers[slot].number;
        self.set_move(index, Move::UnderWay { from, until });
        self.drop_copies(index);
        self.lose_result(index);
        self.run_steps();
    }

    /// Actors that were not handed over in time are made from what there is. Calls that go on
    /// there may have any effect: their callers are told.
    pub(in super::super) fn end_overdue_hand_overs(&mut self) {
        while let Some((at, actor)) = self.actors.hand_overs.front().copied() {
            let asked = self.asked(actor);
            if at > self.now && asked.is_some() {
                return;
            }
            self.actors.hand_overs.pop_front();
            let Some((index, _)) = asked else { continue };
            let within_s = self.config.hand_over_ns as f64 / 1e9;
            let why = format!("its calls did not end within {within_s} s");
            self.give_up_hand_over(index, &why);
            self.drop_copies(index);
            self.lose_result(index);
            self.tell_watchers(index);
        }
    }

    /// The last snapshot is all that there will be.
    pub(super) fn give_up_hand_over(&mut self, index: u32, why: &str) {
        let record = self.actors.records.get(&index);
        if record.is_some_and(|record| record.moving == Move::Asked) {
            self.set_move(index, Move::None);
            self.warn_of_old_snapshot(index, why);
        }
    }

    /// Tells those who hold the actor that calls which were answered may be forgotten.
    fn warn_of_old_snapshot(&mut self, index: u32, why: &str) {
        let key = &self.tasks[index].key;
        let text = format!(
            "the actor {key} moves from a worker that leaves and is restarted from its last \
             snapshot, which may lack the last calls: {why}"
        );
        self.log("WARNING", text.clone());
        let mut clients: Vec<ClientId> =
            self.tasks[index].wants.iter().map(|want| want.client).collect();
        clients.sort_unstable();
        clients.dedup();
        for client in clients {
            let Some(record) = self.clients.get_mut(&client) else { continue };
            let message = SchedulerToClient::Notice(Notice { message: text.clone() });
            self.outbox.send_client(client, &mut record.last_action, message);
        }
    }

    /// The two indices hold each actor where its record says, and nothing else.
    pub(super) fn validate_places(&self) -> Result<(), String> {
        let places = self.actors.by_place.iter();
        let placed: usize = places.clone().map(|(_, set)| set.len()).sum();
        let is_right = |slot: &WorkerSlot, index: &u32| {
            self.actors.records.get(index).is_some_and(|record| record.place == *slot)
        };
        let all_right = places.clone().all(|(slot, set)| set.iter().all(|i| is_right(slot, i)));
        let expected =
            self.actors.records.values().filter(|record| record.place != WorkerSlot::NONE);
        if !all_right || placed != expected.count() {
            return Err("the actors by their places are not those of the records".into());
        }
        let mut given = 0;
        for (number, set) in &self.actors.by_origin {
            for index in set {
                let moving = self.actors.records.get(index).map(|record| record.moving);
                if !matches!(moving, Some(Move::UnderWay { from, .. }) if from == *number) {
                    return Err(format!("{index} is kept as given away by {number:?}, and is not"));
                }
                given += 1;
            }
        }
        let under_way = |record: &&ActorRecord| matches!(record.moving, Move::UnderWay { .. });
        match self.actors.records.values().filter(under_way).count() == given {
            true => Ok(()),
            false => Err("an actor that was given away is not kept as such".into()),
        }
    }

    pub(super) fn validate_move(&self, index: u32, record: &ActorRecord) -> Result<(), String> {
        let task = &self.tasks[index];
        let broken = |what: &str| Err(format!("actor {} ({:?}): {what}", task.key, task.state));
        match record.moving {
            Move::None => Ok(()),
            Move::UnderWay { .. } if task.state == State::Memory => {
                broken("it is there, and yet moves")
            }
            Move::UnderWay { .. } => Ok(()),
            Move::Asked if task.state != State::Memory || !record.has_snapshot => {
                broken("it is to be handed over, and there is nothing to hand over")
            }
            Move::Asked if self.workers.get(record.place).is_none_or(|w| !w.leaving) => {
                broken("it is to be handed over by a worker that stays")
            }
            Move::Asked => {
                let life = self.life(index);
                match self.actors.hand_overs.iter().any(|(_, actor)| *actor == life) {
                    true => Ok(()),
                    false => broken("it is waited for without an end"),
                }
            }
        }
    }
}
