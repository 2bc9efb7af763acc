//! The program in `dynamic.rs`, the same text, on the published package.
#![allow(clippy::duplicate_mod, reason = "compiling one text twice is the point")]

use std::net::SocketAddr;

use btlightning_published as btlightning;
use btlightning_published::{
    LightningClient, LightningClientConfig, LightningServer, LightningServerConfig, Result,
};

use crate::distance::Distance;

#[path = "dynamic.rs"]
pub mod dynamic;

// It treats all addresses alike.

fn client(hotkey: String, config: LightningClientConfig, _: Distance) -> Result<LightningClient> {
    LightningClient::with_config(hotkey, config)
}

fn server(hotkey: String, port: u16, config: LightningServerConfig, _: Distance) -> Result<LightningServer> {
    LightningServer::with_config(hotkey, "127.0.0.1".to_owned(), port, config)
}

fn dialled(addr: SocketAddr, _: Distance) -> SocketAddr {
    addr
}
