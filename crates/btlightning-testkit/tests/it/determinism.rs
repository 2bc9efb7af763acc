//! That a seed is a run: the same datagrams, at the same virtual time, with the same fate.

use crate::{
    datagrams::addr,
    tls::{Identity, NAME},
};
use btlightning_testkit::{Link, SimNet, Stats, TapRecord};
use std::time::Duration;
use tokio::runtime::Builder;

fn bad_link() -> Link {
    Link {
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(7),
        loss: 0.1,
        duplicate: 0.05,
        reorder: 0.05,
        bandwidth_bytes_per_second: Some(2_000_000),
        ..Link::default()
    }
}

/// One run on a clock that is paused from its start: a connection, 200 kB there, an answer, the farewells.
fn quic_trace(seed: u64, identity: &Identity) -> Vec<TapRecord> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let net = SimNet::new(seed);
        net.set_default_link(bad_link());
        let tap = net.tap();
        let server = net.endpoint(addr("10.0.0.2:2000"), Some(identity.server())).unwrap();
        let mut client = net.endpoint(addr("10.0.0.1:1000"), None).unwrap();
        client.set_default_client_config(identity.client());
        let answering = tokio::spawn(async move {
            let connection = server.accept().await.unwrap().await.unwrap();
            let (mut send, mut recv) = connection.accept_bi().await.unwrap();
            let request = recv.read_to_end(usize::MAX).await.unwrap();
            send.write_all(&request[..1_000]).await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
            server.wait_idle().await;
        });
        let connection = client.connect(addr("10.0.0.2:2000"), NAME).unwrap().await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&vec![7; 200_000]).await.unwrap();
        send.finish().unwrap();
        recv.read_to_end(usize::MAX).await.unwrap();
        connection.close(0u32.into(), b"done");
        client.wait_idle().await;
        answering.await.unwrap();
        assert_eq!(tap.missed(), 0);
        tap.records()
    })
}

#[test]
fn a_seed_is_a_run_of_quic() {
    let identity = Identity::generate();
    let first = quic_trace(11, &identity);
    assert!(first.len() > 300, "{}", first.len());
    for _ in 0..5 {
        assert!(quic_trace(11, &identity) == first);
    }
    assert!(quic_trace(12, &identity) != first);
}

#[tokio::test(start_paused = true)]
async fn other_hosts_do_not_change_the_fate_of_a_direction() {
    async fn fates(bystanders: u8) -> Stats {
        let net = SimNet::new(5);
        net.set_default_link(Link { bandwidth_bytes_per_second: None, ..bad_link() });
        let a = net.bind(addr("10.0.0.1:1000")).unwrap();
        let b = net.bind(addr("10.0.0.2:2000")).unwrap();
        let others: Vec<_> =
            (0..bystanders).map(|n| net.bind((([10, 0, 1, n]), 1).into()).unwrap()).collect();
        for _ in 0..500 {
            a.send_to(b"x", b.addr()).unwrap();
            others.iter().for_each(|other| other.send_to(b"y", b.addr()).unwrap());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        net.stats(a.addr().ip(), b.addr().ip())
    }
    assert_eq!(fates(0).await, fates(3).await);
}
