//! Values that are here: as objects of the language, as bytes, or both.

use super::spill::SpilledValue;
use crate::data::is_shared;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use taskloom_proto::{ErrorInfo, SmallBytes};

/// An object of the tasks' language. The shell passes it on and never looks inside. Cloning it
/// and dropping a clone that is not the last must be possible on any thread; the last one is
/// given to [`super::WorkerShell::next`]'s caller to drop.
pub trait LocalObject: Clone + Send + Sync + 'static {}

/// The largest encoded value that is kept beside its object, and that travels inside messages.
pub const INLINE_BYTES: usize = 1024;

/// A task's value.
#[derive(Debug, Clone)]
pub enum Value<O> {
    /// Made here. Dependents here get this very object.
    Object { object: O, encoded: Option<Vec<Bytes>> },
    /// A small immutable value made here: read anew by each dependent, which is cheaper than
    /// keeping an object.
    Scalar(SmallBytes),
    /// Came from elsewhere.
    Received(Arc<Received<O>>),
    /// On disk.
    Spilled(Arc<SpilledValue>),
}

/// How a value can be had in bytes.
#[derive(Debug)]
pub enum Servable<O> {
    Encoded(Vec<Bytes>),
    Failed(ErrorInfo),
    /// Must be encoded by a thread that knows the language.
    Object(O),
    /// Is being decoded right now: wait, then see.
    Received(Arc<Received<O>>),
    OnDisk(Arc<SpilledValue>),
}

impl<O: LocalObject> Value<O> {
    #[must_use]
    pub fn received(segments: Vec<Bytes>) -> Self {
        Self::Received(Arc::new(Received::new(segments)))
    }

    /// A value that was read from disk, and its file if that stays.
    #[must_use]
    pub fn loaded(segments: Vec<Bytes>, file: Option<Arc<SpilledValue>>) -> Self {
        let received = Received::new(segments);
        *received.file.lock() = file;
        Self::Received(Arc::new(received))
    }

    /// Takes the file of a value that is in memory, too, or on disk only.
    #[must_use]
    pub fn take_file(&self) -> Option<Arc<SpilledValue>> {
        match self {
            Self::Received(received) => received.file.lock().take(),
            Self::Spilled(file) => Some(file.clone()),
            Self::Object { .. } | Self::Scalar(_) => None,
        }
    }

    /// Whether dropping it may drop the last clone of an object.
    #[must_use]
    pub fn holds_object(&self) -> bool {
        match self {
            Self::Object { .. } => true,
            Self::Scalar(_) | Self::Spilled(_) => false,
            Self::Received(received) => {
                !matches!(*received.state.lock(), Decoding::Encoded(_) | Decoding::Failed(_))
            }
        }
    }

    /// The encoded value, when it is small and at hand.
    #[must_use]
    pub fn inline(&self) -> Option<SmallBytes> {
        match self {
            Self::Scalar(bytes) => Some(bytes.clone()),
            Self::Object { encoded: Some(segments), .. } => {
                small_segment(segments).map(SmallBytes::from)
            }
            Self::Object { .. } | Self::Spilled(_) => None,
            Self::Received(received) => match &*received.state.lock() {
                Decoding::Encoded(segments) | Decoding::Decoded(_, Some(segments)) => {
                    small_segment(segments).map(SmallBytes::from)
                }
                _ => None,
            },
        }
    }

    #[must_use]
    pub fn servable(&self) -> Servable<O> {
        match self {
            Self::Scalar(bytes) => Servable::Encoded(vec![bytes.to_bytes()]),
            Self::Object { encoded: Some(segments), .. } => Servable::Encoded(segments.clone()),
            Self::Object { object, .. } => Servable::Object(object.clone()),
            Self::Received(received) => Received::servable(received),
            Self::Spilled(file) => Servable::OnDisk(file.clone()),
        }
    }
}

fn small_segment(segments: &[Bytes]) -> Option<Bytes> {
    match segments {
        [only] if only.len() <= INLINE_BYTES => Some(only.clone()),
        _ => None,
    }
}

/// A value that arrived in bytes. Its first user decodes it; all users here share the object.
///
/// Decoding takes the bytes away, so that their memory becomes the object's without a copy. What
/// is small is kept nevertheless, and so is what is in shared memory: the object has a view of the
/// same pages, and the next reader gets them without a copy.
#[derive(Debug)]
pub struct Received<O> {
    state: Mutex<Decoding<O>>,
    decoded: Condvar,
    /// Of a value that was on disk and may have to go there again.
    file: Mutex<Option<Arc<SpilledValue>>>,
}

#[derive(Debug)]
enum Decoding<O> {
    Encoded(Vec<Bytes>),
    /// Some thread is at it; small and shared bytes are kept meanwhile and after.
    Busy(Option<Vec<Bytes>>),
    Decoded(O, Option<Vec<Bytes>>),
    Failed(ErrorInfo),
}

/// What a user of a [`Received`] value has to do.
#[derive(Debug)]
pub enum Use<O> {
    Object(O),
    /// Decode these, then call [`Received::complete`].
    Decode(Vec<Bytes>),
    /// Another thread decodes: [`Received::wait`], then ask again.
    Wait,
    Failed(ErrorInfo),
}

impl<O: LocalObject> Received<O> {
    /// Not decoded yet.
    #[must_use]
    pub fn new(segments: Vec<Bytes>) -> Self {
        let state = Mutex::new(Decoding::Encoded(segments));
        Self { state, decoded: Condvar::new(), file: Mutex::default() }
    }

    pub fn begin_use(&self) -> Use<O> {
        let state = &mut *self.state.lock();
        match state {
            Decoding::Encoded(segments) => {
                let segments = std::mem::take(segments);
                let kept = match small_segment(&segments) {
                    Some(only) => Some(vec![only]),
                    None => is_shared(&segments).then(|| segments.clone()),
                };
                *state = Decoding::Busy(kept);
                Use::Decode(segments)
            }
            Decoding::Busy(_) => Use::Wait,
            Decoding::Decoded(object, _) => Use::Object(object.clone()),
            Decoding::Failed(error) => Use::Failed(error.clone()),
        }
    }

    /// Ends what [`Use::Decode`] began.
    pub fn complete(&self, result: Result<O, ErrorInfo>) {
        let mut state = self.state.lock();
        let kept = match &mut *state {
            Decoding::Busy(kept) => kept.take(),
            _ => None,
        };
        *state = match result {
            Ok(object) => Decoding::Decoded(object, kept),
            Err(error) => Decoding::Failed(error),
        };
        drop(state);
        self.decoded.notify_all();
    }

    /// Blocks while another thread decodes. The caller must not keep that thread from going on.
    pub fn wait(&self) {
        let mut state = self.state.lock();
        while matches!(*state, Decoding::Busy(_)) {
            self.decoded.wait(&mut state);
        }
    }

    /// As [`Value::servable`].
    pub fn servable(this: &Arc<Self>) -> Servable<O> {
        match &*this.state.lock() {
            Decoding::Encoded(segments) | Decoding::Decoded(_, Some(segments)) => {
                Servable::Encoded(segments.clone())
            }
            Decoding::Decoded(object, None) => Servable::Object(object.clone()),
            Decoding::Busy(_) => Servable::Received(this.clone()),
            Decoding::Failed(error) => Servable::Failed(error.clone()),
        }
    }
}
