//! What goes wrong on purpose, and that every datagram is accounted for.

use crate::datagrams::addr;
use btlightning_testkit::{Event, Link, SimNet, SimSocket, TAP_RECORDS_MAX};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

fn pair(net: &SimNet) -> (Arc<SimSocket>, Arc<SimSocket>) {
    (net.bind(addr("10.0.0.1:1000")).unwrap(), net.bind(addr("10.0.0.2:2000")).unwrap())
}

async fn drain(socket: &SimSocket) -> Vec<Vec<u8>> {
    let mut received = Vec::new();
    while let Ok((payload, _)) = timeout(Duration::from_secs(10), socket.recv_from()).await {
        received.push(payload);
    }
    received
}

#[tokio::test(start_paused = true)]
async fn every_datagram_comes_to_one_end() {
    let net = SimNet::new(42);
    net.set_default_link(Link {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(10),
        loss: 0.2,
        duplicate: 0.1,
        reorder: 0.1,
        bandwidth_bytes_per_second: Some(1_000_000),
        backlog_bytes_max: 100_000,
    });
    net.set_receive_queue_datagrams_max(50);
    let (a, b) = pair(&net);
    for _ in 0..1_500 {
        a.send_to(&[0; 100], b.addr()).unwrap();
    }
    let on_the_way = net.totals();
    assert_eq!(on_the_way.sent, 1_500);
    assert!(on_the_way.in_flight() > 0 && on_the_way.delivered == 0);
    // Nobody reads meanwhile: what arrives beyond the queue is dropped.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stats = net.stats(a.addr().ip(), b.addr().ip());
    assert_eq!(stats, net.totals());
    assert_eq!(stats.in_flight(), 0);
    assert_eq!((stats.delivered, stats.link_full), (50, 500));
    assert!(stats.lost > 100 && stats.duplicated > 50 && stats.receiver_full > 500, "{stats:?}");
    assert_eq!(drain(&b).await.len(), 50);
    assert_eq!(net.stats(b.addr().ip(), a.addr().ip()).sent, 0);
}

#[tokio::test(start_paused = true)]
async fn reordering_lets_later_ones_overtake() {
    let net = SimNet::new(2);
    net.set_default_link(Link { delay: Duration::from_millis(20), reorder: 0.2, ..Link::default() });
    let (a, b) = pair(&net);
    for n in 0..100u8 {
        a.send_to(&[n], b.addr()).unwrap();
    }
    let received = drain(&b).await.concat();
    assert!(!received.is_sorted());
    let mut sorted = received;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<u8>>());
}

#[tokio::test(start_paused = true)]
async fn bandwidth_is_the_rate_of_arrival() {
    let net = SimNet::new(2);
    net.set_default_link(Link { bandwidth_bytes_per_second: Some(100_000), ..Link::default() });
    let (a, b) = pair(&net);
    let start = Instant::now();
    for _ in 0..100 {
        a.send_to(&[0; 1_000], b.addr()).unwrap();
    }
    for _ in 0..100 {
        b.recv_from().await;
    }
    assert_eq!(start.elapsed(), Duration::from_millis(1_001));
}

#[tokio::test(start_paused = true)]
async fn a_partition_swallows_both_directions_and_what_is_on_its_way() {
    let net = SimNet::new(3);
    let (a, b) = pair(&net);
    let c = net.bind(addr("10.0.0.3:3000")).unwrap();
    a.send_to(b"on its way", b.addr()).unwrap();
    net.partition(b.addr().ip(), a.addr().ip());
    a.send_to(b"too late", b.addr()).unwrap();
    b.send_to(b"too late", a.addr()).unwrap();
    a.send_to(b"elsewhere", c.addr()).unwrap();
    assert_eq!(c.recv_from().await.0, b"elsewhere");
    assert_eq!(drain(&b).await.len() + drain(&a).await.len(), 0);
    assert_eq!(net.totals().blocked, 3);
    net.heal(a.addr().ip(), b.addr().ip());
    a.send_to(b"healed", b.addr()).unwrap();
    assert_eq!(b.recv_from().await.0, b"healed");
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_one_address() {
    let net = SimNet::new(3);
    let (a, b) = pair(&net);
    let neighbour = net.bind(addr("10.0.0.2:2001")).unwrap();
    net.blackhole(b.addr());
    a.send_to(b"?", b.addr()).unwrap();
    b.send_to(b"?", a.addr()).unwrap();
    a.send_to(b"!", neighbour.addr()).unwrap();
    assert_eq!(neighbour.recv_from().await.0, b"!");
    assert_eq!(net.totals().blocked, 2);
    net.restore(b.addr());
    a.send_to(b"!", b.addr()).unwrap();
    assert_eq!(b.recv_from().await.0, b"!");
}

#[tokio::test(start_paused = true)]
async fn a_tap_sees_what_happens_and_when() {
    let net = SimNet::new(4);
    let (a, b) = pair(&net);
    let tap = net.tap();
    a.send_to(b"abc", b.addr()).unwrap();
    b.recv_from().await;
    a.send_to(b"abcd", addr("10.0.0.9:9")).unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let seen: Vec<_> = tap.records().iter().map(|r| (r.at.as_millis(), r.to, r.len, r.event)).collect();
    let nobody = addr("10.0.0.9:9");
    let expected = [
        (0, b.addr(), 3, Event::Sent),
        (1, b.addr(), 3, Event::Delivered),
        (1, nobody, 4, Event::Sent),
        (2, nobody, 4, Event::Unreachable),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_tap_is_bounded() {
    let net = SimNet::new(4);
    let (a, _b) = pair(&net);
    net.blackhole(a.addr());
    let tap = net.tap();
    for _ in 0..TAP_RECORDS_MAX {
        a.send_to(b"", addr("10.0.0.2:2000")).unwrap();
    }
    assert_eq!(tap.records().len(), TAP_RECORDS_MAX);
    assert_eq!(tap.missed(), TAP_RECORDS_MAX as u64);
}
