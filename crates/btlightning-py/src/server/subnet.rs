//! What a server has of the chain: permits, a source allowlist that learns, and its own axon there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use btlightning::metagraph::{Axon, PublishError, Published, Publisher, SubnetPermits};
use btlightning::server::{LearnedSources as Learned, LearnedSourcesBuilder, SourcesMode};
use btlightning::{LightningError, TlsKeyPin};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::server::Server;
use crate::bridge::{self, On};
use crate::chain::{Chain, MetagraphWatch};
use crate::errors;
use crate::process::Here;

#[pymethods]
impl Server {
    /// Asks the chain who holds a permit.
    fn resolve_permits_by(&self, watch: &MetagraphWatch, min_stake: u64) -> PyResult<()> {
        let permits = SubnetPermits::of(&watch.watch()?).min_stake(min_stake);
        self.core()?.resolve_permits_with(Arc::new(permits));
        self.holds_no_permit_resolver()
    }

    /// Learns which addresses may connect; hands out what it learns. With a file, the chain is asked which it is.
    #[pyo3(signature = (watch, min_stake, path, options, *, on=None))]
    fn learn_sources(
        &self,
        py: Python<'_>,
        watch: &MetagraphWatch,
        min_stake: u64,
        path: Option<PathBuf>,
        options: &Bound<'_, PyDict>,
        on: Option<On>,
    ) -> PyResult<Py<PyAny>> {
        let (watch, core) = (watch.watch()?, self.shared_core()?);
        let mut builder = Learned::builder(SubnetPermits::of(&watch).min_stake(min_stake));
        for (name, value) in options.iter() {
            builder = set(builder, &name.extract::<String>()?, &value)?;
        }
        let learning = async move {
            let builder = match path {
                Some(path) => {
                    let genesis = watch.chain().genesis().await.map_err(LightningError::from)?;
                    builder.file(path, watch.netuid(), genesis)
                }
                None => builder,
            };
            // It reads the file.
            let building = tokio::task::spawn_blocking(move || builder.build());
            building.await.unwrap_or_else(|error| Err(LightningError::Config(error.to_string())))
        };
        bridge::run(py, on, learning, move |py, learned| {
            let learned = learned.map_err(|error| errors::published(&error))?;
            core.learn_sources(learned.clone());
            Ok(Py::new(py, LearnedSources { inner: Here::new(learned) })?.into_any())
        })
    }

    /// Keeps the TLS key in a file.
    fn keep_tls_key_in(&self, path: PathBuf) -> PyResult<()> {
        self.core()?.keep_tls_key_in(path);
        Ok(())
    }

    fn tls_key_pin(&self) -> PyResult<Option<String>> {
        Ok(self.core()?.tls_key_pin().map(|pin| pin.to_string()))
    }

    /// Says on the chain where the miner is; `None` resets that. Hands out the block that has it, or `None` if nothing was
    /// to be changed.
    #[pyo3(signature = (chain, netuid, axon, rate_limit_wait, inclusion_timeout, finalized, *, on=None))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by position")]
    fn publish(
        &self,
        py: Python<'_>,
        chain: &Chain,
        netuid: u16,
        axon: Option<(String, u16)>,
        rate_limit_wait: Duration,
        inclusion_timeout: Duration,
        finalized: bool,
        on: Option<On>,
    ) -> PyResult<Py<PyAny>> {
        let core = self.core()?;
        let axon = axon.map(|(ip, port)| Ok::<_, PyErr>(Axon::new(address(&ip)?, port))).transpose()?;
        let publisher = core.publisher(&chain.nodes()?, netuid).map_err(|error| errors::publish(&error))?;
        let publisher = publisher
            .wait_for_rate_limit(rate_limit_wait)
            .inclusion_timeout(inclusion_timeout)
            .finalized(finalized);
        bridge::run(py, on, publish(publisher, axon, core.tls_key_pin()), |py, published| {
            match published.map_err(|error| errors::publish(&error))? {
                Published::Unchanged => Ok(py.None()),
                Published::Included { block_number, .. } => {
                    Ok(block_number.into_pyobject(py)?.into_any().unbind())
                }
            }
        })
    }
}

async fn publish(
    publisher: Publisher,
    axon: Option<Axon>,
    pin: Option<TlsKeyPin>,
) -> Result<Published, PublishError> {
    match (axon, pin) {
        (None, _) => publisher.reset().await,
        (Some(axon), Some(pin)) => publisher.publish_with_tls_key(axon, pin).await,
        (Some(axon), None) => publisher.publish(axon).await,
    }
}

fn address(ip: &str) -> PyResult<IpAddr> {
    ip.parse().map_err(|_| errors::config(format!("{ip:?} is no IP address")))
}

fn set(
    builder: LearnedSourcesBuilder,
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<LearnedSourcesBuilder> {
    macro_rules! knobs {
        ($($knob:ident)*) => {
            match name {
                $(stringify!($knob) => Ok(builder.$knob(value.extract()?)),)*
                _ => Err(PyTypeError::new_err(format!("there is no option {name:?}"))),
            }
        };
    }
    knobs! {
        coverage_to_enforce_permille coverage_to_relax_permille learning_time_min address_age_max permit_grace
        permits_age_max visitors_per_minute visitors_burst retries_per_second
    }
}

/// A source allowlist that learns where permitted validators come from.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct LearnedSources {
    inner: Here<Learned>,
}

#[pymethods]
impl LearnedSources {
    /// How things stand. Nothing is computed for it.
    fn status(&self) -> PyResult<LearnedSourcesStatus> {
        let status = self.inner.get()?.status();
        Ok(LearnedSourcesStatus {
            mode: mode(status.mode),
            reason: status.reason.to_string(),
            coverage: f64::from(status.coverage_permille) / 1000.0,
            permitted_hotkeys: status.permitted_hotkeys,
            known_hotkeys: status.known_hotkeys,
            addresses: status.addresses,
            permits_age: status.permits_age.map(|age| age.as_secs_f64()),
            visitors_admitted: status.visitors_admitted,
            visitors_turned_away: status.visitors_turned_away,
            attempts_dropped: status.attempts_dropped,
            last_saved: status
                .last_saved
                .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
                .map(|at| at.as_secs_f64()),
            last_error: status.last_error,
        })
    }

    /// Every address that is noted, ordered by hotkey.
    fn entries(&self) -> PyResult<Vec<SourceEntry>> {
        let entries = self.inner.get()?.entries();
        Ok(entries
            .into_iter()
            .map(|entry| SourceEntry {
                hotkey: entry.hotkey.to_string(),
                ip: entry.ip.to_string(),
                first_seen: entry.first_seen,
                last_seen: entry.last_seen,
                is_allowed: entry.is_allowed,
            })
            .collect())
    }
}

fn mode(mode: SourcesMode) -> &'static str {
    match mode {
        SourcesMode::Learning => "learning",
        SourcesMode::Enforcing => "enforcing",
    }
}

/// How things stood with a learned allowlist when this was made. Counts are since the list was made.
#[pyclass(frozen, get_all, module = "btlightning._native")]
pub(crate) struct LearnedSourcesStatus {
    /// Who passes, where the list is enforced: `learning`, everybody; `enforcing`, known addresses and a few visitors.
    mode: &'static str,
    /// Why, in a sentence.
    reason: String,
    /// The share of permitted stake whose address is known, from 0 to 1.
    coverage: f64,
    /// Hotkeys that hold a permit.
    permitted_hotkeys: usize,
    /// How many of them have an address that counts.
    known_hotkeys: usize,
    /// Addresses that count, each once.
    addresses: usize,
    /// How many seconds ago it was last said who holds a permit; `None` if never.
    permits_age: Option<f64>,
    /// Attempts from unknown addresses that were let in to authenticate.
    visitors_admitted: u64,
    /// Attempts from unknown addresses that had shown to be real, and were dropped because there were too many.
    visitors_turned_away: u64,
    /// Attempts from unknown addresses that may have been forged, and were dropped without a packet.
    attempts_dropped: u64,
    /// When the list was last written to its file, in Unix seconds; `None` if it was not yet, or has none.
    last_saved: Option<f64>,
    /// Why the file could not be used or written; `None` once it is written.
    last_error: Option<String>,
}

#[pymethods]
impl LearnedSourcesStatus {
    fn __repr__(&self) -> String {
        let Self { mode, reason, coverage, addresses, .. } = self;
        format!(
            "LearnedSourcesStatus(mode={mode:?}, reason={reason:?}, coverage={coverage}, addresses={addresses})"
        )
    }
}

/// An address that a validator was seen at.
#[pyclass(frozen, get_all, module = "btlightning._native")]
pub(crate) struct SourceEntry {
    /// The validator's hotkey, in SS58.
    hotkey: String,
    /// The address.
    ip: String,
    /// When it was first seen there, in Unix seconds.
    first_seen: u64,
    /// When it was last seen there, in Unix seconds.
    last_seen: u64,
    /// Whether the hotkey holds a permit and was seen there of late: enforced, the list lets the address in.
    is_allowed: bool,
}

#[pymethods]
impl SourceEntry {
    fn __repr__(&self) -> String {
        let Self { hotkey, ip, is_allowed, .. } = self;
        format!("SourceEntry(hotkey={hotkey:?}, ip={ip:?}, is_allowed={is_allowed})")
    }
}
