//! Who may talk: version and token, proved both ways, before any other byte is believed.
//!
//! ```text
//! connecting side                               accepting side
//! Hello {magic, version, role, nonce}      ->
//!                                          <-   Challenge {version, epoch, nonce, proof}
//! Proof {proof}                            ->
//!                                          <-   Welcome | Reject {reason}
//! ```
//! A proof is HMAC-SHA256 under the shared token over a role word and both nonces, so that
//! neither side learns the token and no recorded proof is of use. Nonces come from the caller:
//! this module has no randomness.

use crate::frame::{Frame, write_frame};
use crate::session::{Resume, Welcome};
use crate::wire::{DecodeError, Reader, Wire};
use crate::wire_record;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Changes when old and new processes cannot understand each other.
pub const MAJOR: u16 = 1;
/// Changes when messages or fields are added.
pub const MINOR: u16 = 0;

const MAGIC: [u8; 4] = *b"TLM1";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    #[default]
    Client,
    Worker,
    Supervisor,
    /// A data connection to a worker.
    Peer,
    /// A connection to the scheduler that is to be passed on to a worker: [`crate::relay`].
    Relay,
}

impl Wire for Role {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Client => 1,
            Self::Worker => 2,
            Self::Supervisor => 3,
            Self::Peer => 4,
            Self::Relay => 5,
        });
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::read(reader)? {
            1 => Ok(Self::Client),
            2 => Ok(Self::Worker),
            3 => Ok(Self::Supervisor),
            4 => Ok(Self::Peer),
            5 => Ok(Self::Relay),
            tag => Err(DecodeError::UnknownTag { what: "role", tag }),
        }
    }
}

/// What a process can read beyond the first release; its peers use it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u64);

impl Features {
    /// Values in shared memory, over sockets that pass descriptors; values whose segments are
    /// padded in a frame ([`crate::transfer::Layout`]).
    pub const SHARED_MEMORY: Self = Self(1);
    /// A worker's last word on a data connection ([`crate::parting::Parting`]).
    pub const PARTING: Self = Self(2);
    /// All that this release knows.
    pub const OURS: Self = Self(Self::SHARED_MEMORY.0 | Self::PARTING.0);

    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Unknown bits are kept: they are a newer release's.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// The shared secret of a cluster. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    #[must_use]
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self(secret.into())
    }

    fn prove(&self, word: &str, first: &[u8; 32], second: &[u8; 32]) -> [u8; 32] {
        // HMAC takes keys of any length: this cannot fail, and an empty proof matches nothing.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return [0; 32] };
        mac.update(word.as_bytes());
        mac.update(first);
        mac.update(second);
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

wire_record! {
    pub struct Hello {
        pub magic: [u8; 4],
        pub major: u16,
        pub minor: u16,
        pub role: Role,
        pub nonce: Nonce,
        /// [`Features`] of the connecting side.
        pub features: u64,
    }

    pub struct Challenge {
        pub major: u16,
        pub minor: u16,
        /// Which run of the scheduler this is; a peer's worker repeats its scheduler's.
        pub epoch: u64,
        pub nonce: Nonce,
        pub proof: Nonce,
        /// [`Features`] of the accepting side.
        pub features: u64,
    }

    pub struct Proof {
        pub proof: Nonce,
        /// The session to go on with.
        pub resume: Option<Resume>,
    }

    pub struct Reject {
        pub reason: String,
    }
}

/// 32 random bytes, or a proof.
pub type Nonce = [u8; 32];

const HELLO: u8 = 240;
const CHALLENGE: u8 = 241;
const PROOF: u8 = 242;
const WELCOME: u8 = 243;
const REJECT: u8 = 244;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the other side is not a taskloom process")]
    NotTaskloom,
    #[error(
        "version mismatch: this side speaks protocol {MAJOR}.{MINOR}, the other {major}.{minor}; \
         install the same taskloom release on both"
    )]
    Version { major: u16, minor: u16 },
    #[error(
        "the two sides do not share a token; set TASKLOOM_TOKEN (or the token file) to the \
         scheduler's value"
    )]
    WrongToken,
    #[error("the other side refused the connection: {reason}")]
    Rejected { reason: String },
    #[error("unreadable handshake: {0}")]
    Unreadable(#[from] DecodeError),
}

fn message(kind: u8, body: &impl Wire) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, kind, 0, |out| body.write(out));
    out
}

fn read<T: Wire>(frame: &Frame, kind: u8) -> Result<T, HandshakeError> {
    if frame.kind == REJECT {
        let reject = Reject::read(&mut Reader::new(&frame.head))?;
        return Err(HandshakeError::Rejected { reason: reject.reason });
    }
    if frame.kind != kind {
        return Err(HandshakeError::NotTaskloom);
    }
    Ok(T::read(&mut Reader::new(&frame.head))?)
}

fn same(a: &Nonce, b: &Nonce) -> bool {
    a.ct_eq(b).into()
}

/// What to do after a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Send these bytes and wait for the next frame.
    Send(Vec<u8>),
    /// The connecting side has proved the token: answer with [`Accepting::welcome`] or
    /// [`Accepting::refusal`].
    Proved { role: Role, features: Features, resume: Option<Resume> },
    /// The connection is open.
    Open { epoch: u64, features: Features, welcome: Welcome },
}

/// The side that connects.
#[derive(Debug)]
pub struct Connecting {
    token: Token,
    nonce: Nonce,
    /// The session to go on with, and the epoch that it belongs to.
    resume: Option<(u64, Resume)>,
    /// The other side's, from its challenge.
    epoch: Option<(u64, Features)>,
}

impl Connecting {
    /// Returns the state and the first bytes to send. `resume`: a session, and the epoch of the
    /// other side that it belongs to.
    #[must_use]
    pub fn start(
        token: Token,
        role: Role,
        nonce: Nonce,
        resume: Option<(u64, Resume)>,
    ) -> (Self, Vec<u8>) {
        let features = Features::OURS.bits();
        let hello = Hello { magic: MAGIC, major: MAJOR, minor: MINOR, role, nonce, features };
        (Self { token, nonce, resume, epoch: None }, message(HELLO, &hello))
    }

    pub fn on_frame(&mut self, frame: &Frame) -> Result<Step, HandshakeError> {
        if let Some((epoch, features)) = self.epoch {
            return Ok(Step::Open { epoch, features, welcome: read(frame, WELCOME)? });
        }
        let challenge: Challenge = read(frame, CHALLENGE)?;
        if challenge.major != MAJOR {
            let Challenge { major, minor, .. } = challenge;
            return Err(HandshakeError::Version { major, minor });
        }
        let expected = self.token.prove("accept", &self.nonce, &challenge.nonce);
        if !same(&expected, &challenge.proof) {
            return Err(HandshakeError::WrongToken);
        }
        self.epoch = Some((challenge.epoch, Features::from_bits(challenge.features)));
        let proof = self.token.prove("connect", &self.nonce, &challenge.nonce);
        // Another run of the other side knows nothing of the session.
        let resume = self.resume.take().filter(|(epoch, _)| *epoch == challenge.epoch);
        let resume = resume.map(|(_, resume)| resume);
        Ok(Step::Send(message(PROOF, &Proof { proof, resume })))
    }
}

/// The side that accepts.
#[derive(Debug)]
pub struct Accepting {
    token: Token,
    nonce: Nonce,
    epoch: u64,
    hello: Option<Hello>,
}

impl Accepting {
    #[must_use]
    pub fn new(token: Token, epoch: u64, nonce: Nonce) -> Self {
        Self { token, nonce, epoch, hello: None }
    }

    /// On an error send [`Accepting::rejection`] of it, then close.
    pub fn on_frame(&mut self, frame: &Frame) -> Result<Step, HandshakeError> {
        if let Some(hello) = &self.hello {
            let proof: Proof = read(frame, PROOF)?;
            let expected = self.token.prove("connect", &hello.nonce, &self.nonce);
            if !same(&expected, &proof.proof) {
                return Err(HandshakeError::WrongToken);
            }
            let (role, features) = (hello.role, Features::from_bits(hello.features));
            return Ok(Step::Proved { role, features, resume: proof.resume });
        }
        let hello: Hello = read(frame, HELLO)?;
        if hello.magic != MAGIC {
            return Err(HandshakeError::NotTaskloom);
        }
        if hello.major != MAJOR {
            return Err(HandshakeError::Version { major: hello.major, minor: hello.minor });
        }
        let proof = self.token.prove("accept", &hello.nonce, &self.nonce);
        let (epoch, nonce) = (self.epoch, self.nonce);
        self.hello = Some(hello);
        let features = Features::OURS.bits();
        let challenge = Challenge { major: MAJOR, minor: MINOR, epoch, nonce, proof, features };
        Ok(Step::Send(message(CHALLENGE, &challenge)))
    }

    /// The bytes that open the connection.
    #[must_use]
    pub fn welcome(welcome: &Welcome) -> Vec<u8> {
        message(WELCOME, welcome)
    }

    /// The bytes that tell the other side why it was turned away.
    #[must_use]
    pub fn rejection(error: &HandshakeError) -> Vec<u8> {
        Self::refusal(&error.to_string())
    }

    /// As [`Accepting::rejection`], for reasons beyond the handshake, such as a role that this
    /// side does not serve.
    #[must_use]
    pub fn refusal(reason: &str) -> Vec<u8> {
        message(REJECT, &Reject { reason: reason.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameLimits, FrameReader};

    fn frame(bytes: &[u8]) -> Frame {
        let mut reader = FrameReader::new(FrameLimits::HANDSHAKE);
        reader.extend(bytes);
        reader.next_frame().unwrap().unwrap()
    }

    fn sent(step: Step) -> Frame {
        match step {
            Step::Send(bytes) => frame(&bytes),
            Step::Proved { .. } => frame(&Accepting::welcome(&Welcome::default())),
            Step::Open { .. } => unreachable!("it sends nothing"),
        }
    }

    fn run(ours: &str, theirs: &str) -> (Result<Step, HandshakeError>, Accepting, Connecting) {
        let resume = Some((9, Resume { session: 5, received: 7 }));
        let (mut connecting, hello) =
            Connecting::start(Token::new(ours), Role::Worker, [1; 32], resume);
        let mut accepting = Accepting::new(Token::new(theirs), 9, [2; 32]);
        let challenge = sent(accepting.on_frame(&frame(&hello)).unwrap());
        (connecting.on_frame(&challenge), accepting, connecting)
    }

    #[test]
    fn both_sides_open_with_the_same_token() {
        let (proof, mut accepting, mut connecting) = run("secret", "secret");
        let proved = accepting.on_frame(&sent(proof.unwrap())).unwrap();
        let resume = Some(Resume { session: 5, received: 7 });
        let features = Features::OURS;
        assert_eq!(proved, Step::Proved { role: Role::Worker, features, resume });
        let open = connecting.on_frame(&sent(proved)).unwrap();
        assert_eq!(open, Step::Open { epoch: 9, features, welcome: Welcome::default() });
    }

    #[test]
    fn a_process_that_names_no_features_has_none() {
        let mut hello = Vec::new();
        Hello::default().write(&mut hello);
        // As an older release writes it: without the last field.
        hello.truncate(hello.len() - 8);
        let length = (hello.len() - 4) as u32;
        hello[..4].copy_from_slice(&length.to_le_bytes());
        let old = Hello::read(&mut Reader::new(&hello.into())).unwrap();
        assert!(!Features::from_bits(old.features).contains(Features::SHARED_MEMORY));
    }

    #[test]
    fn a_session_is_not_asked_of_another_run_of_the_scheduler() {
        let resume = Some((8, Resume { session: 5, received: 7 }));
        let (mut connecting, hello) =
            Connecting::start(Token::new("t"), Role::Client, [1; 32], resume);
        let mut accepting = Accepting::new(Token::new("t"), 9, [2; 32]);
        let challenge = sent(accepting.on_frame(&frame(&hello)).unwrap());
        let proof = sent(connecting.on_frame(&challenge).unwrap());
        let proved = accepting.on_frame(&proof).unwrap();
        assert!(matches!(proved, Step::Proved { role: Role::Client, resume: None, .. }));
    }

    #[test]
    fn a_wrong_token_is_named_on_both_sides() {
        let (proof, mut accepting, _) = run("secret", "other");
        assert_eq!(proof, Err(HandshakeError::WrongToken));
        let forged = frame(&message(PROOF, &Proof { proof: [7; 32], resume: None }));
        let refused = accepting.on_frame(&forged).unwrap_err();
        assert_eq!(refused, HandshakeError::WrongToken);
        let told = read::<Reject>(&frame(&Accepting::rejection(&refused)), WELCOME);
        assert!(
            matches!(told, Err(HandshakeError::Rejected { reason }) if reason.contains("token"))
        );
    }

    #[test]
    fn another_major_version_is_refused_with_both_numbers() {
        let mut accepting = Accepting::new(Token::new("t"), 1, [0; 32]);
        let hello = Hello { magic: MAGIC, major: 9, minor: 3, ..Hello::default() };
        let error = accepting.on_frame(&frame(&message(HELLO, &hello))).unwrap_err();
        assert_eq!(error, HandshakeError::Version { major: 9, minor: 3 });
        assert!(error.to_string().contains("1.0") && error.to_string().contains("9.3"));
    }
}
