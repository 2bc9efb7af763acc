//! Addresses: who may have which, when it is free again, and what a NAT makes of it.

use crate::datagrams::addr;
use btlightning_testkit::SimNet;
use std::{io::ErrorKind, time::Duration};
use tokio::time::timeout;

#[tokio::test(start_paused = true)]
async fn an_address_belongs_to_one_socket_until_it_is_dropped() {
    let net = SimNet::new(1);
    let first = net.bind(addr("10.0.0.1:1000")).unwrap();
    assert_eq!(net.bind(first.addr()).unwrap_err().kind(), ErrorKind::AddrInUse);
    let mapped = addr("[::ffff:10.0.0.1]:1000");
    assert_eq!(net.bind(mapped).unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(first);
    net.bind(mapped).unwrap();
}

#[tokio::test(start_paused = true)]
async fn port_zero_is_a_free_port() {
    let net = SimNet::new(1);
    let sockets = [net.bind(addr("[fd00::1]:0")).unwrap(), net.bind(addr("[fd00::1]:0")).unwrap()];
    assert_eq!(sockets[0].addr(), addr("[fd00::1]:49152"));
    assert_eq!(sockets[1].addr(), addr("[fd00::1]:49153"));
}

#[tokio::test(start_paused = true)]
async fn a_socket_has_one_address_and_not_all_of_them() {
    let net = SimNet::new(1);
    for wildcard in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        assert_eq!(net.bind(addr(wildcard)).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_to_the_old_socket_reaches_the_new_one() {
    let net = SimNet::new(1);
    let a = net.bind(addr("10.0.0.1:1000")).unwrap();
    let b = net.bind(addr("10.0.0.2:2000")).unwrap();
    a.send_to(b"to whoever is there", b.addr()).unwrap();
    drop(b);
    let b = net.bind(addr("10.0.0.2:2000")).unwrap();
    assert_eq!(b.recv_from().await.0, b"to whoever is there");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_address_ends_when_its_socket_does() {
    let net = SimNet::new(1);
    let address = addr("10.0.0.1:1000");
    let socket = net.bind(address).unwrap();
    let waiting = tokio::spawn({
        let net = net.clone();
        async move { net.released(address).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(socket);
    timeout(Duration::from_secs(1), waiting).await.unwrap().unwrap();
    net.released(address).await;
}

#[tokio::test(start_paused = true)]
async fn a_rebound_socket_is_seen_and_reached_at_its_new_address_only() {
    let net = SimNet::new(1);
    let client = net.bind(addr("10.0.0.1:1000")).unwrap();
    let server = net.bind(addr("10.0.0.2:2000")).unwrap();
    for outside in [addr("203.0.113.7:40000"), addr("203.0.113.7:40001")] {
        net.rebind(client.addr(), outside).unwrap();
        client.send_to(b"ping", server.addr()).unwrap();
        assert_eq!(server.recv_from().await.1, outside);
        server.send_to(b"pong", outside).unwrap();
        assert_eq!(client.recv_from().await.0, b"pong");
    }
    for gone in [addr("10.0.0.1:1000"), addr("203.0.113.7:40000")] {
        server.send_to(b"pong", gone).unwrap();
        assert!(timeout(Duration::from_secs(1), client.recv_from()).await.is_err());
        assert_eq!(net.stats(server.addr().ip(), gone.ip()).unreachable, 1);
    }
    assert_eq!(client.addr(), addr("10.0.0.1:1000"));
}

#[tokio::test(start_paused = true)]
async fn a_rebinding_takes_nobodys_address() {
    let net = SimNet::new(1);
    let a = net.bind(addr("10.0.0.1:1000")).unwrap();
    let b = net.bind(addr("10.0.0.2:2000")).unwrap();
    assert_eq!(net.rebind(a.addr(), b.addr()).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(net.rebind(addr("10.0.0.3:1"), addr("10.0.0.4:1")).unwrap_err().kind(), ErrorKind::NotFound);
    let outside = addr("203.0.113.7:40000");
    net.rebind(a.addr(), outside).unwrap();
    assert_eq!(net.bind(outside).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(net.bind(addr("10.0.0.1:1000")).unwrap_err().kind(), ErrorKind::AddrInUse);
    net.rebind(a.addr(), a.addr()).unwrap();
    net.bind(outside).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_ip_versions_do_not_reach_each_other() {
    let net = SimNet::new(1);
    let four = net.bind(addr("10.0.0.1:1000")).unwrap();
    let six = net.bind(addr("[fd00::1]:1000")).unwrap();
    four.send_to(b"?", six.addr()).unwrap();
    six.send_to(b"?", four.addr()).unwrap();
    assert_eq!((net.totals().sent, net.totals().unreachable), (2, 2));
}
