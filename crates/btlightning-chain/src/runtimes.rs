//! [`Runtimes`], which bounds the metadata that is kept.
//!
//! subxt keeps the metadata of every runtime version that a node names, some megabytes each, whatever comes of the
//! operation that it was fetched for. So versions are counted where nodes name them, before anything is fetched.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use subxt::ext::codec::{self, Decode};
use subxt::rpcs::client::{RawRpcFuture, RawRpcSubscription, RawValue, RpcClientT};
use subxt::rpcs::methods::legacy::Bytes;
use subxt::rpcs::{Error, UserError};

const CALL: &str = "state_call";
const VERSION: &str = "\"Core_version\"";

/// The versions after which all are forgotten when an operation ends. Upgrades come every few weeks.
const VERSIONS_KEPT_MAX: usize = 4;
/// The versions after which a node is not believed that there is another, in the middle of an operation too.
const VERSIONS_MAX: usize = 8;

/// The runtime versions that nodes have named; clones count together.
#[derive(Clone)]
pub(crate) struct Runtimes(Option<Arc<Mutex<BTreeSet<u32>>>>);

/// A node has named too many versions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl TooMany {
    pub(crate) const REASON: &'static str = "one runtime version after another";
}

impl Runtimes {
    pub(crate) fn counted() -> Self {
        Self(Some(Arc::default()))
    }

    /// For clients of a caller's own, who may want to look at all the history of a chain.
    pub(crate) fn not_counted() -> Self {
        Self(None)
    }

    /// Counts the version, if `answer`, in hexadecimal, is what says it: whatever subxt would understand as such.
    pub(crate) fn hear(&self, answer: String) -> Result<(), TooMany> {
        let Some(named) = &self.0 else { return Ok(()) };
        let Some(version) = version(answer) else { return Ok(()) };
        let mut named = lock(named);
        if named.len() >= VERSIONS_MAX && !named.contains(&version) {
            return Err(TooMany);
        }
        named.insert(version);
        Ok(())
    }

    /// Whether it is time to forget them.
    pub(crate) fn are_many(&self) -> bool {
        self.0.as_ref().is_some_and(|named| lock(named).len() > VERSIONS_KEPT_MAX)
    }
}

fn lock(named: &Mutex<BTreeSet<u32>>) -> MutexGuard<'_, BTreeSet<u32>> {
    named.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As much of a runtime's version as subxt insists on.
#[derive(Decode)]
#[codec(crate = codec)]
struct Version {
    _spec_name: String,
    _impl_name: String,
    _authoring_version: u32,
    spec_version: u32,
    _impl_version: u32,
    _apis: Vec<([u8; 8], u32)>,
}

fn version(answer: String) -> Option<u32> {
    let bytes: Bytes = serde_json::from_value(answer.into()).ok()?;
    Version::decode(&mut &bytes[..]).ok().map(|version| version.spec_version)
}

/// An RPC client whose answers to the legacy methods are listened to.
pub(crate) struct Counting<C> {
    client: C,
    runtimes: Runtimes,
}

impl<C> Counting<C> {
    pub(crate) fn new(client: C, runtimes: Runtimes) -> Self {
        Self { client, runtimes }
    }
}

impl<C: RpcClientT> RpcClientT for Counting<C> {
    fn request_raw<'a>(
        &'a self,
        method: &'a str,
        params: Option<Box<RawValue>>,
    ) -> RawRpcFuture<'a, Box<RawValue>> {
        let names_version =
            method == CALL && params.as_ref().is_some_and(|params| params.get().contains(VERSION));
        let request = self.client.request_raw(method, params);
        if !names_version {
            return request;
        }
        Box::pin(async move {
            let answer = request.await?;
            let hex: String = serde_json::from_str(answer.get()).unwrap_or_default();
            match self.runtimes.hear(hex) {
                Ok(()) => Ok(answer),
                Err(TooMany) => {
                    let message = TooMany::REASON.to_owned();
                    Err(Error::User(UserError { code: 0, message, data: None }))
                }
            }
        })
    }

    fn subscribe_raw<'a>(
        &'a self,
        subscribe: &'a str,
        params: Option<Box<RawValue>>,
        unsubscribe: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        self.client.subscribe_raw(subscribe, params, unsubscribe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: u32) -> String {
        let names = [4 << 2, b'n', b'o', b'd', b'e'].repeat(2);
        let numbers = [1, version, 1].map(u32::to_le_bytes).concat();
        let bytes = [names, numbers, vec![0]].concat();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("0x{hex}")
    }

    #[test]
    fn versions_are_counted_once_each_and_no_more_of_them_than_are_borne() {
        let runtimes = Runtimes::counted();
        for version in (1..=4).chain(1..=4) {
            assert_eq!(runtimes.hear(answer(version)), Ok(()));
        }
        assert!(!runtimes.are_many());
        for version in 5..=8 {
            assert_eq!(runtimes.hear(answer(version)), Ok(()));
            assert!(runtimes.are_many());
        }
        assert_eq!(runtimes.clone().hear(answer(9)), Err(TooMany));
        assert_eq!(runtimes.hear(answer(8)), Ok(()));
        for other in ["0x00", "0xzz", "", "0x0c0e0000000f00000010000000"] {
            assert_eq!(runtimes.hear(other.to_owned()), Ok(()), "{other} names none");
        }
        let runtimes = Runtimes::not_counted();
        assert!((1..=99).all(|version| runtimes.hear(answer(version)).is_ok()) && !runtimes.are_many());
    }
}
