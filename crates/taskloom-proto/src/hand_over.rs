//! Messages with which an actor moves to another worker without a loss. See
//! `docs/design/actors.md`.

use crate::actor::ActorLife;
use crate::wire_record;
use bytes::Bytes;

wire_record! {
    /// The worker leaves: it ends the actor's calls that have begun, begins no other, and gives
    /// its last state. Answered by [`ActorHandedOver`].
    pub struct HandOverActor {
        pub actor: ActorLife,
    }

    /// The last state of an actor: nothing changes it any more where it was.
    pub struct ActorHandedOver {
        pub actor: ActorLife,
        /// The body of a task that makes the actor again, when there is no `error`.
        pub state: Bytes,
        /// Why there is no state; empty if there is one.
        pub error: String,
    }
}
