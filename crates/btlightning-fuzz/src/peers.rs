//! Lists of miners, and the texts in them: hotkeys, addresses, and what else peers and chains spell.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use arbitrary::{Arbitrary, Unstructured};
use btlightning::fuzzing::printable_within;
use btlightning_proto::identity::{CertFingerprint, Hotkey, Nonce, TlsKeyPin};
use btlightning_proto::peers::{PeerAddr, QuicAxonInfo, Rejected, RejectedWhy, WantedPeers};

#[derive(Debug, Arbitrary)]
struct Axon {
    hotkey: HotkeyText,
    ip: IpText,
    port: u16,
    protocol: u8,
}

#[derive(Debug, Arbitrary)]
enum HotkeyText {
    Of(u8),
    Key([u8; 32]),
    Twisted { of: u8, at: u8, with: char },
    Text(String),
}

#[derive(Debug, Arbitrary)]
enum IpText {
    Near(u8),
    V4([u8; 4]),
    V6([u16; 8]),
    Mapped([u8; 4]),
    Text(String),
}

impl From<Axon> for QuicAxonInfo {
    fn from(axon: Axon) -> Self {
        let of = |n: u8| spelled([n % 8 + 1; 32]);
        let hotkey = match axon.hotkey {
            HotkeyText::Of(n) => of(n),
            HotkeyText::Key(key) => spelled(key),
            HotkeyText::Twisted { of: n, at, with } => {
                let mut text: Vec<char> = of(n).chars().collect();
                let at = usize::from(at) % text.len();
                text[at] = with;
                text.into_iter().collect()
            }
            HotkeyText::Text(text) => text,
        };
        let ip = match axon.ip {
            IpText::Near(n) => format!("192.0.2.{}", n % 4),
            IpText::V4(octets) => std::net::Ipv4Addr::from(octets).to_string(),
            IpText::V6(segments) => std::net::Ipv6Addr::from(segments).to_string(),
            IpText::Mapped([a, b, c, d]) => format!("::ffff:{a}.{b}.{c}.{d}"),
            IpText::Text(text) => text,
        };
        Self::new(hotkey, ip, axon.port, axon.protocol)
    }
}

fn spelled(key: [u8; 32]) -> String {
    Hotkey::from_public_key(key).map_or_else(|_| "5".to_owned(), |hotkey| hotkey.to_string())
}

/// A list of axons, in the form that `arbitrary` reads.
pub fn peers_list(data: &[u8]) {
    let Ok(axons) = Vec::<Axon>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let axons: Vec<QuicAxonInfo> = axons.into_iter().map(QuicAxonInfo::from).collect();
    let json = serde_json::to_vec(&axons).expect("texts and numbers");
    assert_eq!(serde_json::from_slice::<Vec<QuicAxonInfo>>(&json).expect("ours"), axons);

    let (wanted, rejected) = WantedPeers::parse(axons.clone());
    assert_eq!(wanted.as_slice().len() + rejected.len(), axons.len(), "nothing is lost without a word");
    let different: HashSet<_> = wanted.as_slice().iter().map(|(hotkey, _)| *hotkey).collect();
    assert_eq!(different.len(), wanted.as_slice().len(), "a hotkey has one address");

    let (mut wanted, mut rejected) = (wanted.as_slice().iter(), rejected.iter());
    for (index, axon) in axons.iter().enumerate() {
        let hotkey = axon.hotkey.parse::<Hotkey>();
        let addr = axon.addr_key().canonical();
        let comes_again = axons[index + 1..]
            .iter()
            .any(|later| later.hotkey == axon.hotkey && later.addr_key().canonical().is_ok());
        match (hotkey, addr) {
            (Ok(hotkey), Ok(addr)) if !comes_again => {
                assert_eq!(wanted.next(), Some(&(hotkey, addr.clone())), "in the order of the list");
                can_be_dialled(&addr);
            }
            (hotkey, addr) => {
                let why = match (hotkey, addr) {
                    (Err(error), _) => RejectedWhy::Hotkey(error),
                    (_, Err(error)) => RejectedWhy::Address(error),
                    _ => RejectedWhy::Superseded,
                };
                assert_eq!(rejected.next(), Some(&Rejected { axon: axon.clone(), why }));
            }
        }
    }
    assert!(wanted.next().is_none() && rejected.next().is_none());
}

fn can_be_dialled(addr: &PeerAddr) {
    let socket = addr.socket_addr().expect("it was canonical");
    let ip = socket.ip();
    assert!(socket.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip == ip.to_canonical());
    assert_eq!(socket.to_string(), addr.to_string());
    assert_eq!(addr.canonical().as_ref(), Ok(addr));
    assert_eq!(PeerAddr::from(socket), *addr);
}

/// A port (two bytes), and a text that might be anything.
pub fn texts(data: &[u8]) {
    let Some((port, bytes)) = data.split_first_chunk() else { return };
    line_of_a_log(bytes, u16::from_le_bytes(*port).into());
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    one_spelling::<Hotkey>(text, str::to_owned);
    one_spelling::<CertFingerprint>(text, str::to_owned);
    one_spelling::<Nonce>(text, str::to_ascii_lowercase);
    one_spelling::<TlsKeyPin>(text, str::to_ascii_lowercase);
    if let Ok(addr) = PeerAddr::new(text, u16::from_le_bytes(*port)).canonical() {
        can_be_dialled(&addr);
    }
    let as_json = serde_json::to_string(text).expect("a text");
    assert_eq!(serde_json::from_str::<Hotkey>(&as_json).ok(), text.parse().ok());
}

/// Whatever reads as a `T` is how it is spelled.
fn one_spelling<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(
    text: &str,
    canonical: fn(&str) -> String,
) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), canonical(text));
        assert_eq!(value.to_string().parse::<T>().expect("its own spelling"), value);
    }
}

/// What others write gets into a log as a part of one line, and is bounded.
fn line_of_a_log(bytes: &[u8], bytes_max: usize) {
    let line = printable_within(bytes, bytes_max);
    // One byte that is no UTF-8 becomes a character of three; one that is not shown, an escape.
    assert!(line.len() <= 10 * bytes_max + '…'.len_utf8(), "{} bytes of {bytes_max}", line.len());
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}');
    assert!(!line.contains(breaks), "{line:?}");
}
