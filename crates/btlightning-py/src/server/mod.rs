//! The server.
//!
//! Python handlers never run on the runtime's threads. A request becomes a `job`, and waits in the queue of those who
//! have the GIL anyway: `threads`, Python threads for plain functions, or `tasks`, an event loop for coroutines. `places`
//! knows both, and is what the core's server calls; `entry` is a callable and how it wants to be called; `request` is a job
//! in an event loop's hands; `chunks` is the way of a stream's pieces; `resolvers` ask Python who may come in.

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
mod tasks;
mod threads;
mod waiting;

use pyo3::prelude::*;

pub(crate) use self::threads::close;

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<caller::Caller>()?;
    module.add_class::<request::Request>()?;
    module.add_class::<server::Server>()?;
    module.add_class::<threads::HandlerThreads>()
}
