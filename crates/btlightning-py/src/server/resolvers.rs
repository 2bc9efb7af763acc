//! Asks Python who may come in. The core's questions come on threads where they may block; they are answered on the
//! threads of handlers, or in the event loop.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use btlightning::{LightningError, SourceAddressResolver, SourceAllowlist, ValidatorPermitResolver};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use tokio::sync::oneshot;

use super::entry::Entry;
use super::job::{Given, Job, Reply};
use super::places::{Place, Places};

/// A callable that is asked.
pub(super) struct Resolver {
    pub(super) entry: Arc<Entry>,
    pub(super) places: Arc<Places>,
    pub(super) place: Place,
}

impl ValidatorPermitResolver for Resolver {
    fn resolve_permitted_validators(&self) -> btlightning::Result<HashSet<String>> {
        self.ask(Reply::Permits)
    }
}

impl SourceAddressResolver for Resolver {
    fn resolve_allowed_sources(&self) -> btlightning::Result<SourceAllowlist> {
        self.ask(Reply::Sources)
    }
}

impl Resolver {
    /// Asks, and waits for as long as it takes; if the server is stopped meanwhile, no longer.
    fn ask<T>(
        &self,
        reply: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Reply,
    ) -> btlightning::Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = Job { entry: self.entry.clone(), given: Given::Nothing, reply: reply(answer) };
        let unanswered = |words: &str| LightningError::Handler(words.to_owned());
        let ticket = self.places.put(self.place, job).map_err(|error| unanswered(error.words()))?;
        let answered = answered.blocking_recv();
        ticket.done();
        answered
            .map_err(|_| unanswered("the resolver ended without an answer"))?
            .map_err(|words| unanswered(&words))
    }
}

/// The hotkeys that a callable has named.
pub(super) fn hotkeys(answer: &Bound<'_, PyAny>) -> PyResult<HashSet<String>> {
    each(answer, |hotkey| hotkey.extract())
}

/// The addresses that a callable has named: all of them are allowed, if it is `None`.
pub(super) fn sources(answer: &Bound<'_, PyAny>) -> PyResult<SourceAllowlist> {
    match answer.is_none() {
        true => Ok(SourceAllowlist::Bypass),
        false => each(answer, address).map(SourceAllowlist::Enforce),
    }
}

fn each<T: Eq + Hash>(
    answer: &Bound<'_, PyAny>,
    read: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<HashSet<T>> {
    // Both could be iterated, into what nobody meant.
    if answer.is_instance_of::<PyString>() || answer.is_instance_of::<PyBytes>() {
        let kind = answer.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!("several are expected, not one {kind}")));
    }
    answer.try_iter()?.map(|element| read(&element?)).collect()
}

/// An address as words, or an object of `ipaddress`, whose `str` those words are.
fn address(element: &Bound<'_, PyAny>) -> PyResult<IpAddr> {
    let words: String = element.str()?.extract()?;
    words.parse().map_err(|_| PyValueError::new_err(format!("{words:?} is no IP address")))
}
