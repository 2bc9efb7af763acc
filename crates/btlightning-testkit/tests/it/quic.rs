//! A real QUIC client and server, and what the network does to them.

use crate::{
    datagrams::addr,
    tls::{Identity, NAME},
};
use btlightning_testkit::{Link, SimNet};
use quinn::{Connection, ConnectionError, Endpoint};
use std::{net::SocketAddr, time::Duration};
use tokio::time::{Instant, timeout};

const CLIENT: &str = "10.0.0.1:1000";
const SERVER: &str = "10.0.0.2:2000";

/// A server that answers with where it saw the request come from, and the request.
fn echo_server(net: &SimNet, identity: &Identity, at: &str) -> Endpoint {
    let endpoint = net.endpoint(addr(at), Some(identity.server())).unwrap();
    tokio::spawn({
        let endpoint = endpoint.clone();
        async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                        let Ok(request) = recv.read_to_end(usize::MAX).await else { continue };
                        let from = connection.remote_address().to_string();
                        let answer = [from.as_bytes(), b" ", &request].concat();
                        // A client that no longer wants its answer is none of the next request's business.
                        if send.write_all(&answer).await.is_ok() {
                            let _ = send.finish();
                        }
                    }
                });
            }
        }
    });
    endpoint
}

fn client(net: &SimNet, identity: &Identity, at: &str) -> Endpoint {
    let mut endpoint = net.endpoint(addr(at), None).unwrap();
    endpoint.set_default_client_config(identity.client());
    endpoint
}

async fn connect(client: &Endpoint, server: &str) -> Connection {
    client.connect(addr(server), NAME).unwrap().await.unwrap()
}

/// Sends a request; where the server saw it come from, and the echo.
async fn ask(connection: &Connection, request: &[u8]) -> (SocketAddr, Vec<u8>) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(request).await.unwrap();
    send.finish().unwrap();
    let answer = recv.read_to_end(usize::MAX).await.unwrap();
    let space = answer.iter().position(|byte| *byte == b' ').unwrap();
    (addr(std::str::from_utf8(&answer[..space]).unwrap()), answer[space + 1..].to_vec())
}

async fn close(endpoint: Endpoint) {
    endpoint.close(0u32.into(), b"bye");
    endpoint.wait_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_takes_one_round_trip_and_a_request_another() {
    let (net, identity) = (SimNet::new(1), Identity::generate());
    net.set_default_link(Link { delay: Duration::from_millis(50), ..Link::default() });
    let _server = echo_server(&net, &identity, SERVER);
    let client = client(&net, &identity, CLIENT);
    let start = Instant::now();
    let connection = connect(&client, SERVER).await;
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    assert_eq!(ask(&connection, b"hello").await, (addr(CLIENT), b"hello".to_vec()));
    assert_eq!(start.elapsed(), Duration::from_millis(200));
    assert!(connection.rtt().abs_diff(Duration::from_millis(100)) < Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_connection_runs_over_ipv6_and_over_dual_stack() {
    let (net, identity) = (SimNet::new(1), Identity::generate());
    for (ours, theirs, dialled) in [
        ("[fd00::1]:1000", "[fd00::2]:2000", "[fd00::2]:2000"),
        ("[::ffff:10.0.0.1]:1000", "10.0.0.2:2000", "10.0.0.2:2000"),
        ("10.0.0.1:1001", "[::ffff:10.0.0.2]:2001", "10.0.0.2:2001"),
    ] {
        let _server = echo_server(&net, &identity, theirs);
        let client = client(&net, &identity, ours);
        assert_eq!(ask(&connect(&client, dialled).await, b"hello").await.1, b"hello");
    }
}

#[tokio::test(start_paused = true)]
async fn a_megabyte_survives_a_bad_network() {
    let (net, identity) = (SimNet::new(20), Identity::generate());
    net.set_default_link(Link {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(10),
        loss: 0.2,
        duplicate: 0.05,
        reorder: 0.1,
        ..Link::default()
    });
    let _server = echo_server(&net, &identity, SERVER);
    let client = client(&net, &identity, CLIENT);
    let connection = connect(&client, SERVER).await;
    let request: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let (_, echo) = ask(&connection, &request).await;
    assert!(echo == request);
    let stats = net.totals();
    assert!(stats.lost > 200 && stats.duplicated > 50, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_survives_a_nat_rebinding() {
    let (net, identity) = (SimNet::new(1), Identity::generate());
    let server = echo_server(&net, &identity, SERVER);
    let client = client(&net, &identity, CLIENT);
    let connection = connect(&client, SERVER).await;
    assert_eq!(ask(&connection, b"before").await, (addr(CLIENT), b"before".to_vec()));
    let outside = addr("203.0.113.7:40000");
    net.rebind(addr(CLIENT), outside).unwrap();
    assert_eq!(ask(&connection, b"after").await, (outside, b"after".to_vec()));
    assert_eq!(ask(&connection, b"still").await, (outside, b"still".to_vec()));
    assert_eq!(server.open_connections(), 1);
    assert_eq!(server.stats().accepted_handshakes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_may_move_to_another_socket() {
    let (net, identity) = (SimNet::new(1), Identity::generate());
    let _server = echo_server(&net, &identity, SERVER);
    let client = client(&net, &identity, CLIENT);
    let connection = connect(&client, SERVER).await;
    let moved = net.bind(addr("10.0.0.3:3000")).unwrap();
    client.rebind_abstract(moved.clone()).unwrap();
    assert_eq!(ask(&connection, b"hello").await, (moved.addr(), b"hello".to_vec()));
    net.released(addr(CLIENT)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_restarts_on_its_address() {
    let (net, identity) = (SimNet::new(1), Identity::generate());
    let client = client(&net, &identity, CLIENT);
    for _ in 0..3 {
        let server = echo_server(&net, &identity, SERVER);
        let connection = connect(&client, SERVER).await;
        assert_eq!(ask(&connection, b"hello").await.1, b"hello");
        close(server).await;
        assert!(matches!(connection.closed().await, ConnectionError::ApplicationClosed(_)));
        net.released(addr(SERVER)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_crashed_says_nothing() {
    let (net, identity) = (SimNet::new(1), Identity::generate());
    let client = client(&net, &identity, CLIENT);
    let crashing = echo_server(&net, &identity, SERVER);
    let before = connect(&client, SERVER).await;
    ask(&before, b"hello").await;

    net.blackhole(addr(SERVER));
    close(crashing).await;
    net.released(addr(SERVER)).await;
    net.restore(addr(SERVER));
    let _server = echo_server(&net, &identity, SERVER);

    assert!(before.close_reason().is_none());
    let after = connect(&client, SERVER).await;
    assert_eq!(ask(&after, b"hello").await.1, b"hello");
    assert!(matches!(before.closed().await, ConnectionError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_an_idle_timeout_of_virtual_time() {
    let (net, identity) = (SimNet::new(1), Identity::generate());
    let _server = echo_server(&net, &identity, SERVER);
    let client = client(&net, &identity, CLIENT);
    let connection = connect(&client, SERVER).await;
    ask(&connection, b"hello").await;
    let (start, really) = (Instant::now(), std::time::Instant::now());
    net.partition(addr(CLIENT).ip(), addr(SERVER).ip());
    assert!(matches!(connection.closed().await, ConnectionError::TimedOut));
    assert!(start.elapsed().abs_diff(Duration::from_secs(10)) < Duration::from_millis(100));
    assert!(really.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_short_partition_is_survived() {
    let (net, identity) = (SimNet::new(1), Identity::generate());
    let _server = echo_server(&net, &identity, SERVER);
    let client = client(&net, &identity, CLIENT);
    let connection = connect(&client, SERVER).await;
    ask(&connection, b"hello").await;
    let (a, b) = (addr(CLIENT).ip(), addr(SERVER).ip());
    net.partition(a, b);
    assert!(timeout(Duration::from_secs(5), ask(&connection, b"lost")).await.is_err());
    net.heal(a, b);
    assert_eq!(ask(&connection, b"hello").await.1, b"hello");
}
