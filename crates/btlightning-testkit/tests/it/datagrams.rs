//! Sockets by the datagram: what is carried, when, in which order, and to whom it shows as what.

use btlightning_testkit::{Link, SimNet, SimSocket};
use quinn::AsyncUdpSocket;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use std::{future::poll_fn, io::IoSliceMut, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn pair(net: &SimNet) -> (Arc<SimSocket>, Arc<SimSocket>) {
    (net.bind(addr("10.0.0.1:1000")).unwrap(), net.bind(addr("10.0.0.2:2000")).unwrap())
}

async fn recv_batch(socket: &SimSocket, batch: usize) -> Vec<(Vec<u8>, RecvMeta)> {
    let mut bufs = vec![[0; 1_500]; batch];
    let mut metas = vec![RecvMeta::default(); batch];
    let mut slices: Vec<IoSliceMut<'_>> = bufs.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
    let count = poll_fn(|cx| socket.poll_recv(cx, &mut slices, &mut metas)).await.unwrap();
    bufs.iter().zip(metas).take(count).map(|(buf, meta)| (buf[..meta.len].to_vec(), meta)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_datagram_takes_the_links_delay() {
    let net = SimNet::new(1);
    net.set_default_link(Link { delay: Duration::from_millis(70), ..Link::default() });
    let (a, b) = pair(&net);
    let sent_at = Instant::now();
    a.send_to(b"hello", b.addr()).unwrap();
    assert_eq!(b.recv_from().await, (b"hello".to_vec(), a.addr()));
    assert_eq!(sent_at.elapsed(), Duration::from_millis(70));
}

#[tokio::test(start_paused = true)]
async fn directions_have_links_of_their_own() {
    let net = SimNet::new(1);
    let (a, b) = pair(&net);
    let slow = Link { delay: Duration::from_millis(500), ..Link::default() };
    net.set_link(b.addr().ip(), a.addr().ip(), slow);
    let start = Instant::now();
    a.send_to(b"there", b.addr()).unwrap();
    b.recv_from().await;
    assert_eq!(start.elapsed(), Duration::from_millis(1));
    b.send_to(b"back", a.addr()).unwrap();
    a.recv_from().await;
    assert_eq!(start.elapsed(), Duration::from_millis(501));
}

#[tokio::test(start_paused = true)]
async fn what_is_due_at_the_same_time_arrives_in_the_order_it_was_sent() {
    let net = SimNet::new(1);
    let (a, b) = pair(&net);
    for n in 0..200u8 {
        a.send_to(&[n], b.addr()).unwrap();
    }
    for n in 0..200u8 {
        assert_eq!(b.recv_from().await.0, [n]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transmit_of_segments_is_as_many_datagrams() {
    let net = SimNet::new(1);
    let (a, b) = pair(&net);
    let transmit = Transmit {
        destination: b.addr(),
        ecn: Some(EcnCodepoint::Ect0),
        contents: b"aaaabbbbcc",
        segment_size: Some(4),
        src_ip: Some(a.addr().ip()),
    };
    a.try_send(&transmit).unwrap();
    let received = recv_batch(&b, 8).await;
    let payloads: Vec<&[u8]> = received.iter().map(|(payload, _)| &payload[..]).collect();
    assert_eq!(payloads, [&b"aaaa"[..], b"bbbb", b"cc"]);
    for (payload, meta) in &received {
        assert_eq!((meta.len, meta.stride), (payload.len(), payload.len()));
        assert_eq!(meta.addr, a.addr());
        assert_eq!(meta.ecn, Some(EcnCodepoint::Ect0));
        assert_eq!(meta.dst_ip, Some(b.addr().ip()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_datagram_is_a_datagram() {
    let net = SimNet::new(1);
    let (a, b) = pair(&net);
    a.send_to(b"", b.addr()).unwrap();
    assert_eq!(b.recv_from().await, (Vec::new(), a.addr()));
}

#[tokio::test(start_paused = true)]
async fn a_datagram_beyond_the_limit_of_udp_is_refused() {
    let net = SimNet::new(1);
    let (a, b) = pair(&net);
    a.send_to(&vec![0; 65_507], b.addr()).unwrap();
    assert_eq!(b.recv_from().await.0.len(), 65_507);
    assert!(a.send_to(&vec![0; 65_508], b.addr()).is_err());
}

#[tokio::test(start_paused = true)]
async fn every_waiting_task_gets_its_datagram() {
    let net = SimNet::new(1);
    let (a, b) = pair(&net);
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let b = Arc::clone(&b);
            tokio::spawn(async move { b.recv_from().await.0 })
        })
        .collect();
    tokio::task::yield_now().await;
    for n in 0..5u8 {
        a.send_to(&[n], b.addr()).unwrap();
    }
    let mut received = Vec::new();
    for reader in readers {
        received.extend(timeout(Duration::from_secs(1), reader).await.unwrap().unwrap());
    }
    received.sort_unstable();
    assert_eq!(received, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_gave_up_takes_nothing_with_it() {
    let net = SimNet::new(1);
    let (a, b) = pair(&net);
    assert!(timeout(Duration::from_millis(10), b.recv_from()).await.is_err());
    a.send_to(b"late", b.addr()).unwrap();
    assert_eq!(b.recv_from().await.0, b"late");
}

#[tokio::test(start_paused = true)]
async fn a_dual_stack_socket_sees_ipv4_within_ipv6() {
    let net = SimNet::new(1);
    let a = net.bind(addr("10.0.0.1:1000")).unwrap();
    let b = net.bind(addr("[::ffff:10.0.0.2]:2000")).unwrap();
    a.send_to(b"4 to 6", addr("10.0.0.2:2000")).unwrap();
    let received = recv_batch(&b, 1).await;
    assert_eq!(received[0].1.addr, addr("[::ffff:10.0.0.1]:1000"));
    assert_eq!(received[0].1.dst_ip, Some(b.addr().ip()));
    b.send_to(b"6 to 4", received[0].1.addr).unwrap();
    assert_eq!(a.recv_from().await, (b"6 to 4".to_vec(), addr("10.0.0.2:2000")));
}

#[tokio::test]
async fn the_network_also_runs_on_a_clock_that_runs() {
    let net = SimNet::new(1);
    let (a, b) = pair(&net);
    a.send_to(b"hello", b.addr()).unwrap();
    assert_eq!(b.recv_from().await.0, b"hello");
}
