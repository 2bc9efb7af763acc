//! Ways to name a miner from Python.

use std::net::Ipv4Addr;

use btlightning::{Hotkey, HotkeyError, NamesMiner, PeerAddr, QuicAxonInfo as Axon};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

/// The protocol number of QUIC.
const QUIC: u8 = 4;

/// Where those are that serve nothing.
const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A miner as the chain lists it. Its fields may be changed, as those of the published class.
#[pyclass(get_all, set_all, module = "btlightning._native")]
pub(crate) struct QuicAxonInfo {
    /// The miner's hotkey, in SS58.
    hotkey: String,
    /// Its IP address, IPv4 or IPv6. Names are not looked up.
    ip: String,
    /// Its UDP port.
    port: u16,
    /// The protocol number that it announces; 4 is QUIC, and the default. Not looked at when dialling.
    protocol: u8,
}

#[pymethods]
impl QuicAxonInfo {
    #[new]
    // The default is `QUIC`, written out so that Python's tools see it.
    #[pyo3(signature = (hotkey, ip, port, protocol=4))]
    fn new(hotkey: String, ip: String, port: u16, protocol: u8) -> Self {
        Self { hotkey, ip, port, protocol }
    }

    fn __repr__(&self) -> String {
        let Self { hotkey, ip, port, protocol } = self;
        format!("QuicAxonInfo(hotkey={hotkey:?}, ip={ip:?}, port={port}, protocol={protocol})")
    }
}

/// A miner, named by its hotkey alone or with its address.
#[derive(Clone)]
pub(super) enum Named {
    Hotkey(String),
    Axon(Axon),
}

impl Named {
    /// A hotkey as text, or an axon; see [`axon`].
    ///
    /// # Errors
    /// As [`axon`].
    pub(super) fn extract_from(miner: &Bound<'_, PyAny>) -> PyResult<Self> {
        match miner.cast::<PyString>() {
            Ok(hotkey) => Ok(Self::Hotkey(hotkey.to_str()?.to_owned())),
            Err(_) => Self::extract_axon(miner),
        }
    }

    /// An axon: a [`QuicAxonInfo`], a dict with its fields, or any object with them as attributes (`AxonInfo` of the
    /// official SDK 10). `protocol` may be left out. Or a neuron of the official SDK's, which is named by its hotkey alone
    /// where it serves nothing.
    ///
    /// # Errors
    /// `KeyError` names a field that a dict lacks; `TypeError` says what else is wrong.
    fn extract_axon(miner: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(info) = miner.cast::<QuicAxonInfo>() {
            let info = info.try_borrow()?;
            return Ok(Self::axon(info.hotkey.clone(), info.ip.clone(), info.port, info.protocol));
        }
        if let Ok(dict) = miner.cast::<PyDict>() {
            let field = |name: &'static str| super::required(dict, name);
            let protocol = dict.get_item("protocol")?;
            return Ok(Self::axon(
                field("hotkey")?.extract()?,
                text(&field("ip")?)?,
                field("port")?.extract()?,
                protocol.map_or(Ok(QUIC), |protocol| protocol.extract())?,
            ));
        }
        if !miner.hasattr("ip")?
            && let Some(named) = neuron(miner)?
        {
            return Self::extract_from(&named);
        }
        let field = |name: &'static str| {
            miner.getattr(name).map_err(|_| {
                let kind = miner.get_type();
                PyTypeError::new_err(format!("{kind} names no miner: it is no hotkey, and has no {name}"))
            })
        };
        let protocol = miner.getattr("protocol").ok();
        Ok(Self::axon(
            field("hotkey")?.extract()?,
            text(&field("ip")?)?,
            field("port")?.extract()?,
            protocol.map_or(Ok(QUIC), |protocol| protocol.extract())?,
        ))
    }

    fn axon(hotkey: String, ip: String, port: u16, protocol: u8) -> Self {
        Self::Axon(Axon::new(hotkey, ip, port, protocol))
    }
}

impl NamesMiner for Named {
    fn hotkey(&self) -> Result<Hotkey, HotkeyError> {
        match self {
            Self::Hotkey(hotkey) => hotkey.parse(),
            Self::Axon(axon) => axon.hotkey(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Hotkey(hotkey) => hotkey.clone(),
            Self::Axon(axon) => axon.hotkey.clone(),
        }
    }

    fn addr(&self) -> Option<PeerAddr> {
        match self {
            Self::Hotkey(_) => None,
            Self::Axon(axon) => Some(axon.addr_key()),
        }
    }
}

/// What a neuron of the official SDK's is named by, a [`QuicAxonInfo`] or a hotkey; `None` if it is none.
fn neuron<'py>(miner: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static NAMED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let named = NAMED.import(miner.py(), "btlightning._miners", "named")?.call1((miner,))?;
    Ok((!named.is_none()).then_some(named))
}

/// A miner with its address; see [`Named::extract_axon`]. The address of a neuron that serves nothing is one that
/// nobody can dial.
///
/// # Errors
/// As [`Named::extract_axon`].
pub(super) fn axon(miner: &Bound<'_, PyAny>) -> PyResult<Axon> {
    Ok(match Named::extract_axon(miner)? {
        Named::Axon(axon) => axon,
        Named::Hotkey(hotkey) => Axon::new(hotkey, NOWHERE.to_string(), 0, QUIC),
    })
}

/// An IP address as text or as an object of the module `ipaddress`.
fn text(ip: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = ip.cast::<PyString>() {
        return Ok(text.to_str()?.to_owned());
    }
    let is_address = ip.get_type().module()?.to_str()? == "ipaddress";
    if is_address { ip.str()?.extract() } else { ip.extract() }
}

/// Every axon of an iterable.
///
/// # Errors
/// As [`axon`].
pub(super) fn axons(miners: &Bound<'_, PyAny>) -> PyResult<Vec<Axon>> {
    miners.try_iter()?.map(|miner| axon(&miner?)).collect()
}

/// Every miner of an iterable, named as it likes.
///
/// # Errors
/// As [`axon`].
pub(super) fn named(miners: &Bound<'_, PyAny>) -> PyResult<Vec<Named>> {
    miners.try_iter()?.map(|miner| Named::extract_from(&miner?)).collect()
}
