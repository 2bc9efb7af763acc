//! [`Network`], which chain is meant: by name, by URL, or from the environment.

use std::env;

use btlightning_proto::error::LightningError;

use crate::words::printable;

/// Mainnet's entry point.
pub const FINNEY_ENDPOINT: &str = "wss://entrypoint-finney.opentensor.ai:443";
/// The node that the official SDK falls back to when mainnet's entry point does not answer.
pub const FINNEY_FALLBACK_ENDPOINT: &str = "wss://lite.chain.opentensor.ai:443";
/// The test network's entry point.
pub const TESTNET_ENDPOINT: &str = "wss://test.finney.opentensor.ai:443";
/// Where a node on this machine listens.
pub const LOCAL_ENDPOINT: &str = "ws://127.0.0.1:9944";

/// The hash of mainnet's first block, by which it is known whatever the node that tells of it. Source: the official SDK
/// 11.3, `settings.py`.
pub const FINNEY_GENESIS: [u8; 32] = [
    0x2f, 0x05, 0x55, 0xcc, 0x76, 0xfc, 0x28, 0x40, 0xa2, 0x5a, 0x6e, 0xa3, 0xb9, 0x63, 0x71, 0x46, 0x80, 0x6f, 0x1f,
    0x44, 0xb0, 0x90, 0xc1, 0x75, 0xff, 0xde, 0x2a, 0x7e, 0x5a, 0xb3, 0x6c, 0x03,
];

/// A network that is given as one or more endpoints has this name.
const UNNAMED: &str = "custom";
const ENDPOINTS_MAX: usize = 16;
const ENDPOINT_BYTES_MAX: usize = 2048;

/// Which chain is meant, and the nodes to ask for it, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    name: &'static str,
    endpoints: Vec<String>,
}

impl Network {
    /// Mainnet, with the fallback that the official SDK uses.
    pub fn finney() -> Self {
        Self::of("finney", &[FINNEY_ENDPOINT, FINNEY_FALLBACK_ENDPOINT])
    }

    /// The test network.
    pub fn testnet() -> Self {
        Self::of("test", &[TESTNET_ENDPOINT])
    }

    /// A node on this machine.
    pub fn local() -> Self {
        Self::of("local", &[LOCAL_ENDPOINT])
    }

    fn of(name: &'static str, endpoints: &[&str]) -> Self {
        Self { name, endpoints: endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect() }
    }

    /// The network of a name: `finney`, `test` or `local`.
    ///
    /// # Errors
    /// [`NetworkError::UnknownName`].
    pub fn named(name: &str) -> Result<Self, NetworkError> {
        match name {
            "finney" => Ok(Self::finney()),
            "test" => Ok(Self::testnet()),
            "local" => Ok(Self::local()),
            _ => Err(NetworkError::UnknownName { name: printable(name) }),
        }
    }

    /// A network by name, by the URL of a node, or by several URLs with commas between them, best first.
    ///
    /// # Errors
    /// [`NetworkError`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let text = text.trim();
        if !text.contains("://") && !text.contains(',') {
            return Self::named(text);
        }
        Self::from_endpoints(text.split(',').map(str::trim).filter(|part| !part.is_empty()))
    }

    /// A network by the URLs of its nodes, best first. One that is named twice counts once.
    ///
    /// # Errors
    /// [`NetworkError`] if there is none, if there are more than 16, or if one is not a `ws://` or `wss://` URL.
    pub fn from_endpoints<T: AsRef<str>>(
        endpoints: impl IntoIterator<Item = T>,
    ) -> Result<Self, NetworkError> {
        let mut kept: Vec<String> = Vec::new();
        for endpoint in endpoints {
            let endpoint = endpoint.as_ref();
            check_endpoint(endpoint)?;
            if kept.iter().any(|known| known == endpoint) {
                continue;
            }
            if kept.len() == ENDPOINTS_MAX {
                return Err(NetworkError::TooMany { max: ENDPOINTS_MAX });
            }
            kept.push(endpoint.to_owned());
        }
        let first = kept.first().ok_or(NetworkError::NoEndpoint)?;
        let known = [Self::finney(), Self::testnet(), Self::local()];
        let name =
            known.iter().find(|network| network.endpoints[0] == *first).map_or(UNNAMED, |known| known.name);
        Ok(Self { name, endpoints: kept })
    }

    /// The network that the environment names, as the official SDKs read it; mainnet if it names none.
    ///
    /// The first of these that is set and not empty: `BT_CHAIN_ENDPOINT`, `BT_SUBTENSOR_CHAIN_ENDPOINT` (URLs),
    /// `BT_NETWORK`, `BT_SUBTENSOR_NETWORK` (a name or URLs).
    ///
    /// # Errors
    /// [`NetworkError::Environment`] names the variable that cannot be read.
    pub fn from_env() -> Result<Self, NetworkError> {
        Self::from_variables(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn from_variables(value_of: impl Fn(&str) -> Option<String>) -> Result<Self, NetworkError> {
        for variable in VARIABLES {
            let Some(value) = value_of(variable).filter(|value| !value.trim().is_empty()) else { continue };
            return Self::parse(&value)
                .map_err(|why| NetworkError::Environment { variable, why: Box::new(why) });
        }
        Ok(Self::finney())
    }

    /// `finney`, `test`, `local`, or `custom` for nodes that are none of these.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The nodes to ask, best first; at least one.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Whether every node is on this machine or in a private network, so that its miners may be, too.
    pub fn is_local(&self) -> bool {
        self.endpoints.iter().all(|endpoint| is_local_host(host(endpoint)))
    }
}

/// In the order they are asked. A URL says more than a name, and the newer SDK's variable more than the older one's.
const VARIABLES: [&str; 4] =
    ["BT_CHAIN_ENDPOINT", "BT_SUBTENSOR_CHAIN_ENDPOINT", "BT_NETWORK", "BT_SUBTENSOR_NETWORK"];

fn check_endpoint(endpoint: &str) -> Result<(), NetworkError> {
    let bad = |why| NetworkError::NotAnEndpoint { endpoint: printable(endpoint), why };
    if endpoint.len() > ENDPOINT_BYTES_MAX {
        return Err(bad("it is too long"));
    }
    if endpoint.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("it has a space in it"));
    }
    if !endpoint.starts_with("ws://") && !endpoint.starts_with("wss://") {
        return Err(bad("it starts with neither ws:// nor wss://"));
    }
    if host(endpoint).is_empty() {
        return Err(bad("it names no host"));
    }
    Ok(())
}

/// The host of a URL, without brackets. Only for what the text itself shows; dialling parses it anew.
fn host(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host_and_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host_and_port.split(':').next().unwrap_or_default(),
    }
}

fn is_local_host(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => !crate::address::is_routable(ip) && !ip.is_unspecified(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Why a text names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No network has this name.
    #[error("`{name}` is no network; finney, test and local are, and so is a ws:// or wss:// URL")]
    UnknownName {
        /// The name, shortened.
        name: String,
    },
    /// There is no URL in it.
    #[error("no endpoint is given")]
    NoEndpoint,
    /// There are more URLs than would ever be tried.
    #[error("more than {max} endpoints")]
    TooMany {
        /// The most that can be given.
        max: usize,
    },
    /// It is not the URL of a node.
    #[error("`{endpoint}` is no endpoint: {why}")]
    NotAnEndpoint {
        /// The text, shortened.
        endpoint: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A variable of the environment names no network.
    #[error("{variable}: {why}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        why: Box<NetworkError>,
    },
}

impl From<NetworkError> for LightningError {
    fn from(err: NetworkError) -> Self {
        Self::Config(err.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Vec<String>) {
        let network = Network::parse(text).unwrap();
        (network.name().to_owned(), network.endpoints().to_vec())
    }

    fn from(variables: &[(&str, &str)]) -> Result<Network, NetworkError> {
        Network::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_network_has_a_name_or_urls() {
        assert_eq!(Network::parse("finney"), Ok(Network::finney()));
        assert_eq!(Network::parse(" test "), Ok(Network::testnet()));
        assert_eq!(Network::parse("local"), Ok(Network::local()));
        assert_eq!(parsed("ws://10.0.0.1:9944"), ("custom".into(), vec!["ws://10.0.0.1:9944".into()]));
        assert_eq!(
            parsed("wss://a.example, ws://b.example:1/path,wss://a.example,"),
            ("custom".into(), vec!["wss://a.example".into(), "ws://b.example:1/path".into()])
        );
    }

    #[test]
    fn a_known_url_has_its_networks_name_and_no_other_nodes() {
        assert_eq!(parsed(FINNEY_ENDPOINT), ("finney".into(), vec![FINNEY_ENDPOINT.into()]));
        assert_eq!(parsed(TESTNET_ENDPOINT).0, "test");
        assert_eq!(parsed(LOCAL_ENDPOINT).0, "local");
    }

    #[test]
    fn what_names_no_network_is_refused_with_its_reason() {
        assert!(
            matches!(Network::parse("finey"), Err(NetworkError::UnknownName { name }) if name == "finey")
        );
        assert!(matches!(Network::parse(""), Err(NetworkError::UnknownName { .. })));
        assert_eq!(Network::parse(","), Err(NetworkError::NoEndpoint));
        for text in
            ["http://a.example", "ws://", "wss://:443", "ws://a b", "finney,wss://a.example", "ws://[]:1"]
        {
            assert!(matches!(Network::parse(text), Err(NetworkError::NotAnEndpoint { .. })), "{text}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("ws://{n}.example")).collect();
        assert_eq!(Network::from_endpoints(&many), Err(NetworkError::TooMany { max: 16 }));
        assert!(Network::from_endpoints(&many[..16]).is_ok());
        let long = format!("ws://{}", "a".repeat(3000));
        assert!(Network::parse(&long).unwrap_err().to_string().len() < 400);
    }

    #[test]
    fn the_environment_is_read_urls_first_and_newer_names_first() {
        assert_eq!(from(&[]), Ok(Network::finney()));
        assert_eq!(from(&[("BT_NETWORK", "test")]), Ok(Network::testnet()));
        assert_eq!(from(&[("BT_NETWORK", ""), ("BT_SUBTENSOR_NETWORK", "test")]), Ok(Network::testnet()));
        assert_eq!(from(&[("BT_NETWORK", "local"), ("BT_SUBTENSOR_NETWORK", "test")]), Ok(Network::local()));
        let endpoint = from(&[("BT_NETWORK", "test"), ("BT_CHAIN_ENDPOINT", "ws://a.example:1")]).unwrap();
        assert_eq!(endpoint.endpoints(), ["ws://a.example:1"]);
        let older =
            from(&[("BT_SUBTENSOR_CHAIN_ENDPOINT", "ws://b.example:1"), ("BT_NETWORK", "test")]).unwrap();
        assert_eq!(older.endpoints(), ["ws://b.example:1"]);
        let wrong = from(&[("BT_SUBTENSOR_NETWORK", "finey")]).unwrap_err();
        assert!(wrong.to_string().starts_with("BT_SUBTENSOR_NETWORK: `finey` is no network"), "{wrong}");
    }

    #[test]
    fn local_is_what_the_internet_cannot_reach() {
        for text in [
            "local",
            "ws://localhost:9944",
            "ws://[::1]:1",
            "ws://192.168.1.2",
            "ws://user:pw@127.0.0.1:1/x?y",
        ] {
            assert!(Network::parse(text).unwrap().is_local(), "{text}");
        }
        for text in
            ["finney", "test", "ws://8.8.8.8", "ws://127.0.0.1:1,ws://8.8.8.8", "ws://localhost.example.com"]
        {
            assert!(!Network::parse(text).unwrap().is_local(), "{text}");
        }
    }
}
