//! [`MinerFilter`]: which neurons of a subnet count as QUIC miners.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use btlightning_proto::identity::Hotkey;
use btlightning_proto::peers::QuicAxonInfo;

use crate::address::is_routable;
use crate::metagraph::{Metagraph, NeuronInfo};

/// The protocol number that miners announce for QUIC. Official tools announce it for plain HTTP, too.
pub const QUIC_PROTOCOL: u8 = 4;

/// A user's own choice of miners.
type Predicate = Arc<dyn Fn(&NeuronInfo) -> bool + Send + Sync>;

/// Which neurons count as miners to connect to.
///
/// The default takes every neuron without a validator permit that announces protocol 4 at an IPv4 or IPv6 address that
/// the internet can reach.
///
/// - Holders of a validator permit are left out, as in btlightning 0.2. A miner whose stake earned it one is found with
///   [`validator_permit(None)`](Self::validator_permit).
/// - `active` is **not** required: the chain clears it for whoever has set no weights for some 5,000 blocks, and miners
///   need not set any.
/// - Axons that were reset (address zero) are left out, and so is port 0.
/// - Protocol 4 does not prove QUIC; only a handshake does. Peers that never complete one are probed ever more slowly.
///
/// Each call narrows or widens the choice; what is not said keeps its default.
#[derive(Clone)]
pub struct MinerFilter {
    protocol: Option<u8>,
    stake_min: u64,
    validator_permit: Option<bool>,
    active: bool,
    private: bool,
    loopback: bool,
    except: Arc<HashSet<String>>,
    predicate: Option<Predicate>,
}

impl Default for MinerFilter {
    fn default() -> Self {
        Self {
            protocol: Some(QUIC_PROTOCOL),
            stake_min: 0,
            validator_permit: Some(false),
            active: false,
            private: false,
            loopback: false,
            except: Arc::default(),
            predicate: None,
        }
    }
}

impl MinerFilter {
    /// The default choice.
    pub fn new() -> Self {
        Self::default()
    }

    /// The default choice for nodes of a local network: private and loopback addresses count, too.
    pub fn for_local_network() -> Self {
        Self::default().allow_private(true).allow_loopback(true)
    }

    /// Which protocol number must be announced; `None` for any. Default: 4.
    #[must_use]
    pub fn protocol(mut self, protocol: Option<u8>) -> Self {
        self.protocol = protocol;
        self
    }

    /// The least stake, in rao of the subnet's alpha. Default: 0.
    #[must_use]
    pub fn min_stake(mut self, rao: u64) -> Self {
        self.stake_min = rao;
        self
    }

    /// `Some(true)` for holders of a validator permit only, `Some(false)` for everyone else. `None` for
    /// both. Default: `Some(false)`.
    #[must_use]
    pub fn validator_permit(mut self, permit: Option<bool>) -> Self {
        self.validator_permit = permit;
        self
    }

    /// Whether only neurons count that the chain calls active, which loses miners that set no weights. Default: no.
    #[must_use]
    pub fn require_active(mut self, required: bool) -> Self {
        self.active = required;
        self
    }

    /// Whether addresses count that only a private network reaches, such as 10.0.0.1 or fd00::1. Default: no.
    #[must_use]
    pub fn allow_private(mut self, allowed: bool) -> Self {
        self.private = allowed;
        self
    }

    /// Whether loopback addresses count. Default: no.
    #[must_use]
    pub fn allow_loopback(mut self, allowed: bool) -> Self {
        self.loopback = allowed;
        self
    }

    /// Hotkeys that never count, such as one's own. Replaces those of an earlier call. Default: none.
    #[must_use]
    pub fn except<T: Into<String>>(mut self, hotkeys: impl IntoIterator<Item = T>) -> Self {
        self.except = Arc::new(hotkeys.into_iter().map(Into::into).collect());
        self
    }

    /// A choice of the user's own, asked last, about neurons that pass everything else. Replaces an earlier one.
    ///
    /// It is called once a neuron at every sync and must not block. A neuron it panics about does not count, and the
    /// panic is logged.
    #[must_use]
    pub fn matching(mut self, predicate: Arc<dyn Fn(&NeuronInfo) -> bool + Send + Sync>) -> Self {
        self.predicate = Some(predicate);
        self
    }

    /// Whether `neuron` counts as a miner.
    pub fn accepts(&self, neuron: &NeuronInfo) -> bool {
        self.protocol.is_none_or(|protocol| protocol == neuron.axon_protocol)
            && neuron.stake >= self.stake_min
            && self.validator_permit.is_none_or(|permit| permit == neuron.validator_permit)
            && (neuron.is_active || !self.active)
            && neuron.axon_port != 0
            && neuron.axon_ip.parse().is_ok_and(|ip| self.accepts_ip(ip))
            && !self.except.contains(&neuron.hotkey)
            && self.predicate.as_ref().is_none_or(|predicate| asked(predicate, neuron))
    }

    fn accepts_ip(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        is_routable(ip) || (self.loopback && ip.is_loopback()) || (self.private && is_private(ip))
    }
}

/// Private use, link-local and shared (carrier-grade NAT) addresses; a scope is not on the chain, so link-local IPv6
/// cannot be dialled.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

fn asked(predicate: &Predicate, neuron: &NeuronInfo) -> bool {
    catch_unwind(AssertUnwindSafe(|| predicate(neuron))).unwrap_or_else(|_| {
        tracing::warn!(uid = neuron.uid, hotkey = %neuron.hotkey, "the choice of miners panicked; not chosen");
        false
    })
}

impl fmt::Debug for MinerFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MinerFilter")
            .field("protocol", &self.protocol)
            .field("stake_min", &self.stake_min)
            .field("validator_permit", &self.validator_permit)
            .field("active", &self.active)
            .field("private", &self.private)
            .field("loopback", &self.loopback)
            .field("except", &self.except.len())
            .field("predicate", &self.predicate.is_some())
            .finish()
    }
}

/// The holders of a validator permit with at least `stake_min` rao of the subnet's alpha, with their stake, highest
/// first.
pub fn permitted_hotkeys(metagraph: &Metagraph, stake_min: u64) -> Vec<(Hotkey, u64)> {
    let mut permitted: Vec<(Hotkey, u64)> = metagraph
        .neurons
        .iter()
        .filter(|neuron| neuron.validator_permit && neuron.stake >= stake_min)
        .filter_map(|neuron| Some((neuron.hotkey.parse().ok()?, neuron.stake)))
        .collect();
    permitted.sort_unstable_by(|(left, more), (right, less)| less.cmp(more).then(left.cmp(right)));
    permitted
}

impl From<&NeuronInfo> for QuicAxonInfo {
    fn from(neuron: &NeuronInfo) -> Self {
        Self::new(neuron.hotkey.clone(), neuron.axon_ip.clone(), neuron.axon_port, neuron.axon_protocol)
    }
}
