//! Hollow workers: sessions of workers without processes, threads or Python behind them.
//!
//! One process opens thousands of them to a real scheduler, with the real handshake and messages.
//! A hollow worker answers a task at once, or after a time that passes only on paper. So what is
//! measured is the scheduler.
//!
//! - [`fleet`]: the workers, all on one event loop; [`worker`]: what one of them does.
//! - [`driver`]: a client that submits many tasks and counts their ends.
//! - [`process`]: a scheduler in a process of its own, and what that process uses.
//! - [`cases`]: what is measured; [`report`]: how it is written down.

pub mod cases;
pub mod driver;
pub mod fleet;
pub mod process;
pub mod report;
pub mod worker;

/// Why a measurement cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HollowError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error(transparent)]
    Connect(#[from] taskloom_runtime::ConnectError),
    #[error(transparent)]
    Token(#[from] taskloom_net::token::TokenError),
    #[error("the scheduler ended: {0}")]
    SchedulerEnded(String),
    #[error("{what} did not happen within {seconds} s ({seen})")]
    Overdue { what: String, seconds: u64, seen: String },
}

impl HollowError {
    /// For `map_err`: what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
