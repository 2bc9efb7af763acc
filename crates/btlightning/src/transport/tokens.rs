//! Address tokens (RFC 9000, section 8.1.3): who comes back to a server need not be sent a Retry to show that it is where
//! it says.
//!
//! A server's tokens are its own: encrypted for itself, for one address, and void when it starts again. Here is what each
//! side has to remember of them.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinn::{TokenLog, TokenReuseError, TokenStore};

/// How long a token is good for: a day.
pub(super) const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How many tokens a server gives to a connection: one to come back with, and one for the time after.
pub(super) const GIVEN: u32 = 2;

/// How many tokens a client keeps of a server.
const KEPT: usize = GIVEN as usize;

/// How many servers' tokens a client keeps; beyond that all are forgotten.
const SERVERS_MAX: usize = 1024;

/// The longest token that is kept, in bytes. quinn's take some sixty; one that fills a first packet would leave no room in it.
const TOKEN_BYTES_MAX: usize = 256;

/// How many spent tokens a server remembers. Once there are more, others are taken for spent, which costs a Retry.
const SPENT_MAX: usize = 4096;

/// The tokens of a client, by the server that gave them: what one miner gives is never shown to another.
#[derive(Default)]
pub(super) struct KeptTokens(Mutex<HashMap<SocketAddr, VecDeque<Bytes>>>);

impl KeptTokens {
    /// Those of one server.
    pub(super) fn of(self: &Arc<Self>, server: SocketAddr) -> Arc<dyn TokenStore> {
        Arc::new(TokensOf { kept: self.clone(), server })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, VecDeque<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct TokensOf {
    kept: Arc<KeptTokens>,
    server: SocketAddr,
}

impl TokenStore for TokensOf {
    fn insert(&self, _server_name: &str, token: Bytes) {
        if token.len() > TOKEN_BYTES_MAX {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.len() >= SERVERS_MAX && !kept.contains_key(&self.server) {
            kept.clear();
        }
        let tokens = kept.entry(self.server).or_default();
        tokens.truncate(KEPT - 1);
        // A copy: the token is a part of the packet that it came in.
        tokens.push_front(Bytes::copy_from_slice(&token));
    }

    fn take(&self, _server_name: &str) -> Option<Bytes> {
        let mut kept = self.kept.lock();
        let tokens = kept.get_mut(&self.server)?;
        let newest = tokens.pop_front();
        if tokens.is_empty() {
            kept.remove(&self.server);
        }
        newest
    }
}

/// The tokens of a server that were shown to it, with the time when they would have expired: each is good once.
#[derive(Default)]
pub(super) struct SpentTokens(Mutex<HashMap<u128, SystemTime>>);

impl TokenLog for SpentTokens {
    fn check_and_insert(
        &self,
        nonce: u128,
        issued: SystemTime,
        lifetime: Duration,
    ) -> Result<(), TokenReuseError> {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.contains_key(&nonce) {
            return Err(TokenReuseError);
        }
        if spent.len() >= SPENT_MAX {
            let now = SystemTime::now();
            spent.retain(|_, expires| *expires > now);
            if spent.len() >= SPENT_MAX {
                return Err(TokenReuseError);
            }
        }
        spent.insert(nonce, issued + lifetime);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_token_is_shown_once_and_only_to_who_gave_it() {
        let kept = Arc::new(KeptTokens::default());
        kept.of(server(1)).insert("192.0.2.1", Bytes::from_static(b"one"));
        assert_eq!(kept.of(server(2)).take("192.0.2.1"), None);
        assert_eq!(kept.of(server(1)).take("192.0.2.1").as_deref(), Some(&b"one"[..]));
        assert_eq!(kept.of(server(1)).take("192.0.2.1"), None);
    }

    #[test]
    fn few_tokens_are_kept_the_newest_of_them_and_none_that_is_long() {
        let kept = Arc::new(KeptTokens::default());
        let store = kept.of(server(1));
        for token in [&b"one"[..], b"two", b"three"] {
            store.insert("", Bytes::copy_from_slice(token));
        }
        store.insert("", Bytes::from(vec![0; TOKEN_BYTES_MAX + 1]));
        assert_eq!(store.take("").as_deref(), Some(&b"three"[..]));
        assert_eq!(store.take("").as_deref(), Some(&b"two"[..]));
        assert_eq!(store.take(""), None);

        for port in 0..2 * SERVERS_MAX as u16 {
            kept.of(server(port)).insert("", Bytes::from_static(b"token"));
        }
        assert!(kept.lock().len() <= SERVERS_MAX);
    }

    #[test]
    fn a_token_is_good_once_whichever_comes_first() {
        let spent = SpentTokens::default();
        let now = SystemTime::now();
        // The one that was issued later comes back first.
        for (nonce, issued) in [(2, now), (1, now - Duration::from_secs(3600))] {
            assert!(spent.check_and_insert(nonce, issued, LIFETIME).is_ok());
            assert!(spent.check_and_insert(nonce, issued, LIFETIME).is_err());
        }
    }

    #[test]
    fn as_many_spent_tokens_are_remembered_as_there_is_room_for() {
        let spent = SpentTokens::default();
        let (now, long_ago) = (SystemTime::now(), SystemTime::now() - 2 * LIFETIME);
        let count = SPENT_MAX as u128;
        for nonce in 0..count - 1 {
            assert!(spent.check_and_insert(nonce, now, LIFETIME).is_ok());
        }
        assert!(spent.check_and_insert(count, long_ago, LIFETIME).is_ok());
        // In the place of the one that has expired.
        assert!(spent.check_and_insert(count + 1, now, LIFETIME).is_ok());
        assert!(spent.check_and_insert(count + 2, now, LIFETIME).is_err());
    }
}
