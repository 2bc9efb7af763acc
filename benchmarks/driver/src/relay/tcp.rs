//! The relay of streams: two threads for each connection.

use super::{Counter, Counters, Traffic};
use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Connections at once; more are closed.
const CONNECTIONS_MAX: usize = 1_024;

/// A relay of streams to one server.
#[derive(Debug)]
pub struct TcpRelay {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    counters: Counters,
    stopping: AtomicBool,
    /// Both ends of each connection, by its number.
    connections: Mutex<HashMap<u64, [TcpStream; 2]>>,
}

impl TcpRelay {
    /// Starts one on a port of its own, on the loopback address of the server's family.
    ///
    /// # Errors
    /// If no socket can be had.
    pub fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = match server {
            SocketAddr::V4(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            SocketAddr::V6(_) => TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?,
        };
        let addr = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("tcp relay".into())
            .spawn(move || accept(&listener, server, &of_thread))?;
        Ok(Self { addr, shared, thread: Some(thread) })
    }

    /// Where clients find it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What has come in so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared.counters.traffic()
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread up.
        let woken = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take().filter(|_| woken.is_ok()) {
            // A panic of the thread has been printed; there is nobody to tell.
            let _ = thread.join();
        }
        for ends in self.shared.lock().values() {
            for end in ends {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, [TcpStream; 2]>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    for number in 0.. {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        // A server that is not there, or a client that is gone: the connection ends, as without a relay.
        let Ok((client, _)) = accepted else { continue };
        if shared.lock().len() < CONNECTIONS_MAX {
            let _ = relay(number, client, server, shared);
        }
    }
}

fn relay(number: u64, client: TcpStream, server: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    let upstream = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let ends = [client.try_clone()?, upstream.try_clone()?];
    let back = (upstream.try_clone()?, client.try_clone()?);
    shared.lock().insert(number, ends);
    let of_thread = Arc::clone(shared);
    thread::spawn(move || {
        let there = thread::spawn({
            let shared = Arc::clone(&of_thread);
            move || copy(client, upstream, &shared.counters.to_server)
        });
        copy(back.0, back.1, &of_thread.counters.to_clients);
        let _ = there.join();
        of_thread.lock().remove(&number);
    });
    Ok(())
}

/// Passes on what comes, and then that no more comes.
fn copy(mut from: TcpStream, mut to: TcpStream, counter: &Counter) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                counter.count(len);
                if to.write_all(&buffer[..len]).is_err() {
                    // Nobody takes it any more: the sender is to know.
                    let _ = from.shutdown(Shutdown::Both);
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
