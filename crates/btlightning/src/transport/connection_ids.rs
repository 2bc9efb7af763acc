//! What packets name their connections by.
//!
//! quinn's own identifiers have 24 random bits. It makes sure that no two connections have the same one; but not that the
//! one that a Retry names is free, by which a client that has shown its address begins. With a thousand connections, of
//! several identifiers each, one in 2,500 newcomers would talk into somebody else's connection, and hear nothing until it
//! gives up.

use std::hash::{BuildHasher, RandomState};

use quinn::ConnectionId;
use quinn_proto::{ConnectionIdGenerator, InvalidCid};

const NONCE_BYTES: usize = 6;

/// A quarter of the identifier shows that this endpoint has made it, so that hardly any stray packet is answered by a
/// stateless reset.
const BYTES: usize = 8;

/// Makes identifiers that nobody can foresee, nor tell which of them belong together.
#[derive(Debug, Default)]
pub(super) struct ConnectionIds {
    secret: RandomState,
    made: u64,
}

impl ConnectionIds {
    fn with_proof(&self, nonce: &[u8]) -> [u8; BYTES] {
        let proof = self.secret.hash_one((true, nonce)).to_be_bytes();
        std::array::from_fn(|n| if n < NONCE_BYTES { nonce[n] } else { proof[n] })
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.made += 1;
        let nonce = self.secret.hash_one((false, self.made)).to_be_bytes();
        ConnectionId::new(&self.with_proof(&nonce[..NONCE_BYTES]))
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let made = id.len() == BYTES && self.with_proof(&id[..NONCE_BYTES]) == **id;
        if made { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn of_many_no_two_are_alike_and_others_identifiers_are_known_as_such() {
        let (mut ids, others) = (ConnectionIds::default(), ConnectionIds::default());
        let made: HashSet<_> = (0..20_000).map(|_| ids.generate_cid()).collect();
        assert_eq!(made.len(), 20_000);
        assert!(made.iter().all(|id| ids.validate(id).is_ok()));
        let mistaken = made.iter().filter(|id| others.validate(id).is_ok()).count();
        assert!(mistaken < 20, "{mistaken}");
        assert!(ids.validate(&ConnectionId::new(&[7; 5])).is_err());
    }
}
