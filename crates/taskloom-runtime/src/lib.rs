//! The shell: threads, clocks, processes and sockets around the rules of `taskloom-core`.
pub mod client;
pub mod data;
pub mod executing;
pub mod io;
pub mod link;
pub mod message;
mod pages;
mod resident;
pub mod scheduler;
mod session;
pub mod supervisor;

pub use taskloom_net::{
    Address, ConnectError, ConnectOptions, ListenError, ListenOptions, log, token,
};
pub mod worker;
