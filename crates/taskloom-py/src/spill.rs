//! The thread that encodes values on their way to disk. It has no part in serving peers, which
//! must not wait for it.

use crate::objects::Object;
use crate::running;
use crate::serializer::encode_object;
use crate::worker::Inner;
use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;
use taskloom_runtime::worker::{Encode, Servable};

/// The body of the encoder thread.
pub fn encode_spills(py: Python<'_>, worker: &Arc<Inner>) {
    while let Some(job) = py.detach(|| worker.shell.to_encode().wait()) {
        let Encode { task, ticket, value } = job;
        let encoded = encode(py, &value);
        // The last reference may be this one, once the value is on disk.
        drop(value);
        py.detach(|| match encoded {
            Ok(segments) => worker.shell.spill_encoded(task, ticket, segments),
            // That it does not pickle is told to whoever asks for it.
            Err(_) => worker.shell.spill_refused(task, ticket),
        });
    }
}

fn encode(py: Python<'_>, value: &Servable<Object>) -> PyResult<Vec<Bytes>> {
    match value {
        Servable::Encoded(segments) => Ok(segments.clone()),
        Servable::Object(object) => encode_object(&object.peek(py)),
        Servable::Received(received) => {
            encode_object(running::object_of_received(py, received)?.bind(py))
        }
        Servable::Failed(_) | Servable::OnDisk(_) => Err(running::not_in_memory()),
    }
}

/// Looks for circles of objects that nobody needs.
pub fn collect_cycles(py: Python<'_>) {
    let collect = || py.import(intern!(py, "gc"))?.call_method0(intern!(py, "collect"));
    if let Err(error) = collect() {
        error.write_unraisable(py, None);
    }
}
