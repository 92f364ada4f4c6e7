//! Sessions: what two parties said to each other survives the connection that carried it.
//!
//! Each side counts the bytes of the frames that follow the handshake. Whoever sends keeps what the
//! other side has not acknowledged; a connection that takes over a session names the position up
//! to which this side has received, and the rest is sent again. See `docs/design/sessions.md`.

use crate::frame::write_frame;
use crate::wire::Wire;
use crate::wire_record;

/// Frames of this kind and above, up to the handshake's, are about the session itself.
pub const FIRST_KIND: u8 = 230;
/// An [`Alive`].
pub const ALIVE: u8 = 230;
/// A [`Farewell`].
pub const FAREWELL: u8 = 231;

wire_record! {
    /// Asks to go on with a session.
    pub struct Resume {
        pub session: u64,
        /// Bytes of the session that this side has received.
        pub received: u64,
    }

    /// The accepting side's last word of the handshake.
    pub struct Welcome {
        /// Names the session; 0 on connections that have none.
        pub session: u64,
        /// Whether the session that was asked for goes on; otherwise this is a new one.
        pub resumed: bool,
        /// Bytes of the session that this side has received.
        pub received: u64,
        /// How long a session may be without a connection, in ms; 0: it ends with it.
        pub grace_ms: u32,
        /// Silence after which a connection counts as broken, in ms.
        pub silence_ms: u32,
        /// Why the session that was asked for does not go on, for people.
        pub reason: String,
    }

    /// A sign of life, and how far this side has received.
    pub struct Alive {
        pub received: u64,
        /// Whether the other side shall answer with one of its own.
        pub asks: bool,
    }

    /// The sender ends the session: nothing follows, and it is not to be resumed.
    pub struct Farewell {
        pub reason: String,
    }
}

impl Alive {
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        write_frame(out, ALIVE, 0, |out| self.write(out));
    }
}

impl Farewell {
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        write_frame(out, FAREWELL, 0, |out| self.write(out));
    }
}
