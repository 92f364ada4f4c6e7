//! Actors: objects that live on a worker and are called from anywhere.
//!
//! - [`proxy`]: what callers have in hand, and the futures of calls.
//! - [`home`]: how a worker makes actors and runs their methods.

pub mod home;
mod proxy;

pub use proxy::{CoreActor, Source, SourceGuard};

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CoreActor>()?;
    module.add_class::<proxy::CoreActorFuture>()?;
    module.add_class::<proxy::ActorFutureSource>()?;
    module.add_class::<home::LocalActor>()?;
    module.add_class::<home::MethodRun>()?;
    module.add_function(wrap_pyfunction!(proxy::decoding_source, module)?)?;
    module.add_function(wrap_pyfunction!(home::finish_actor_method, module)?)
}
