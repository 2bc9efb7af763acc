//! First packets of connections that never come about.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, TokioRuntime, UdpPoller};

use super::{Failure, tls};

/// The first datagrams of `count` connection attempts, each as a real client sends it: an Initial of its own connection
/// ID with a whole ClientHello in it. They may be sent from anywhere, as often as one likes.
///
/// # Errors
/// When QUIC cannot be set up, or outside a tokio runtime.
pub async fn first_flights(count: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let kept = Arc::new(Kept::default());
    let runtime = Arc::new(TokioRuntime);
    let mut endpoint =
        Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, kept.clone(), runtime)?;
    endpoint.set_default_client_config(tls::client_config(tls::ALPN, |_| {})?);
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    for _ in 0..count {
        let before = kept.attempts();
        let _connecting = endpoint.connect(nowhere, "127.0.0.1")?;
        while kept.attempts() == before {
            tokio::task::yield_now().await;
        }
        // Dropped here: its farewell, if it says one, is of a connection that is kept already.
    }
    Ok(kept.take())
}

/// A socket that keeps the first datagram of each connection, and never receives.
#[derive(Default)]
struct Kept(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl Kept {
    fn attempts(&self) -> usize {
        self.lock().len()
    }

    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The destination connection ID of a packet with a long header (RFC 9000, section 17.2), which the client chooses.
fn destination(datagram: &[u8]) -> Option<&[u8]> {
    let length = usize::from(*datagram.get(5)?);
    datagram.get(6..6 + length)
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.attempts()).finish()
    }
}

impl AsyncUdpSocket for Kept {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Always)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Some(connection) = destination(transmit.contents) {
            self.lock().entry(connection.to_vec()).or_insert_with(|| transmit.contents.to_vec());
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, 9).into())
    }
}

#[derive(Debug)]
struct Always;

impl UdpPoller for Always {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
