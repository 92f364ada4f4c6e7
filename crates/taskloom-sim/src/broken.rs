//! What is wrong when a run fails.

use std::fmt;

/// A promise that was not kept. The invariants are numbered as in `docs/design/scenarios.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub invariant: &'static str,
    pub what: String,
}

/// A check that finds nothing, or the first thing that is wrong.
pub type Checked<T = ()> = Result<T, Broken>;

impl Broken {
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

/// The rules count their own books again (I7).
impl From<String> for Broken {
    fn from(what: String) -> Self {
        Self::new("I7", what)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}
