//! The shell: threads, clocks, processes and sockets around the rules of `taskloom-core`.
pub mod data;
pub mod io;
pub mod link;
pub mod message;
pub mod scheduler;

pub use taskloom_net::{
    Address, ConnectError, ConnectOptions, ListenError, ListenOptions, log, token,
};
