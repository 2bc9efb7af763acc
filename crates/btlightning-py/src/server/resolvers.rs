//! Asks Python who may come in. The core calls these on threads where they may block, and so may wait for the GIL.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use btlightning::{LightningError, SourceAddressResolver, SourceAllowlist, ValidatorPermitResolver};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Who holds a permit: a callable's hotkeys.
pub(super) struct Permits(pub(super) Arc<Py<PyAny>>);

impl ValidatorPermitResolver for Permits {
    fn resolve_permitted_validators(&self) -> btlightning::Result<HashSet<String>> {
        ask(&self.0, |answer| each(answer, |hotkey| hotkey.extract()))
    }
}

/// Which addresses may connect: a callable's addresses, or `None` for all.
pub(super) struct Sources(pub(super) Arc<Py<PyAny>>);

impl SourceAddressResolver for Sources {
    fn resolve_allowed_sources(&self) -> btlightning::Result<SourceAllowlist> {
        ask(&self.0, |answer| match answer.is_none() {
            true => Ok(SourceAllowlist::Bypass),
            false => each(answer, address).map(SourceAllowlist::Enforce),
        })
    }
}

fn ask<T>(
    callable: &Py<PyAny>,
    read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
) -> btlightning::Result<T> {
    Python::try_attach(|py| {
        let answer = callable.bind(py).call0()?;
        read(&answer)
    })
    .unwrap_or_else(|| Err(crate::errors::exiting()))
    .map_err(|error| LightningError::Handler(error.to_string()))
}

fn each<T: Eq + std::hash::Hash>(
    answer: &Bound<'_, PyAny>,
    read: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<HashSet<T>> {
    // Both could be iterated, into what nobody meant.
    if answer.is_instance_of::<PyString>() || answer.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err(format!(
            "several are expected, not one {}",
            answer.get_type().qualname()?
        )));
    }
    answer.try_iter()?.map(|element| read(&element?)).collect()
}

/// An address as words, or an object of `ipaddress`, whose `str` those words are.
fn address(element: &Bound<'_, PyAny>) -> PyResult<IpAddr> {
    let words = element.str()?;
    let words = words.extract::<std::borrow::Cow<'_, str>>()?;
    words.parse().map_err(|_| pyo3::exceptions::PyValueError::new_err(format!("{words:?} is no IP address")))
}
