//! A UDP relay between one client and a server, which looks at the datagrams that pass.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The largest datagram that UDP has.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A relay to one server. It stops when it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where the client finds the server.
    pub addr: SocketAddr,
    retries: Arc<AtomicUsize>,
    task: JoinHandle<io::Result<()>>,
}

impl Relay {
    /// A relay to `server`.
    ///
    /// # Errors
    /// When there is no socket.
    pub async fn to(server: SocketAddr) -> io::Result<Self> {
        let front = UdpSocket::bind("127.0.0.1:0").await?;
        let back = UdpSocket::bind("127.0.0.1:0").await?;
        back.connect(server).await?;
        let addr = front.local_addr()?;
        let retries = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(carry(front, back, retries.clone()));
        Ok(Self { addr, retries, task })
    }

    /// How many Retry packets the server has sent.
    pub fn retries(&self) -> usize {
        self.retries.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(front: UdpSocket, back: UdpSocket, retries: Arc<AtomicUsize>) -> io::Result<()> {
    let (mut to_server, mut to_client) = (vec![0; DATAGRAM_BYTES_MAX], vec![0; DATAGRAM_BYTES_MAX]);
    let mut client = None;
    loop {
        tokio::select! {
            received = front.recv_from(&mut to_server) => {
                let (length, from) = received?;
                client = Some(from);
                back.send(&to_server[..length]).await?;
            }
            received = back.recv(&mut to_client) => {
                let datagram = &to_client[..received?];
                if is_retry(datagram) {
                    retries.fetch_add(1, Ordering::SeqCst);
                }
                if let Some(client) = client {
                    front.send_to(datagram, client).await?;
                }
            }
        }
    }
}

/// A long header (the first two bits) of the type 3 (the next two) of version 1 (RFC 9000, section 17.2.5).
fn is_retry(datagram: &[u8]) -> bool {
    datagram.len() > 5 && datagram[0] & 0xf0 == 0xf0 && datagram[1..5] == [0, 0, 0, 1]
}
