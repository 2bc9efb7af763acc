//! The relay of datagrams: one thread that waits for its sockets and for the next datagram that is due.

use super::{Counter, Counters, Traffic};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The largest datagram that a path takes: what is left of 1,500 bytes, Ethernet's, after the headers of IPv4 and UDP.
pub const PATH_DATAGRAM_BYTES_MAX: usize = 1_472;

/// A path that is longer than the machine, of Ethernets. It takes no datagram of more than [`PATH_DATAGRAM_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// What every datagram takes, each way. Its order is kept.
    pub delay: Duration,
    /// The share of datagrams that get lost, each way.
    pub loss: f64,
    /// Of the chances: the same seed loses the same datagrams of a direction, by their number.
    pub seed: u64,
}

/// Clients at once; datagrams of more are dropped. Each has a socket.
const CLIENTS_MAX: usize = 1_024;

/// Bytes on the way in one direction; what comes on top is dropped. That is 5 Gbit/s for 25 ms.
const ON_THE_WAY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the relay's own sockets ask for, so that they are not what loses datagrams.
const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Datagrams that one socket gives before the others have their turn.
const TURN: usize = 64;

/// A relay of datagrams to one server. Each client address has a socket of its own towards the server, which therefore
/// sees as many addresses as there are clients.
#[derive(Debug)]
pub struct UdpRelay {
    addr: SocketAddr,
    counters: Arc<Counters>,
    /// Dropped, it wakes the thread up to end.
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl UdpRelay {
    /// Starts one on a port of its own, on the loopback address of the server's family.
    ///
    /// # Errors
    /// If no socket can be had.
    pub fn start(server: SocketAddr, path: Option<Path>) -> io::Result<Self> {
        let front = socket(server)?;
        let addr = front.local_addr()?;
        let counters = Arc::<Counters>::default();
        let (stopped, stop) = io::pipe()?;
        let mut pump = Pump {
            server,
            front,
            clients: Vec::new(),
            client_numbers: HashMap::new(),
            counters: Arc::clone(&counters),
            way: path.map(Way::new),
        };
        let thread = thread::Builder::new().name("udp relay".into()).spawn(move || pump.run(&stopped))?;
        Ok(Self { addr, counters, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients find it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What has come in so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nobody to tell.
            let _ = thread.join();
        }
    }
}

fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let loopback = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    };
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
    // As much as the kernel grants.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&loopback.into())?;
    Ok(socket.into())
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    /// From the client of this number.
    ToServer(usize),
    /// To the client of this number.
    ToClient(usize),
}

struct Client {
    addr: SocketAddr,
    /// Towards the server.
    socket: UdpSocket,
}

/// What the thread has.
struct Pump {
    server: SocketAddr,
    /// Towards the clients.
    front: UdpSocket,
    clients: Vec<Client>,
    client_numbers: HashMap<SocketAddr, usize>,
    counters: Arc<Counters>,
    way: Option<Way>,
}

impl Pump {
    fn run(&mut self, stopped: &io::PipeReader) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let due = self.deliver_due();
            let Ok((front, clients)) = self.wait(stopped, due) else { return };
            if front {
                self.take_from_clients(&mut buffer);
            }
            for number in clients {
                self.take_from_server(number, &mut buffer);
            }
        }
    }

    /// Waits for a datagram, for the time when one is due, or for the end, which is an error. Says whether the front
    /// socket has something, and which clients' sockets.
    fn wait(&self, stopped: &io::PipeReader, due: Option<Instant>) -> io::Result<(bool, Vec<usize>)> {
        let mut sources = Vec::with_capacity(self.clients.len() + 2);
        sources.push(PollFd::new(stopped, PollFlags::IN));
        sources.push(PollFd::new(&self.front, PollFlags::IN));
        sources.extend(self.clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)));
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |source: &PollFd<'_>| !source.revents().is_empty();
        if ready(&sources[0]) {
            return Err(ErrorKind::Interrupted.into());
        }
        let clients = sources[2..].iter().enumerate().filter(|(_, source)| ready(source));
        Ok((ready(&sources[1]), clients.map(|(number, _)| number).collect()))
    }

    fn take_from_clients(&mut self, buffer: &mut [u8]) {
        for _ in 0..TURN {
            match self.front.recv_from(buffer) {
                Ok((len, from)) => {
                    count(&self.counters.to_server, len);
                    match self.client_number(from) {
                        Some(number) => self.pass(Direction::ToServer(number), &buffer[..len]),
                        None => drop_one(&self.counters.to_server),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What an earlier datagram met, not this socket.
                Err(_) => {}
            }
        }
    }

    fn take_from_server(&mut self, number: usize, buffer: &mut [u8]) {
        for _ in 0..TURN {
            match self.clients[number].socket.recv(buffer) {
                Ok(len) => {
                    count(&self.counters.to_clients, len);
                    self.pass(Direction::ToClient(number), &buffer[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // A server that is not there refuses; it may be there later.
                Err(_) => {}
            }
        }
    }

    fn client_number(&mut self, addr: SocketAddr) -> Option<usize> {
        if let Some(number) = self.client_numbers.get(&addr) {
            return Some(*number);
        }
        if self.clients.len() == CLIENTS_MAX {
            return None;
        }
        let socket = socket(self.server).ok()?;
        socket.connect(self.server).ok()?;
        self.clients.push(Client { addr, socket });
        self.client_numbers.insert(addr, self.clients.len() - 1);
        Some(self.clients.len() - 1)
    }

    /// Sends a datagram on, at once or when it is due, or not at all.
    fn pass(&mut self, direction: Direction, datagram: &[u8]) {
        let Some(way) = &mut self.way else {
            self.send(direction, datagram);
            return;
        };
        let counter = counter(&self.counters, direction);
        match way.enter(direction, datagram) {
            Fate::OnTheWay => {}
            Fate::Lost => {
                counter.lost.fetch_add(1, Ordering::Relaxed);
            }
            Fate::TooLarge => {
                counter.too_large.fetch_add(1, Ordering::Relaxed);
            }
            Fate::Full => drop_one(counter),
        }
    }

    /// Sends what is due by now. Says when something is next.
    fn deliver_due(&mut self) -> Option<Instant> {
        loop {
            let (direction, datagram) = match self.way.as_mut()?.leave(Instant::now()) {
                Ok(datagram) => datagram,
                Err(due) => return due,
            };
            self.send(direction, &datagram);
        }
    }

    fn send(&self, direction: Direction, datagram: &[u8]) {
        let sent = match direction {
            Direction::ToServer(number) => self.clients[number].socket.send(datagram),
            Direction::ToClient(number) => self.front.send_to(datagram, self.clients[number].addr),
        };
        if sent.is_err() {
            drop_one(counter(&self.counters, direction));
        }
    }
}

fn counter(counters: &Counters, direction: Direction) -> &Counter {
    match direction {
        Direction::ToServer(_) => &counters.to_server,
        Direction::ToClient(_) => &counters.to_clients,
    }
}

fn count(counter: &Counter, bytes: usize) {
    counter.count(bytes);
    counter.datagrams.fetch_add(1, Ordering::Relaxed);
}

fn drop_one(counter: &Counter) {
    counter.dropped.fetch_add(1, Ordering::Relaxed);
}

/// The path with what is on it. One delay for all, so that what came first is due first, whichever way it goes.
struct Way {
    path: Path,
    to_server: Lane,
    to_clients: Lane,
    on_it: VecDeque<(Instant, Direction, Vec<u8>)>,
}

/// One direction of the path.
struct Lane {
    chance: fastrand::Rng,
    bytes: usize,
}

enum Fate {
    OnTheWay,
    Lost,
    TooLarge,
    Full,
}

impl Way {
    fn new(path: Path) -> Self {
        let mut seeds = fastrand::Rng::with_seed(path.seed);
        let mut lane = || Lane { chance: seeds.fork(), bytes: 0 };
        Self { path, to_server: lane(), to_clients: lane(), on_it: VecDeque::new() }
    }

    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::ToServer(_) => &mut self.to_server,
            Direction::ToClient(_) => &mut self.to_clients,
        }
    }

    fn enter(&mut self, direction: Direction, datagram: &[u8]) -> Fate {
        if datagram.len() > PATH_DATAGRAM_BYTES_MAX {
            return Fate::TooLarge;
        }
        let loss = self.path.loss;
        let lane = self.lane(direction);
        if lane.chance.f64() < loss {
            return Fate::Lost;
        }
        if lane.bytes + datagram.len() > ON_THE_WAY_BYTES_MAX {
            return Fate::Full;
        }
        lane.bytes += datagram.len();
        self.on_it.push_back((Instant::now() + self.path.delay, direction, datagram.to_vec()));
        Fate::OnTheWay
    }

    /// What is due, or when something is.
    fn leave(&mut self, now: Instant) -> Result<(Direction, Vec<u8>), Option<Instant>> {
        match self.on_it.front() {
            Some((due, ..)) if *due > now => return Err(Some(*due)),
            None => return Err(None),
            Some(_) => {}
        }
        let Some((_, direction, datagram)) = self.on_it.pop_front() else { return Err(None) };
        self.lane(direction).bytes -= datagram.len();
        Ok((direction, datagram))
    }
}
