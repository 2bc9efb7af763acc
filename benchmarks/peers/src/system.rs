//! What a system must be able to do to be measured: a server that echoes, and a client that asks it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::place::Layout;

/// How the processes introduce a server to each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerAt {
    /// Where it listens, or where a relay to it does.
    pub addr: SocketAddr,
    /// What the system's client must know to trust it: a hotkey, or a certificate in PEM.
    pub key: String,
}

/// One of the things that are compared. Made once in a process.
pub trait System: Send + Sync + 'static {
    /// Its server.
    type Server: Server;
    /// Its client.
    type Client: Client;

    /// The threads that its program has.
    fn layout(&self) -> Layout;

    /// Starts echo server number `index` on loopback; port 0 picks a free one. Runs on the server's runtime. Server
    /// `index` is the same to its clients after a restart.
    fn start(&self, index: u32, port: u16) -> impl Future<Output = Result<Self::Server>> + Send;

    /// A client that is connected to `servers`; those it could not reach are missing in [`Client::connected`]. Runs on
    /// the client's runtime. Clients of different `identity` are different users.
    fn connect(
        &self,
        servers: &[ServerAt],
        identity: u32,
    ) -> impl Future<Output = Result<Self::Client>> + Send;
}

/// A running server.
pub trait Server: Send + 'static {
    /// Where it is.
    fn at(&self) -> ServerAt;

    /// Stops it and lets go of its port.
    fn stop(self) -> impl Future<Output = Result<()>> + Send;
}

/// A connected client.
pub trait Client: Send + Sync + 'static {
    /// The bytes of an answer, in the type that the system hands them out in.
    type Answer: AsRef<[u8]> + Send + 'static;

    /// How many of its servers it is connected to.
    fn connected(&self) -> impl Future<Output = usize> + Send;

    /// Asks server number `server` for `payload`, as a program that has the payload in memory does.
    fn echo(&self, server: usize, payload: &Bytes) -> impl Future<Output = Result<Self::Answer>> + Send;

    /// Asks servers 0 to `servers` for `payload`, all at once: here with a task for each, as a program does whose
    /// library has nothing for it.
    fn fan_out(
        self: &Arc<Self>,
        servers: usize,
        payload: &Bytes,
    ) -> impl Future<Output = Result<Vec<Self::Answer>>> + Send {
        async move {
            let mut calls = JoinSet::new();
            for server in 0..servers {
                let (client, payload) = (self.clone(), payload.clone());
                calls.spawn(async move { client.echo(server, &payload).await });
            }
            let mut answers = Vec::with_capacity(servers);
            while let Some(answer) = calls.join_next().await {
                answers.push(answer??);
            }
            ensure!(answers.len() == servers, "{} of {servers} servers answered", answers.len());
            Ok(answers)
        }
    }

    /// Called after an echo failed and before the next: what a program must do itself to be connected to server number
    /// `server` again.
    fn mend(&self, server: usize) -> impl Future<Output = ()> + Send {
        let _ = server;
        async {}
    }

    /// Closes its connections. It may come back.
    fn hang_up(&self) -> impl Future<Output = Result<()>> + Send {
        self.close()
    }

    /// Connects again after it has hung up: the same client, with all that it has kept of its servers.
    fn come_back(&self) -> impl Future<Output = Result<()>> + Send {
        async { bail!("this system's clients do not come back") }
    }

    /// Closes its connections for good.
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
}
