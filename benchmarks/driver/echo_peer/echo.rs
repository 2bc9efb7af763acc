//! Echoes over plain TCP (a length, then the bytes) and UDP (a datagram).

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub(crate) fn bytes_max(self) -> u64 {
        if self == Self::Udp { 60_000 } else { u64::from(u32::MAX) }
    }
}

/// After so long a datagram is taken for lost, and sent again.
const RESEND: Duration = Duration::from_millis(150);

/// A server. Dropped, it is gone, and its connections with it.
pub(crate) struct Echo {
    pub(crate) addr: SocketAddr,
    stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    transport: Transport,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn start(transport: Transport, addr: SocketAddr) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let connections = Arc::<Mutex<Vec<TcpStream>>>::default();
        let (stop, open) = (Arc::clone(&stopping), Arc::clone(&connections));
        let (addr, thread) = match transport {
            Transport::Tcp => {
                let listener = TcpListener::bind(addr).unwrap();
                let addr = listener.local_addr().unwrap();
                (addr, thread::spawn(move || accept(&listener, &stop, &open)))
            }
            Transport::Udp => {
                let socket = UdpSocket::bind(addr).unwrap();
                let addr = socket.local_addr().unwrap();
                (addr, thread::spawn(move || echo_datagrams(&socket, &stop)))
            }
        };
        Self { addr, stopping, connections, transport, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        match self.transport {
            Transport::Tcp => drop(TcpStream::connect(self.addr)),
            Transport::Udp => {
                let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[], self.addr);
            }
        }
        self.thread.take().unwrap().join().unwrap();
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, stop: &AtomicBool, open: &Mutex<Vec<TcpStream>>) {
    loop {
        let (connection, _) = listener.accept().unwrap();
        if stop.load(Ordering::SeqCst) {
            return;
        }
        connection.set_nodelay(true).unwrap();
        open.lock().unwrap().push(connection.try_clone().unwrap());
        thread::spawn(move || while echo_frame(&connection).is_ok() {});
    }
}

fn echo_frame(mut connection: &TcpStream) -> io::Result<()> {
    let mut len = [0; 4];
    connection.read_exact(&mut len)?;
    let mut frame = len.to_vec();
    frame.resize(4 + u32::from_le_bytes(len) as usize, 0);
    connection.read_exact(&mut frame[4..])?;
    connection.write_all(&frame)
}

fn echo_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let _ = socket.send_to(&buffer[..len], from);
    }
}

pub(crate) struct Client {
    pub(crate) addr: SocketAddr,
    over: Over,
    sent: u64,
}

enum Over {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Client {
    pub(crate) fn connect(transport: Transport, addr: SocketAddr) -> io::Result<Self> {
        let over = match transport {
            Transport::Tcp => {
                let stream = TcpStream::connect(addr)?;
                stream.set_nodelay(true)?;
                Over::Tcp(stream)
            }
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(addr)?;
                socket.set_read_timeout(Some(RESEND))?;
                Over::Udp(socket)
            }
        };
        Ok(Self { addr, over, sent: 0 })
    }

    /// One echo; its time in microseconds.
    pub(crate) fn echo(&mut self, bytes: u64) -> io::Result<f64> {
        let started = Instant::now();
        self.sent += 1;
        // Which echo it is of is in the bytes, so that a late one is not taken for the next.
        let mut payload = self.sent.to_le_bytes().to_vec();
        payload.resize((bytes as usize).max(8), 7);
        let echoed = match &mut self.over {
            Over::Tcp(stream) => over_tcp(stream, &payload)?,
            Over::Udp(socket) => over_udp(socket, &payload)?,
        };
        assert!(echoed == payload, "another payload came back");
        Ok(started.elapsed().as_secs_f64() * 1e6)
    }
}

fn over_tcp(stream: &mut TcpStream, payload: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(&[&(payload.len() as u32).to_le_bytes(), payload].concat())?;
    let mut echoed = vec![0; payload.len() + 4];
    stream.read_exact(&mut echoed)?;
    Ok(echoed.split_off(4))
}

fn over_udp(socket: &UdpSocket, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..20 {
        socket.send(payload)?;
        loop {
            match socket.recv(&mut buffer) {
                Ok(len) if buffer[..8] == payload[..8] => return Ok(buffer[..len].to_vec()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Err(ErrorKind::TimedOut.into())
}
