//! Questions on their way to a peer, and their answers as they come together.

use super::calls::PendingCall;
use super::client::{FetchCallback, FetchError, FetchOutcome, Fetched, PutCallback, Shared};
use super::download::Offer;
use super::parcel::{Abilities, Parcel, Unreadable, unpack};
use super::shards::PendingShards;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use taskloom_net::Channel;
use taskloom_proto::frame::write_frame;
use taskloom_proto::peer::{Fetch, FetchItem, FetchReply, PeerMessage, Put};
use taskloom_proto::rejoin::Named;
use taskloom_types::TaskId;

/// A question without its whole answer.
pub(super) enum Pending {
    Fetch(PendingFetch),
    Put(PendingPut),
    Call(PendingCall),
    Shards(PendingShards),
}

/// An answer about one task.
pub(super) enum Said {
    Outcome(FetchOutcome),
    /// The value is to be asked for in ranges.
    Large(Offer),
}

pub(super) type AnswersCallback = Box<dyn FnOnce(Result<Vec<(TaskId, Said)>, FetchError>) + Send>;

/// Answers that are complete when the last of some large values is here.
pub(super) struct Joint {
    state: Mutex<JointState>,
}

struct JointState {
    answers: Vec<Option<Fetched>>,
    missing: usize,
    /// Taken when it is over.
    on_reply: Option<FetchCallback>,
}

impl Joint {
    pub(super) fn finish(
        client: &Arc<Shared>,
        address: &str,
        said: Vec<(TaskId, Said)>,
        on_reply: FetchCallback,
    ) {
        let mut answers = Vec::with_capacity(said.len());
        let mut large = Vec::new();
        for (at, (task, said)) in said.into_iter().enumerate() {
            answers.push(match said {
                Said::Outcome(outcome) => Some(Fetched { task, outcome }),
                Said::Large(offer) => {
                    large.push((at, offer));
                    None
                }
            });
        }
        if large.is_empty() {
            return on_reply(Ok(answers.into_iter().flatten().collect()));
        }
        let missing = large.len();
        let state = JointState { answers, missing, on_reply: Some(on_reply) };
        let joint = Arc::new(Self { state: Mutex::new(state) });
        for (at, offer) in large {
            let task = offer.task;
            joint.expect(at, task);
            client.download(address, offer, &joint, at);
        }
    }

    /// The answer at this position is a value of that task.
    fn expect(&self, at: usize, task: TaskId) {
        let outcome = FetchOutcome::Value(Vec::new());
        self.state.lock().answers[at] = Some(Fetched { task, outcome });
    }

    /// A value is here. If one cannot be had, none of the answers is of use.
    pub(super) fn add(&self, at: usize, result: Result<Vec<Bytes>, FetchError>) {
        let ended = {
            let mut state = self.state.lock();
            match result {
                Err(error) => state.on_reply.take().map(|on_reply| (on_reply, Err(error))),
                Ok(segments) => {
                    if let Some(Some(fetched)) = state.answers.get_mut(at) {
                        fetched.outcome = FetchOutcome::Value(segments);
                    }
                    state.missing -= 1;
                    match state.missing {
                        0 => {
                            let answers = std::mem::take(&mut state.answers);
                            let answers = answers.into_iter().flatten().collect();
                            state.on_reply.take().map(|on_reply| (on_reply, Ok(answers)))
                        }
                        _ => None,
                    }
                }
            }
        };
        if let Some((on_reply, reply)) = ended {
            on_reply(reply);
        }
    }
}

pub(super) struct PendingFetch {
    pub(super) tasks: Vec<TaskId>,
    pub(super) answers: Vec<Option<Said>>,
    /// Positions that have no answer yet, in the order of the question under way.
    pub(super) open: Vec<usize>,
    /// Shared memory cannot be mapped here.
    pub(super) in_frame: bool,
    /// Segments shorter than this are copied out of the frame.
    pub(super) copy_below: usize,
    pub(super) on_answers: AnswersCallback,
}

pub(super) struct PendingPut {
    pub(super) value: Named,
    pub(super) size_bytes: u64,
    pub(super) segments: Vec<Bytes>,
    /// The peer cannot map shared memory.
    pub(super) in_frame: bool,
    pub(super) on_reply: PutCallback,
}

impl Pending {
    pub(super) fn send(&mut self, request: u64, channel: &Channel) {
        match self {
            Self::Fetch(fetch) => {
                let tasks = fetch.open.iter().map(|&at| fetch.tasks[at]).collect();
                let (in_frame, ranges) = (fetch.in_frame, true);
                let message = PeerMessage::Fetch(Fetch { request, tasks, in_frame, ranges });
                send(channel, &message, Vec::new());
            }
            Self::Put(put) => put.send(request, channel),
            Self::Call(call) => call.send(request, channel),
            Self::Shards(shards) => shards.send(request, channel),
        }
    }

    pub(super) fn fail(self, error: FetchError) {
        match self {
            Self::Fetch(fetch) => (fetch.on_answers)(Err(error)),
            Self::Put(put) => (put.on_reply)(Err(error)),
            Self::Call(call) => call.fail(error),
            Self::Shards(shards) => shards.fail(error),
        }
    }
}

pub(super) fn send(channel: &Channel, message: &PeerMessage, data: Vec<Bytes>) {
    let length = data.iter().map(|segment| segment.len() as u64).sum();
    channel.queue(|queue| {
        queue.append(|out| write_frame(out, message.kind(), length, |out| message.write_body(out)));
        data.into_iter().for_each(|segment| queue.push(segment));
    });
    channel.flush();
}

impl PendingPut {
    fn send(&self, request: u64, channel: &Channel) {
        let abilities = Abilities::of(channel);
        let abilities = if self.in_frame { abilities.in_frame() } else { abilities };
        let mut parcel = Parcel::pack(self.segments.clone(), abilities);
        let message = PeerMessage::Put(Put {
            request,
            value: self.value.clone(),
            size_bytes: self.size_bytes,
            segments: std::mem::take(&mut parcel.lengths),
            layout: parcel.layout.take(),
        });
        channel.queue(|queue| {
            let files = std::mem::take(&mut parcel.files);
            queue.append_with_files(files, |out| {
                write_frame(out, message.kind(), parcel.data_bytes, |out| message.write_body(out));
            });
            parcel.push_data(queue);
        });
        channel.flush();
    }
}

impl PendingFetch {
    pub(super) fn add(
        &mut self,
        reply: &FetchReply,
        mut data: Bytes,
        files: &mut VecDeque<OwnedFd>,
    ) -> Result<(), String> {
        if reply.items.len() != self.open.len() {
            return Err("a reply with the wrong number of items".into());
        }
        let asked = std::mem::take(&mut self.open);
        let asked_for_files = !self.in_frame;
        for (&at, item) in asked.iter().zip(&reply.items) {
            let outcome = match item.status {
                FetchItem::OK => {
                    let layout = item.layout.as_ref();
                    match unpack(&item.segments, layout, self.copy_below, &mut data, files) {
                        Ok(segments) => FetchOutcome::Value(segments),
                        Err(Unreadable::Malformed(reason)) => return Err(reason),
                        Err(Unreadable::Unmappable(_)) => {
                            self.in_frame = true;
                            self.open.push(at);
                            continue;
                        }
                    }
                }
                FetchItem::LARGE => {
                    let (task, transfer) = (self.tasks[at], item.transfer);
                    let lengths = item.segments.clone();
                    self.answers[at] = Some(Said::Large(Offer { task, transfer, lengths }));
                    continue;
                }
                FetchItem::MISSING => FetchOutcome::Missing,
                FetchItem::FAILED => FetchOutcome::Failed(item.error.clone().unwrap_or_default()),
                FetchItem::LATER => {
                    self.open.push(at);
                    continue;
                }
                status => return Err(format!("an item of unknown status {status}")),
            };
            self.answers[at] = Some(Said::Outcome(outcome));
        }
        match self.open.len() == asked.len() && !asked.is_empty() && !asked_for_files {
            true => Err("a reply without a single item".into()),
            false => Ok(()),
        }
    }
}
