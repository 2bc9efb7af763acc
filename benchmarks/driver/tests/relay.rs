//! The relay passes on what comes, counts it, and can be a long and lossy path.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use bench_driver::relay::{PATH_DATAGRAM_BYTES_MAX, Path, Relay, Traffic};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Echoes datagrams until one is empty. Says how many addresses they came from.
fn echo_server() -> (SocketAddr, thread::JoinHandle<usize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let addr = socket.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut buffer, mut clients) = (vec![0; 64 * 1024], BTreeSet::new());
        loop {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            if len == 0 {
                return clients.len();
            }
            clients.insert(from);
            socket.send_to(&buffer[..len], from).unwrap();
        }
    });
    (addr, thread)
}

fn end(server: (SocketAddr, thread::JoinHandle<usize>)) -> usize {
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[], server.0).unwrap();
    server.1.join().unwrap()
}

fn client(of: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(of).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// Counts what has passed once it is that much. The relay counts before it passes on, so that it is there at once.
fn assert_traffic(traffic: Traffic, to_server: (u64, u64), to_clients: (u64, u64)) {
    assert_eq!((traffic.to_server.datagrams, traffic.to_server.bytes), to_server);
    assert_eq!((traffic.to_clients.datagrams, traffic.to_clients.bytes), to_clients);
}

#[test]
fn datagrams_of_every_size_come_back_and_are_counted() {
    let server = echo_server();
    let relay = Relay::udp(server.0, None).unwrap();
    let client = client(relay.addr());
    let mut buffer = vec![0; 64 * 1024];
    let sizes = [1, 1_200, 1_452, 9_000, 60_000];
    for size in sizes {
        let datagram: Vec<u8> = (0..size).map(|index| index as u8).collect();
        client.send(&datagram).unwrap();
        let len = client.recv(&mut buffer).unwrap();
        assert!(buffer[..len] == datagram, "{size}");
    }
    let bytes = sizes.iter().sum::<u64>();
    assert_traffic(relay.traffic(), (5, bytes), (5, bytes));
    let before = relay.traffic();
    client.send(b"four").unwrap();
    client.recv(&mut buffer).unwrap();
    assert_traffic(relay.traffic() - before, (1, 4), (1, 4));
    drop(relay);
    end(server);
}

#[test]
fn every_client_has_a_way_of_its_own() {
    const CLIENTS: usize = 100;
    let server = echo_server();
    let relay = Relay::udp(server.0, None).unwrap();
    let clients: Vec<UdpSocket> = (0..CLIENTS).map(|_| client(relay.addr())).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&(number as u64).to_le_bytes()).unwrap();
    }
    let mut buffer = [0; 64];
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.recv(&mut buffer).unwrap(), 8);
        assert_eq!(buffer[..8], (number as u64).to_le_bytes());
    }
    assert_eq!(end(server), CLIENTS);
}

#[test]
fn a_path_delays_each_way_and_keeps_the_order() {
    let delay = Duration::from_millis(40);
    let server = echo_server();
    let relay = Relay::udp(server.0, Some(Path { delay, loss: 0.0, seed: 1 })).unwrap();
    let client = client(relay.addr());
    let started = Instant::now();
    for number in 0..100_u8 {
        client.send(&[number]).unwrap();
    }
    let mut buffer = [0; 8];
    for number in 0..100_u8 {
        client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[0], number);
        assert!(started.elapsed() >= 2 * delay);
    }
    // All are on their way at once: it is a delay, not a rate. Far less than one after another would take, 8 s.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    end(server);
}

#[test]
fn a_path_takes_no_datagram_that_ethernet_does_not() {
    let server = echo_server();
    let relay = Relay::udp(server.0, Some(Path { delay: Duration::ZERO, loss: 0.0, seed: 1 })).unwrap();
    let client = client(relay.addr());
    let mut buffer = vec![0; 64 * 1024];
    for size in [PATH_DATAGRAM_BYTES_MAX + 1, 6_500, PATH_DATAGRAM_BYTES_MAX] {
        client.send(&vec![7; size]).unwrap();
    }
    // The order is kept: had one before it been taken, it would come first.
    assert_eq!(client.recv(&mut buffer).unwrap(), PATH_DATAGRAM_BYTES_MAX);
    let to_server = relay.traffic().to_server;
    assert_eq!((to_server.too_large, to_server.lost, to_server.dropped), (2, 0, 0));
    end(server);
}

/// Sends numbers over a path that loses, and says which came back, and what the relay says.
fn survivors(numbers: u64, path: Path) -> (BTreeSet<u64>, Traffic) {
    let server = echo_server();
    let relay = Relay::udp(server.0, Some(path)).unwrap();
    let client = client(relay.addr());
    let (mut there, mut buffer) = (BTreeSet::new(), [0; 8]);
    // A few at a time, so that no socket is full, and after them one that is sent until it comes back: order is kept, so
    // nothing of them comes later.
    let mut marker = u64::MAX;
    for first in (0..numbers).step_by(100) {
        for number in first..numbers.min(first + 100) {
            client.send(&number.to_le_bytes()).unwrap();
        }
        marker -= 1;
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        'marker: loop {
            client.send(&marker.to_le_bytes()).unwrap();
            while client.recv(&mut buffer).is_ok() {
                match u64::from_le_bytes(buffer) {
                    number if number == marker => break 'marker,
                    number if number < numbers => drop(there.insert(number)),
                    _ => {}
                }
            }
        }
    }
    let traffic = relay.traffic();
    end(server);
    (there, traffic)
}

#[test]
fn a_path_loses_its_share_each_way_and_the_same_again_for_the_same_seed() {
    let path = Path { delay: Duration::from_millis(1), loss: 0.05, seed: 7 };
    let (there, traffic) = survivors(2_000, path);
    for flow in [traffic.to_server, traffic.to_clients] {
        let share = flow.lost as f64 / flow.datagrams as f64;
        assert!((0.03..0.07).contains(&share), "{share}");
        assert_eq!(flow.dropped, 0);
    }
    assert_eq!(traffic.to_server.datagrams - traffic.to_server.lost, traffic.to_clients.datagrams);
    let first_100 = |path| survivors(100, path).0;
    let of_there: BTreeSet<u64> = there.into_iter().filter(|number| *number < 100).collect();
    assert_eq!(first_100(path), of_there);
    assert_ne!(
        first_100(Path { seed: 8, loss: 0.5, ..path }),
        first_100(Path { seed: 9, loss: 0.5, ..path })
    );
}

#[test]
fn streams_are_passed_on_with_their_ends_and_counted() {
    const BYTES: usize = 3_000_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::tcp(listener.local_addr().unwrap()).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut got = Vec::new();
        // To its end, which the client sends while it still listens.
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(&got[..1_000]).unwrap();
        got.len()
    });
    let mut client = TcpStream::connect(relay.addr()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&vec![5; BYTES]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!((server.join().unwrap(), answer.len()), (BYTES, 1_000));
    assert_traffic(relay.traffic(), (0, BYTES as u64), (0, 1_000));
}

#[test]
fn a_relay_that_is_dropped_ends_what_goes_through_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::tcp(listener.local_addr().unwrap()).unwrap();
    let addr = relay.addr();
    let both_there = Arc::new(Barrier::new(2));
    let server = thread::spawn({
        let both_there = Arc::clone(&both_there);
        move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_exact(&mut [0]).unwrap();
            both_there.wait();
            stream.read(&mut [0]).unwrap_or(0)
        }
    });
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&[1]).unwrap();
    both_there.wait();
    drop(relay);
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(server.join().unwrap(), 0);
    assert!(TcpStream::connect(addr).is_err());
}
