//! Sockets: where to connect ([`address`]), who may ([`token`]), and one event loop for all roles.
//!
//! - [`event_loop`]: one thread, many [`event_loop::Handler`]s, timers, commands from outside.
//! - [`channel`]: the sending half of a connection; any thread writes, without a hand-off.
//! - [`framed`]: the receiving half: handshake, then frames to a [`framed::Protocol`].
//! - [`relay`]: connections that are passed on.
//! - [`watch`]: staying awake for what comes at once.
//! - [`listener`], [`mod@connect`]: how connections come to be.
//!
//! Why mio and not an async runtime: `docs/design/event-loop.md`.

pub mod address;
pub mod channel;
pub mod connect;
pub mod event_loop;
pub mod framed;
pub mod listener;
pub mod log;
pub mod out_queue;
pub mod relay;
pub mod runtime_dir;
pub mod stream;
pub mod token;
pub mod watch;

pub use address::{Address, AddressError};
pub use channel::Channel;
pub use connect::{ConnectError, ConnectOptions, connect, connect_through, resume};
pub use event_loop::{Control, EventLoop, Flow, Handler, Owner, Ready, Remote};
pub use framed::{Framed, Protocol};
pub use listener::{ListenError, ListenOptions, Listener};
pub use out_queue::OutQueue;
pub use relay::{Relay, RelayTotals};
pub use stream::Stream;
pub use watch::Watch;
