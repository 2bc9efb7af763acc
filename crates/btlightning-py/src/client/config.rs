//! A client's settings, by the names that Python programs use.

use std::time::Duration;

use btlightning::LightningClientConfig;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::seconds;
use crate::{errors, io_threads};

/// Reads settings; what is not named keeps its default.
///
/// # Errors
/// `TypeError` for a name that is none, or a value of another type; `ConfigError` for one that is out of its bounds.
pub(super) fn read(options: &Bound<'_, PyDict>) -> PyResult<LightningClientConfig> {
    let mut config =
        LightningClientConfig { io_threads: io_threads::AUTO, ..LightningClientConfig::default() };
    for (name, value) in options {
        let name: String = name.extract()?;
        let required = || -> PyResult<Duration> {
            match seconds(&name, value.extract()?)? {
                Some(duration) => Ok(duration),
                None => Err(errors::config(format!("{name} must be a number of seconds"))),
            }
        };
        match name.as_str() {
            "connect_timeout_secs" => config.connect_timeout = required()?,
            "idle_timeout_secs" => config.idle_timeout = required()?,
            "keep_alive_interval_secs" => config.keep_alive_interval = required()?,
            "reconnect_initial_backoff_secs" => config.reconnect_initial_backoff = required()?,
            "reconnect_max_backoff_secs" => config.reconnect_max_backoff = required()?,
            "stream_timeout_secs" => config.stream_timeout = required()?,
            "query_timeout_secs" => config.query_timeout = required()?,
            "reconnect_slow_probe_interval_secs" => {
                config.reconnect_slow_probe_interval = seconds(&name, value.extract()?)?;
            }
            "stream_chunk_timeout_secs" => config.stream_chunk_timeout = seconds(&name, value.extract()?)?,
            "reconnect_max_retries" => config.reconnect_max_retries = value.extract()?,
            "max_connections" => config.max_connections = value.extract()?,
            "max_frame_payload_bytes" => config.max_frame_payload_bytes = value.extract()?,
            "max_stream_payload_bytes" => config.max_stream_payload_bytes = value.extract()?,
            "io_threads" => config.io_threads = io_threads::read(&value)?,
            _ => return Err(PyTypeError::new_err(format!("there is no setting {name:?}"))),
        }
    }
    Ok(config)
}
