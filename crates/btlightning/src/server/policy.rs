//! Who may come in, as the resolvers last said.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use super::published::SourceAllowlist;
use crate::Hotkey;

/// The validators that hold a permit. None before the first resolution.
#[derive(Debug, Default)]
pub(super) struct Permits {
    holders: RwLock<Arc<HashSet<Hotkey>>>,
}

impl Permits {
    /// Puts a new set in force. Texts that are no hotkeys name nobody who could authenticate; says how many they were.
    pub(super) fn replace(&self, hotkeys: &HashSet<String>) -> usize {
        let holders: HashSet<Hotkey> = hotkeys.iter().filter_map(|text| text.parse().ok()).collect();
        let invalid = hotkeys.len() - holders.len();
        *self.holders.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(holders);
        invalid
    }

    /// The set in force.
    pub(super) fn current(&self) -> Arc<HashSet<Hotkey>> {
        self.holders.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn holds(&self, hotkey: &Hotkey) -> bool {
        self.holders.read().unwrap_or_else(PoisonError::into_inner).contains(hotkey)
    }
}

/// The addresses that may connect.
#[derive(Debug, Default)]
pub(super) struct Sources {
    allowed: RwLock<Arc<Allowed>>,
}

/// What the last resolution said.
#[derive(Debug, Default)]
pub(super) enum Allowed {
    /// There was none yet: nobody is let in that nobody has named.
    #[default]
    Unresolved,
    /// Everybody, for now.
    Everybody,
    /// These, in their canonical form.
    Only(HashSet<IpAddr>),
}

impl Allowed {
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match self {
            Self::Unresolved => false,
            Self::Everybody => true,
            Self::Only(ips) => ips.contains(&ip.to_canonical()),
        }
    }

    /// How many addresses are named.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Unresolved | Self::Everybody => 0,
            Self::Only(ips) => ips.len(),
        }
    }

    pub(super) fn is_unresolved(&self) -> bool {
        matches!(self, Self::Unresolved)
    }

    pub(super) fn is_bypass(&self) -> bool {
        matches!(self, Self::Everybody)
    }
}

impl From<SourceAllowlist> for Allowed {
    fn from(list: SourceAllowlist) -> Self {
        match list {
            SourceAllowlist::Bypass => Self::Everybody,
            SourceAllowlist::Enforce(ips) => Self::Only(ips.iter().map(IpAddr::to_canonical).collect()),
        }
    }
}

impl Sources {
    pub(super) fn replace(&self, list: SourceAllowlist) {
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list.into());
    }

    pub(super) fn current(&self) -> Arc<Allowed> {
        self.allowed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_compared_by_key_and_what_is_no_hotkey_is_counted() {
        let alice = Hotkey::from_public_key([7; 32]).unwrap();
        let permits = Permits::default();
        assert!(!permits.holds(&alice));
        assert_eq!(permits.replace(&HashSet::from([alice.to_string(), "nobody".to_owned()])), 1);
        assert!(permits.holds(&alice));
        assert_eq!(permits.current().len(), 1);
        permits.replace(&HashSet::new());
        assert!(!permits.holds(&alice));
    }

    #[test]
    fn nobody_is_allowed_before_the_first_resolution() {
        let sources = Sources::default();
        assert!(!sources.current().contains("127.0.0.1".parse().unwrap()));
        assert!(!sources.current().is_bypass());
    }

    #[test]
    fn addresses_are_compared_in_their_canonical_form() {
        let sources = Sources::default();
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        sources.replace(SourceAllowlist::Enforce(HashSet::from([mapped, "10.0.0.1".parse().unwrap()])));
        assert_eq!(sources.current().len(), 1);
        assert!(
            sources.current().contains("10.0.0.1".parse().unwrap()) && sources.current().contains(mapped)
        );
        assert!(!sources.current().contains("10.0.0.2".parse().unwrap()));
        sources.replace(SourceAllowlist::Bypass);
        assert!(sources.current().is_bypass() && sources.current().contains("10.0.0.2".parse().unwrap()));
    }
}
