//! The last word of a worker on a data connection. See `docs/design/actors.md`.

use crate::wire_record;

wire_record! {
    /// The worker leaves in order. Calls of actors that it was asked for on this connection, that are
    /// neither answered before this message nor named in it, have not begun and never will. Who
    /// reads this closes the connection; the worker waits for that. Only for those who know it
    /// ([`crate::handshake::Features::PARTING`]).
    pub struct Parting {
        /// Requests of calls that have begun.
        pub begun: Vec<u64>,
    }
}
