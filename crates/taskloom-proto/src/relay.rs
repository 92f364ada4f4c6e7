//! The way to a worker that a client cannot reach: by the scheduler, which passes bytes on and reads
//! none of them. Both frames travel on a connection of [`Role::Relay`](crate::handshake::Role), after
//! its handshake. What follows a good [`Relayed`] is the connection to the worker, from its own
//! handshake on.

use crate::frame::{Frame, write_frame};
use crate::wire::{DecodeError, Reader, Wire};
use crate::wire_record;

const RELAY_TO: u8 = 250;
const RELAYED: u8 = 251;

wire_record! {
    /// Asks to be connected to a worker's data server.
    pub struct RelayTo {
        /// As the worker told the scheduler, such as `tcp://10.0.0.7:4001`.
        pub address: String,
    }

    /// The answer.
    pub struct Relayed {
        /// Why not; empty: the connection stands.
        pub reason: String,
    }
}

macro_rules! frames {
    ($($record:ident = $kind:ident;)*) => {$(
        impl $record {
            #[must_use]
            pub fn to_frame(&self) -> Vec<u8> {
                let mut out = Vec::new();
                write_frame(&mut out, $kind, 0, |out| self.write(out));
                out
            }

            /// # Errors
            /// It is another frame, or damaged.
            pub fn of_frame(frame: &Frame) -> Result<Self, DecodeError> {
                if frame.kind != $kind {
                    return Err(DecodeError::UnknownTag { what: "relay frame", tag: frame.kind });
                }
                Self::read(&mut Reader::new(&frame.head))
            }
        }
    )*};
}
frames! {
    RelayTo = RELAY_TO;
    Relayed = RELAYED;
}
