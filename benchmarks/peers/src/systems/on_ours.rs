//! The program in `dynamic.rs` on this project.

use std::net::SocketAddr;

use btlightning_ours as btlightning;
use btlightning_ours::{
    LightningClient, LightningClientConfig, LightningServer, LightningServerConfig, Result,
};

use crate::distance::Distance;

#[path = "dynamic.rs"]
pub mod dynamic;

/// `LightningClient::with_config`, on a network where servers are as far away as is said.
pub fn client(hotkey: String, config: LightningClientConfig, distance: Distance) -> Result<LightningClient> {
    LightningClient::with_network(hotkey, config, distance.network())
}

/// `LightningServer::with_config` on loopback, on a network where clients are as far away as is said.
pub fn server(
    hotkey: String,
    port: u16,
    config: LightningServerConfig,
    distance: Distance,
) -> Result<LightningServer> {
    LightningServer::with_network(hotkey, "127.0.0.1".to_owned(), port, config, distance.network())
}

/// The address that a server is dialled at.
pub fn dialled(addr: SocketAddr, distance: Distance) -> SocketAddr {
    distance.shown(addr)
}
