//! The wire: what taskloom's processes say to each other, and how it becomes bytes.
//!
//! - [`wire`]: the codec, one trait and two macros; a message is written once, as a type.
//! - [`frame`]: cutting a byte stream into bounded frames.
//! - [`handshake`]: version and token, proved both ways before anything else is read.
//! - [`coordination`]: what clients ask of locks, queues and other shared objects.
//! - [`client`], [`worker`], [`peer`], [`supervisor`]: the messages of each kind of connection;
//!   [`actor`]: those about actors; [`transfer`]: how values lie in frames and in shared memory.
//! - [`parting`], [`hand_over`]: how workers leave in order; [`gone`]: that one has gone.
//! - [`control`]: those about events, plugins and logs, on the connections of clients and workers.
//! - [`policy`]: what few tasks ask for, and interrupts; [`memory`]: what workers say of theirs.
//! - [`session`]: how a session outlives its connection; [`rejoin`]: what is left of one that did
//!   not.
//! - [`relay`]: how a client gets at a worker that it cannot reach.
//!
//! Nothing here does IO. Bytes from a peer never cause a panic: they are a message or a
//! [`wire::DecodeError`]. The rules for changing a message are in `docs/design/wire.md`.
#![forbid(unsafe_code)]

pub mod actor;
pub mod client;
pub mod control;
pub mod coordination;
pub mod frame;
pub mod gone;
pub mod hand_over;
pub mod handshake;
pub mod memory;
pub mod parting;
pub mod peer;
pub mod policy;
pub mod rejoin;
pub mod relay;
pub mod session;
pub mod shards;
pub mod shared;
pub mod small;
pub mod supervisor;
pub mod transfer;
pub mod value;
pub mod wire;
pub mod worker;

pub use shared::{Body, ErrorInfo, ExitKind, ExitReason, TaskOptions};
pub use small::SmallBytes;
pub use value::Value;
