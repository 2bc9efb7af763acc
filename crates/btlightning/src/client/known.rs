//! Routes that calls have taken, by the texts they were asked for with.
//!
//! A program names its miners by text in every call. Reading an SS58 text takes a checksum and some arithmetic on big
//! numbers, longer than all else that a caller does for a small request; so it is done once.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::route::Route;

/// How many routes are kept; beyond that all are forgotten.
const ROUTES_MAX: usize = 4096;

/// A miner as a program spells it.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Spelled<'a> {
    /// Its hotkey.
    pub hotkey: &'a str,
    /// Its address, if the program gives one.
    pub addr: Option<(&'a str, u16)>,
}

/// What is known for as long as the registry stays as it is.
#[derive(Default)]
pub(super) struct KnownRoutes(RwLock<HashMap<String, Known>>);

struct Known {
    addr: Option<(String, u16)>,
    route: Route,
}

impl KnownRoutes {
    pub(super) fn find(&self, spelled: Spelled<'_>) -> Option<Route> {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = routes.get(spelled.hotkey)?;
        let is_same = match (&known.addr, spelled.addr) {
            (Some((ip, port)), Some((wanted_ip, wanted_port))) => ip == wanted_ip && *port == wanted_port,
            (None, None) => true,
            _ => false,
        };
        (is_same && !known.route.slot.is_closed()).then(|| known.route.clone())
    }

    /// Called with the registry locked, so that it is not forgotten before it is noted.
    pub(super) fn note(&self, spelled: Spelled<'_>, route: &Route) {
        let addr = spelled.addr.map(|(ip, port)| (ip.to_owned(), port));
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if routes.len() >= ROUTES_MAX {
            routes.clear();
        }
        routes.insert(spelled.hotkey.to_owned(), Known { addr, route: route.clone() });
    }

    /// Called with the registry locked, whenever it changes.
    pub(super) fn forget(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
