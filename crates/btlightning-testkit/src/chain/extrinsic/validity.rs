//! Whether an extrinsic may enter a block, and how a node says that it may not.

use super::{
    super::{
        block::{After, Hash},
        state::{Axon, State},
    },
    Call, Extrinsic,
    signed::Implicit,
};
use parity_scale_codec::Encode;
use std::cmp::Ordering;

/// What an extrinsic is judged against: the chain as the next block will find it.
pub(in super::super) struct Context<'a> {
    pub(in super::super) after: &'a After,
    /// The number of the next block.
    pub(in super::super) number: u64,
    pub(in super::super) genesis: Hash,
    /// The hash of a block whose state is remembered.
    pub(in super::super) block_hash: &'a dyn Fn(u64) -> Option<Hash>,
}

/// An extrinsic is good, now or later.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Valid {
    Ready,
    /// An extrinsic with a lower nonce is missing.
    Future,
}

/// `InvalidTransaction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Invalid {
    Stale,
    BadProof,
    AncientBirthBlock,
    Payment,
    UnknownOrigin,
    Custom(u8),
}

impl Invalid {
    /// The index of the variant, and what follows it.
    fn variant(self) -> Vec<u8> {
        match self {
            Self::Payment => vec![1],
            Self::Stale => vec![3],
            Self::BadProof => vec![4],
            Self::AncientBirthBlock => vec![5],
            Self::Custom(code) => vec![7, code],
            Self::UnknownOrigin => vec![12],
        }
    }

    /// How a node puts it.
    pub(in super::super) fn reason(self) -> String {
        match self {
            Self::Stale => "Transaction is outdated".into(),
            Self::BadProof => "Transaction has a bad signature".into(),
            Self::AncientBirthBlock => "Transaction has an ancient birth block".into(),
            Self::Payment => "Inability to pay some fees (e.g. account balance too low)".into(),
            Self::UnknownOrigin => "The transaction extension did not authorize any origin".into(),
            Self::Custom(code) => format!("Custom error: {code}"),
        }
    }
}

/// What `TaggedTransactionQueue_validate_transaction` answers.
pub(in super::super) fn encode(validity: Result<Valid, Invalid>, extrinsic: &Extrinsic) -> Vec<u8> {
    let tag = |nonce: u32| (extrinsic.signer(), nonce).encode();
    let nonce = extrinsic.signed.as_ref().map_or(0, |signed| signed.extensions.nonce);
    match validity {
        Ok(valid) => {
            let requires = match valid {
                Valid::Ready => Vec::new(),
                Valid::Future => vec![tag(nonce.saturating_sub(1))],
            };
            let (priority, provides, longevity, propagate) = (0_u64, vec![tag(nonce)], 64_u64, true);
            (0_u8, priority, requires, provides, longevity, propagate).encode()
        }
        Err(invalid) => [vec![1, 0], invalid.variant()].concat(),
    }
}

/// Judges a signed extrinsic as the runtime does before it lets it into the pool, and again into a block.
pub(in super::super) fn validate(context: &Context<'_>, extrinsic: &Extrinsic) -> Result<Valid, Invalid> {
    let Some(signed) = &extrinsic.signed else { return Err(Invalid::UnknownOrigin) };
    let metadata = &context.after.runtime.metadata;
    let birth = signed.extensions.era.birth(context.number);
    let birth = (context.block_hash)(birth).ok_or(Invalid::AncientBirthBlock)?;
    let implicit = Implicit {
        spec_version: metadata.runtime_version().spec_version,
        transaction_version: metadata.runtime_version().transaction_version,
        genesis: context.genesis,
        birth,
    };
    if !signed.is_genuine(metadata, &implicit) {
        return Err(Invalid::BadProof);
    }
    let state = &context.after.state;
    let account = state.accounts.get(&signed.signer).copied().unwrap_or_default();
    let order = signed.extensions.nonce.cmp(&account.nonce);
    if order == Ordering::Less {
        return Err(Invalid::Stale);
    }
    let costs = matches!(extrinsic.call, Call::Other { .. });
    if (costs && account.free == 0) || signed.extensions.tip > account.free {
        return Err(Invalid::Payment);
    }
    if let Call::ServeAxon { netuid, axon } = &extrinsic.call {
        // The runtime checks this call before it lets it into the pool, and the one with a certificate does not.
        may_serve(state, *netuid, &signed.signer, axon, context.number).map_err(ServeError::invalid)?;
    }
    Ok(if order == Ordering::Equal { Valid::Ready } else { Valid::Future })
}

/// Why a neuron may not publish an axon, by the names of the pallet's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServeError {
    SubnetNotExists,
    HotKeyNotRegisteredInNetwork,
    InvalidIpType,
    InvalidIpAddress,
    InvalidPort,
    ServingRateLimitExceeded,
}

impl ServeError {
    /// The name of the pallet's error.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SubnetNotExists => "SubnetNotExists",
            Self::HotKeyNotRegisteredInNetwork => "HotKeyNotRegisteredInNetwork",
            Self::InvalidIpType => "InvalidIpType",
            Self::InvalidIpAddress => "InvalidIpAddress",
            Self::InvalidPort => "InvalidPort",
            Self::ServingRateLimitExceeded => "ServingRateLimitExceeded",
        }
    }

    /// `CustomTransactionError`: what is left of it when the extrinsic does not get into the pool.
    fn invalid(self) -> Invalid {
        Invalid::Custom(match self {
            Self::SubnetNotExists => 3,
            Self::HotKeyNotRegisteredInNetwork => 10,
            Self::InvalidIpAddress => 11,
            Self::ServingRateLimitExceeded => 12,
            Self::InvalidPort => 13,
            // "Bad request": it has no code of its own.
            Self::InvalidIpType => 255,
        })
    }
}

/// The rules for publishing an axon in block `number`.
pub(super) fn may_serve(
    state: &State,
    netuid: u16,
    hotkey: &[u8; 32],
    axon: &Axon,
    number: u64,
) -> Result<(), ServeError> {
    let subnet = state.subnets.get(&netuid);
    let registered = subnet.and_then(|subnet| Some((subnet, subnet.neuron(subnet.uid(hotkey)?)?)));
    let (subnet, neuron) = registered.ok_or(ServeError::HotKeyNotRegisteredInNetwork)?;
    let address_is_refused = match axon.ip_type {
        4 => axon.ip >= u128::from(u32::MAX) || axon.ip == 0x7f00_0001,
        6 => axon.ip == u128::MAX || axon.ip == 1,
        _ => return Err(ServeError::InvalidIpType),
    };
    if address_is_refused {
        return Err(ServeError::InvalidIpAddress);
    }
    let (limit, last) = (subnet.hyperparameters.serving_rate_limit, neuron.axon.map_or(0, |axon| axon.block));
    if limit > 0 && last > 0 && number.saturating_sub(last) < limit {
        return Err(ServeError::ServingRateLimitExceeded);
    }
    if axon.port == 0 {
        return Err(ServeError::InvalidPort);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::super::state::Neuron, *};

    const HOTKEY: [u8; 32] = [1; 32];

    fn state() -> State {
        let mut state = State::default();
        state.add_subnet(2).register(Neuron::new(HOTKEY, [0; 32]));
        state
    }

    fn axon(address: &str) -> Axon {
        Axon::at(address.parse().unwrap())
    }

    #[test]
    fn exactly_the_addresses_that_the_chain_refuses_are_refused() {
        let cases = [
            ("127.0.0.1:1", Err(ServeError::InvalidIpAddress)),
            ("[::1]:1", Err(ServeError::InvalidIpAddress)),
            ("255.255.255.255:1", Err(ServeError::InvalidIpAddress)),
            ("203.0.113.7:0", Err(ServeError::InvalidPort)),
            ("127.0.0.2:1", Ok(())),
            ("10.0.0.1:1", Ok(())),
            ("0.0.0.0:1", Ok(())),
            ("[fe80::1]:1", Ok(())),
            ("203.0.113.7:65535", Ok(())),
        ];
        for (address, expected) in cases {
            assert_eq!(may_serve(&state(), 2, &HOTKEY, &axon(address), 9), expected, "{address}");
        }
        assert_eq!(may_serve(&state(), 2, &HOTKEY, &Axon::reset(), 9), Ok(()));
        for ip_type in [0, 5, 7] {
            let axon = Axon { ip_type, ..axon("203.0.113.7:1") };
            assert_eq!(may_serve(&state(), 2, &HOTKEY, &axon, 9), Err(ServeError::InvalidIpType));
        }
    }

    #[test]
    fn only_a_hotkey_of_the_subnet_publishes() {
        let axon = axon("203.0.113.7:1");
        let refused = Err(ServeError::HotKeyNotRegisteredInNetwork);
        assert_eq!(may_serve(&state(), 2, &[2; 32], &axon, 9), refused);
        assert_eq!(may_serve(&state(), 3, &HOTKEY, &axon, 9), refused);
    }

    #[test]
    fn a_neuron_publishes_once_in_so_many_blocks() {
        let mut state = state();
        state.subnet(2).by_hotkey_mut(&HOTKEY).unwrap().axon =
            Some(Axon { block: 10, ..axon("203.0.113.7:1") });
        let may = |state: &State, number| may_serve(state, 2, &HOTKEY, &axon("203.0.113.8:1"), number);
        assert_eq!(may(&state, 59), Err(ServeError::ServingRateLimitExceeded));
        assert_eq!(may(&state, 60), Ok(()));
        state.subnet(2).hyperparameters.serving_rate_limit = 0;
        assert_eq!(may(&state, 11), Ok(()));
    }
}
