//! The packets of a client on the program's runtime: how often it sends, and what it is sent.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use btlightning::server::{Handler, Response};
use btlightning::transport::network::{Network, UdpNetwork};
use btlightning::{LightningClient, LightningClientConfig, QuicAxonInfo, Sr25519Signer};
use common::{Gate, Miner, data, within};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::runtime::Builder;

const CALLS: usize = 32;

/// The operating system's network, with what passes through it counted.
#[derive(Debug, Default, Clone)]
struct Counted(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// How often something was given to the socket to send.
    sends: AtomicUsize,
    /// The Retry packets that came.
    retries: AtomicUsize,
}

#[derive(Debug)]
struct CountedSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    counts: Arc<Counts>,
}

/// The first four bits of a Retry packet of QUIC version 1 (RFC 9000, section 17.2.5).
const RETRY: u8 = 0xF0;

impl Network for Counted {
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(CountedSocket { socket: UdpNetwork.bind(addr)?, counts: self.0.clone() }))
    }
}

impl AsyncUdpSocket for CountedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.counts.sends.fetch_add(1, Ordering::SeqCst);
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.socket.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            let first_bytes = bufs.iter().take(count).map(|buf| buf[0]);
            let retries = first_bytes.filter(|byte| byte & 0xF0 == RETRY).count();
            self.counts.retries.fetch_add(retries, Ordering::SeqCst);
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }
}

/// A miner whose handler waits at the gate.
async fn waiting_miner() -> (Miner, Gate) {
    let miner = Miner::start().await;
    let gate = Gate::new();
    let waiting = gate.clone();
    miner.server.register(
        "wait",
        Handler::unary(move |_| {
            let gate = waiting.clone();
            async move {
                gate.pass().await;
                Response::from_map(&data([]))
            }
        }),
    );
    (miner, gate)
}

/// A client that is connected to the miner at `addr`.
async fn client_of(addr: SocketAddr) -> (LightningClient, QuicAxonInfo, Arc<Counts>) {
    let network = Counted::default();
    let counts = network.0.clone();
    let signer = Sr25519Signer::from_seed([7; 32]);
    let hotkey = signer.hotkey().to_string();
    let mut client =
        LightningClient::with_network(hotkey, LightningClientConfig::default(), Arc::new(network)).unwrap();
    client.set_signer(Box::new(signer));
    let (ip, port) = (addr.ip().to_string(), addr.port());
    let axon = QuicAxonInfo::new(common::hotkey("miner").to_string(), ip, port, 4);
    client.initialize_connections(vec![axon.clone()]).await.unwrap();
    (client, axon, counts)
}

/// With one worker: tasks that another one could take would run at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_that_are_made_together_are_sent_together() {
    let (miner, gate) = waiting_miner().await;
    let (client, axon, counts) = client_of(miner.addr).await;
    let client = Arc::new(client);

    let before = counts.sends.load(Ordering::SeqCst);
    // The test's own task is not a worker's; this one is, and makes all calls before any of them is polled.
    let calls = tokio::spawn(async move {
        let call = |_| {
            let (client, axon) = (client.clone(), axon.clone());
            tokio::spawn(
                async move { client.call::<_, common::Data>(&axon, "wait", &data([])).await.unwrap() },
            )
        };
        (0..CALLS).map(call).collect::<Vec<_>>()
    });
    gate.begun_are(CALLS).await;
    let sent = counts.sends.load(Ordering::SeqCst) - before;
    gate.open();
    for call in within("the calls", calls).await.unwrap() {
        within("a call", call).await.unwrap();
    }
    assert!(sent < CALLS / 2, "{CALLS} calls took {sent} sends");
}

#[tokio::test]
async fn who_comes_back_is_not_asked_to_show_its_address_again() {
    let miner = Miner::start().await;
    miner.server.register("echo", Handler::blocking(|call| Response::from_map(&call.to_map()?)));
    let (client, axon, counts) = client_of(miner.addr).await;
    for _ in 0..3 {
        let answered = client.call::<_, common::Data>(&axon, "echo", &data([])).await;
        answered.unwrap();
        assert_eq!(counts.retries.load(Ordering::SeqCst), 1);
        client.update_miner_registry(vec![]).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_does_not_outlive_the_runtime_that_its_client_was_opened_on() {
    let (miner, gate) = waiting_miner().await;
    let theirs = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, axon, _) = theirs.spawn(client_of(miner.addr)).await.unwrap();
    let call =
        tokio::spawn(async move { client.call::<_, common::Data>(&axon, "wait", &data([])).await.map(drop) });
    gate.begun_are(1).await;
    theirs.shutdown_background();
    let error = within("the call", call).await.unwrap().unwrap_err();
    assert!(error.is_retryable(), "{error}");
    gate.open();
}
