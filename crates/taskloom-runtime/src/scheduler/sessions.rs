//! The accepting side of sessions: connections break, and others take their place.

use super::probe::Probe;
use super::server::{Party, Server, SessionTimes, Way, member};
use crate::session::LOOKS;
use std::sync::Arc;
use taskloom_core::scheduler::Event;
use taskloom_net::{Channel, Control, log};
use taskloom_proto::handshake::Role;
use taskloom_types::WorkerNo;

/// A session's name holds its party's number.
pub(super) fn number_of(session: u64) -> u32 {
    session as u32
}

impl Server {
    /// Whether a session can go on with a new connection, whose other side has received it up to
    /// `position`: then gives how many bytes of it were received here.
    ///
    /// # Errors
    /// Why not, for people.
    pub(super) fn prepare_resume(
        &mut self,
        role: Role,
        session: u64,
        position: u64,
    ) -> Result<u64, String> {
        let number = number_of(session);
        let is_it = |party: &&mut Party| party.session == session && party.role == role;
        let Some(party) = self.parties.get_mut(&number).filter(is_it) else {
            return Err("its session is over: it was away for too long, or fell silent".into());
        };
        if let Way::Socket(channel) = &party.way {
            // The other side saw the connection break first.
            let channel = channel.clone();
            channel.lose("another connection goes on with its session");
            self.lose_connection(number, &channel, "another connection goes on with its session");
        }
        let Some(Party { way: Way::Away(queue, received), .. }) = self.parties.get_mut(&number)
        else {
            return Err("its session has just ended".into());
        };
        let received = *received;
        if let Err(reason) = queue.rewind(position) {
            self.leave(number, &reason);
            return Err(reason);
        }
        Ok(received)
    }

    /// A prepared session goes on over this connection.
    pub(super) fn go_on(&mut self, number: u32, channel: &Arc<Channel>) {
        let Some(party) = self.parties.get_mut(&number) else {
            return channel.abort("its session has just ended");
        };
        let before = std::mem::replace(&mut party.way, Way::Socket(channel.clone()));
        if let Way::Away(queue, received) = before {
            channel.start_session(queue, received);
        }
        let member = member(party.role, number);
        channel.flush();
        self.handle(Event::Back(member));
    }

    /// A connection is gone. Its session waits for another one, unless that makes no sense.
    pub(super) fn lose_connection(&mut self, number: u32, channel: &Arc<Channel>, reason: &str) {
        let Some(party) = self.parties.get_mut(&number) else { return };
        if !matches!(&party.way, Way::Socket(current) if Arc::ptr_eq(current, channel)) {
            return;
        }
        let may_return = !self.sessions.grace.is_zero() && !channel.stream().is_local();
        let queue = channel.take_session().filter(|_| may_return);
        let Some(queue) = queue else { return self.leave(number, reason) };
        party.way = Way::Away(queue, channel.received());
        let role = party.role;
        if role == Role::Worker {
            self.doubtful.push(WorkerNo(number));
        }
        self.handle(Event::Away(member(role, number)));
    }

    /// Ends a session without a word.
    pub(super) fn cut(&mut self, number: u32, reason: &str) {
        let Some(party) = self.parties.get(&number) else { return };
        match &party.way {
            Way::Socket(channel) => {
                let channel = channel.clone();
                self.parties.remove(&number);
                channel.lose(reason);
            }
            _ => self.leave(number, reason),
        }
    }

    /// Has an eye on connections that are silent, and on workers whose connections broke.
    pub(super) fn watch_sessions(&mut self, control: &Control<Self>) {
        if !std::mem::replace(&mut self.is_watching, true) {
            let period = self.sessions.silence / LOOKS;
            let look = |server: &mut Self, _: &mut Control<Self>| server.look_at_sessions();
            control.remote().add_timer(period, Some(period), look);
        }
        for number in std::mem::take(&mut self.doubtful) {
            if let Some(address) = self.core.worker_address(number) {
                Probe::start(number, address, control.remote());
            }
        }
    }

    fn look_at_sessions(&self) {
        let SessionTimes { silence, .. } = self.sessions;
        // Of workers, whose reports the core awaits, it is the judge.
        for party in self.parties.values().filter(|party| party.role != Role::Worker) {
            if let Way::Socket(channel) = &party.way
                && channel.look() >= LOOKS
            {
                channel.lose(&format!("nothing was heard from it for {silence:?}"));
            }
        }
    }

    /// Nobody listens where a worker served its data: its process has ended.
    pub(super) fn on_worker_refuses(&mut self, number: WorkerNo) {
        let is_away = |party: &Party| matches!(party.way, Way::Away(..));
        if self.parties.get(&number.0).is_some_and(is_away) {
            log::report(&format!("worker {number} has ended: its data port is closed"));
            self.leave(number.0, "its process has ended");
        }
    }
}
