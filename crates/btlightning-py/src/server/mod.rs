//! The server.
//!
//! Python code never runs on the runtime's threads. What is asked of a callable becomes a `job`, and waits in the queue of
//! those who have the GIL anyway: `threads`, Python threads for plain functions, or `tasks`, an event loop for coroutines.
//! `places` knows both, and is what the core's server calls; `entry` is a callable; `request` is a job in Python's hands;
//! `chunks` are a stream's pieces; `resolvers` ask who may come in.

mod caller;
mod chunks;
mod config;
mod entry;
mod job;
mod places;
mod request;
mod resolvers;
#[allow(clippy::module_inception)]
mod server;
mod subnet;
mod tasks;
mod threads;
mod waiting;

use pyo3::prelude::*;

pub(crate) use self::threads::close;

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<caller::Caller>()?;
    module.add_class::<request::Request>()?;
    module.add_class::<server::Server>()?;
    module.add_class::<subnet::LearnedSources>()?;
    module.add_class::<subnet::LearnedSourcesStatus>()?;
    module.add_class::<subnet::SourceEntry>()?;
    module.add_class::<threads::HandlerThread>()?;
    module.add_class::<threads::HandlerThreads>()
}
