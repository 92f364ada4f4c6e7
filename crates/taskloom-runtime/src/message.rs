//! Message enums of the wire as one trait, so that links are written once.

use bytes::Bytes;
use taskloom_proto::client::{ClientToScheduler, SchedulerToClient};
use taskloom_proto::frame::write_frame;
use taskloom_proto::handshake::Role;
use taskloom_proto::supervisor::{SchedulerToSupervisor, SupervisorToScheduler};
use taskloom_proto::wire::DecodeError;
use taskloom_proto::worker::{SchedulerToWorker, WorkerToScheduler};

/// One direction of a connection.
pub trait Message: Sized + Send + 'static {
    fn write_frame(&self, out: &mut Vec<u8>);
    fn read(kind: u8, body: &Bytes) -> Result<Self, DecodeError>;
}

/// What a party says to its scheduler.
pub trait ToScheduler: Message {
    const ROLE: Role;
    /// What the scheduler says to it.
    type Reply: Message;
}

macro_rules! messages {
    ($($name:ident),*) => {$(
        impl Message for $name {
            fn write_frame(&self, out: &mut Vec<u8>) {
                write_frame(out, self.kind(), 0, |out| self.write_body(out));
            }
            fn read(kind: u8, body: &Bytes) -> Result<Self, DecodeError> {
                Self::read_body(kind, body)
            }
        }
    )*};
}
messages!(
    ClientToScheduler,
    SchedulerToClient,
    WorkerToScheduler,
    SchedulerToWorker,
    SupervisorToScheduler,
    SchedulerToSupervisor
);

impl ToScheduler for ClientToScheduler {
    const ROLE: Role = Role::Client;
    type Reply = SchedulerToClient;
}

impl ToScheduler for WorkerToScheduler {
    const ROLE: Role = Role::Worker;
    type Reply = SchedulerToWorker;
}

impl ToScheduler for SupervisorToScheduler {
    const ROLE: Role = Role::Supervisor;
    type Reply = SchedulerToSupervisor;
}
