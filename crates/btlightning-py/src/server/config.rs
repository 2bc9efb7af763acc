//! A server's settings, out of Python keywords.

use btlightning::LightningServerConfig;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat};

use crate::{errors, io_threads};

/// The settings that differ from the defaults. `None` is as if it were not there.
pub(super) fn config(options: &Bound<'_, PyDict>) -> PyResult<LightningServerConfig> {
    let mut config = LightningServerConfig::default();
    config.io_threads = io_threads::AUTO;
    for (name, value) in options.iter() {
        let name: String = name.extract()?;
        if !value.is_none() {
            set(&mut config, &name, &whole(&name, value)?)?;
        }
    }
    Ok(config)
}

/// Seconds, which may be given as a float, as an integer.
fn whole<'py>(name: &str, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let Ok(secs) = value.cast::<PyFloat>() else { return Ok(value) };
    if !name.ends_with("_secs") {
        return Ok(value);
    }
    if !secs.value().is_finite() || secs.value().fract() != 0.0 {
        return Err(errors::config(format!("{name} ({}) must be a whole number of seconds", secs.value())));
    }
    value.call_method0("__int__")
}

fn set(config: &mut LightningServerConfig, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    macro_rules! fields {
        ($($field:ident)*) => {
            match name {
                "io_threads" => config.io_threads = io_threads::read(value)?,
                $(stringify!($field) => config.$field = extracted(name, value)?,)*
                _ => return Err(PyTypeError::new_err(format!("there is no option {name:?}"))),
            }
        };
    }
    fields! {
        max_signature_age_secs idle_timeout_secs keep_alive_interval_secs nonce_cleanup_interval_secs max_connections
        max_nonce_entries handshake_timeout_secs max_handshake_attempts_per_minute max_concurrent_bidi_streams
        require_validator_permit validator_permit_refresh_secs max_tracked_rate_ips handler_timeout_secs
        max_frame_payload_bytes streaming_channel_buffer enforce_source_allowlist source_allowlist_refresh_secs
        require_address_validation max_unauthenticated_connections max_unauthenticated_connections_per_ip
        max_connections_per_hotkey max_connections_per_ip shutdown_grace_secs
    }
    Ok(())
}

/// The value; an exception of the same type as always, which names the option.
fn extracted<'a, 'py, T: FromPyObject<'a, 'py>>(name: &str, value: &'a Bound<'py, PyAny>) -> PyResult<T> {
    value.extract().map_err(|error: T::Error| {
        let error: PyErr = error.into();
        let py = value.py();
        match error.get_type(py).call1((format!("{name}: {}", error.value(py)),)) {
            Ok(named) => PyErr::from_value(named),
            Err(_) => error,
        }
    })
}
