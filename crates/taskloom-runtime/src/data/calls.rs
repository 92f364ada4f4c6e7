//! Calls of actors: from the process that has a proxy to the worker where the actor lives, over
//! the same connections as values.

use super::client::{DataClient, FetchError};
use super::parting::Guest;
use super::pending::{Pending, send};
use super::{COPY_BELOW, take_segments};
use bytes::Bytes;
use std::sync::Arc;
use taskloom_net::Channel;
use taskloom_proto::ErrorInfo;
use taskloom_proto::actor::{ActorCall, ActorLife, ActorReply};
use taskloom_proto::frame::write_frame;
use taskloom_proto::peer::PeerMessage;
use taskloom_types::Key;

/// What is asked of an actor.
#[derive(Debug, Clone, PartialEq)]
pub struct ActorRequest {
    /// [`ActorCall::METHOD`] or [`ActorCall::ATTRIBUTE`].
    pub kind: u8,
    /// Of the method or attribute.
    pub name: String,
    /// Tasks whose results are among the arguments, which name them by position.
    pub deps: Vec<Key>,
    /// The encoded arguments.
    pub segments: Vec<Bytes>,
}

/// What an actor answered.
#[derive(Debug, Clone, PartialEq)]
pub enum ActorAnswer {
    /// The encoded result's segments.
    Value(Vec<Bytes>),
    Raised(ErrorInfo),
    /// That life of the actor is over there, or never was: the call has not begun.
    Gone,
}

/// As [`super::FetchCallback`].
pub type CallCallback = Box<dyn FnOnce(Result<ActorAnswer, FetchError>) + Send>;

impl DataClient {
    /// Calls an actor that lives on the worker at `address`. Calls of one process arrive in the
    /// order of these calls.
    pub fn call(
        &self,
        address: &str,
        actor: ActorLife,
        request: ActorRequest,
        on_reply: CallCallback,
    ) {
        let request = Some(request);
        self.ask(address, Pending::Call(PendingCall { actor, request, on_reply }));
    }
}

pub(super) struct PendingCall {
    actor: ActorLife,
    /// `None` once sent.
    request: Option<ActorRequest>,
    on_reply: CallCallback,
}

impl PendingCall {
    pub(super) fn send(&mut self, number: u64, channel: &Channel) {
        let Some(request) = self.request.take() else { return };
        let ActorRequest { kind, name, deps, segments: data } = request;
        let segments = data.iter().map(|segment| segment.len() as u64).collect();
        let call = ActorCall { request: number, actor: self.actor, kind, name, deps, segments };
        send(channel, &PeerMessage::ActorCall(call), data);
    }

    /// Gives the call back when the answer makes no sense.
    pub(super) fn answer(self, reply: ActorReply, mut data: Bytes) -> Result<(), (Self, String)> {
        let answer = match reply.status {
            ActorReply::OK => match take_segments(&mut data, &reply.segments, COPY_BELOW) {
                Some(segments) => ActorAnswer::Value(segments),
                None => return Err((self, "a result's segments do not match its data".into())),
            },
            ActorReply::RAISED => ActorAnswer::Raised(reply.error.unwrap_or_default()),
            ActorReply::GONE => ActorAnswer::Gone,
            status => return Err((self, format!("an actor's answer of unknown status {status}"))),
        };
        (self.on_reply)(Ok(answer));
        Ok(())
    }

    pub(super) fn fail(self, error: FetchError) {
        (self.on_reply)(Err(error));
    }
}

/// Answers one call. Dropped without an answer, it says that the actor is gone: with
/// [`CallReplier::begin`] that the call may have had effects.
#[derive(Debug)]
pub struct CallReplier {
    guest: Arc<Guest>,
    request: u64,
    has_begun: bool,
    answered: bool,
}

impl CallReplier {
    pub(super) fn new(guest: Arc<Guest>, request: u64) -> Self {
        Self { guest, request, has_begun: false, answered: false }
    }

    /// Asks whether the call may begin; from then on it may have effects. If it may not, this worker
    /// leaves, and the caller makes the call elsewhere.
    #[must_use]
    pub fn begin(&mut self) -> bool {
        self.has_begun = self.guest.begin(self.request);
        self.has_begun
    }

    /// Sends the answer. Writes on the calling thread; never blocks.
    pub fn reply(mut self, answer: ActorAnswer) {
        self.send(answer);
    }

    fn send(&mut self, answer: ActorAnswer) {
        self.answered = true;
        let mut reply = ActorReply { request: self.request, ..ActorReply::default() };
        let mut data = Vec::new();
        match answer {
            ActorAnswer::Value(segments) => {
                reply.segments = segments.iter().map(|segment| segment.len() as u64).collect();
                data = segments;
            }
            ActorAnswer::Raised(error) => {
                reply.status = ActorReply::RAISED;
                reply.error = Some(error);
            }
            ActorAnswer::Gone => reply.status = ActorReply::GONE,
        }
        let total = reply.segments.iter().sum();
        let message = PeerMessage::ActorReply(reply);
        self.guest.answer(self.request, |channel| {
            channel.queue(|queue| {
                queue.append(|out| {
                    write_frame(out, message.kind(), total, |out| message.write_body(out));
                });
                data.into_iter().for_each(|segment| queue.push(segment));
            });
        });
    }
}

impl Drop for CallReplier {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.send(match self.has_begun {
            false => ActorAnswer::Gone,
            true => ActorAnswer::Raised(ErrorInfo {
                type_name: "ActorLostError".into(),
                message: "the actor was released, or its worker was closed, before the call \
                          ended: it may have had effects"
                    .into(),
                ..ErrorInfo::default()
            }),
        });
    }
}
