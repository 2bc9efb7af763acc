//! Both sides of the handshake, against whoever holds honest messages and may change, keep, repeat and make up others.

mod client;
mod server;

use std::collections::HashSet;
use std::sync::LazyLock;

use btlightning_proto::identity::{CertFingerprint, Keypair};

pub use self::client::handshake_client;
pub use self::server::handshake_server;

const NOW: u64 = 1_700_000_000;

/// Whoever takes part. The last one is the miner.
static KEYS: LazyLock<[Keypair; 4]> =
    LazyLock::new(|| [1, 2, 3, 9].map(|seed| Keypair::from_seed([seed; 32])));

fn validator(n: u8) -> &'static Keypair {
    &KEYS[usize::from(n % 3)]
}

fn miner() -> &'static Keypair {
    &KEYS[3]
}

/// The certificate of the connection.
fn ours() -> CertFingerprint {
    CertFingerprint::of_certificate(b"the miner's certificate")
}

/// That of somebody in the middle.
fn other() -> CertFingerprint {
    CertFingerprint::of_certificate(b"another certificate")
}

/// What was signed by whom, and how that looks on the wire: all that there is to prove anything with.
#[derive(Default)]
struct Signed(HashSet<(String, String)>);

impl Signed {
    fn note(&mut self, text: String, signature: &str) {
        self.0.insert((text, signature.to_owned()));
    }

    fn has(&self, text: String, signature: &str) -> bool {
        self.0.contains(&(text, signature.to_owned()))
    }
}

/// Puts another byte into a text, as long as it stays one.
fn twisted(text: &str, at: u8, with: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if !bytes.is_empty() {
        let at = usize::from(at) % bytes.len();
        bytes[at] = with;
    }
    String::from_utf8(bytes).unwrap_or_default()
}
