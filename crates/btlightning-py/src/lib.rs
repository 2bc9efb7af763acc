//! The extension module under the Python package `btlightning`: `btlightning._native`.
//!
//! It is thin on purpose. What Python programs see is written in Python (`python/btlightning`); what is here is what
//! must not be: the sockets, the bytes, and everything that waits.
//!
//! - `process`: the runtime of this process, waiting without the GIL, fork and exit.
//! - `bridge`: results of the runtime's work handed to an asyncio event loop, without the GIL on the runtime's threads.
//! - `values`: Python objects straight into a frame, and out of one.
//! - `kept`: Python objects that threads without the GIL may drop.
//! - `errors`: every error as the exception that Python programs catch.
//! - `client`, `server`: the two halves. `chain`: what a subnet's neurons are.
//! - `signers`, `logging`: keys that Python holds; the log. `io_threads`: a setting that both halves read alike.

mod bridge;
mod chain;
mod client;
mod errors;
mod io_threads;
mod kept;
mod logging;
mod process;
mod server;
mod signers;
mod values;

use pyo3::prelude::*;

/// The native half of btlightning. Programs import `btlightning`.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    process::add_to(module, logging::install)?;
    module.add_function(wrap_pyfunction!(shutdown, module)?)?;
    bridge::add_to(module)?;
    values::add_to(module)?;
    client::add_to(module)?;
    server::add_to(module)?;
    chain::add_to(module)?;
    signers::add_to(module)?;
    logging::add_to(module)
}

/// Called once when the interpreter exits, while threads still run: connections are closed, threads that wait for work end,
/// and the rest of the log is handed over.
#[pyfunction]
fn shutdown(py: Python<'_>) {
    if process::begin_exit() {
        server::close();
        process::end(py);
        logging::close(py);
    }
}
