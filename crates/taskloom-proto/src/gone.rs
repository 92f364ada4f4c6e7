//! That a worker is gone. See `docs/design/sessions.md`.

use crate::wire_record;
use taskloom_types::WorkerNo;

wire_record! {
    /// To those who were told where the worker serves its data, and to all if it was given up
    /// without having been seen to end. No later message names it.
    pub struct WorkerGone {
        pub worker: WorkerNo,
        /// Connections to this address are to be ended: the worker may be stopped, or be on the
        /// other side of a network that is broken, and then they neither answer nor end. Empty
        /// where they end by themselves.
        pub cut: String,
    }
}
