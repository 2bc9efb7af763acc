//! A node of the chain: a WebSocket server on a port of its own, which can be made to fail.

use super::{
    failure::{Failure, Fault},
    requests::{Log, Requests},
    rpc::{RpcMethods, connection},
    shared::Shared,
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
};

/// Connections that a node serves at once; later ones wait in the backlog.
const CONNECTIONS_MAX: usize = 256;
const BACKLOG: u32 = 128;

/// A node of a [`Chain`](super::Chain). Clones are the same node; it is up until the last of them is gone.
#[derive(Clone)]
pub struct Node(Arc<Running>);

/// What the connections of a node have in common.
pub(super) struct NodeState {
    fault: Mutex<Option<Fault>>,
    methods: Mutex<RpcMethods>,
    pub(super) requests: Log,
    /// A change drops every connection.
    pub(super) drops: watch::Sender<()>,
}

struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    state: Arc<NodeState>,
    door: Mutex<Door>,
}

/// Whether connections come in.
enum Door {
    Open(JoinHandle<()>),
    /// The port is bound, so that nobody else gets it, but connections to it are refused.
    Closed(TcpSocket),
    /// On the way from one to the other, or the operating system did not give the port back.
    Unhinged,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Door::Open(listener) = &*lock(&self.door) {
            listener.abort();
        }
        self.state.drops.send_replace(());
    }
}

impl NodeState {
    /// The failure of a request for `method`, or of a function of the runtime that it is about.
    pub(super) fn failure_of(&self, method: &str, function: Option<&str>) -> Option<Failure> {
        let fault = lock(&self.fault);
        fault.as_ref().filter(|fault| fault.concerns(method, function)).map(|fault| fault.failure.clone())
    }

    /// The failure of the whole node.
    pub(super) fn failure(&self) -> Option<Failure> {
        let fault = lock(&self.fault);
        fault.as_ref().filter(|fault| fault.of.is_none()).map(|fault| fault.failure.clone())
    }

    pub(super) fn methods(&self) -> RpcMethods {
        *lock(&self.methods)
    }
}

impl Node {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        let state = Arc::new(NodeState {
            fault: Mutex::default(),
            methods: Mutex::default(),
            requests: Log::new(),
            drops: watch::Sender::new(()),
        });
        let door = Mutex::new(Door::Closed(socket));
        let node = Self(Arc::new(Running { address, shared, state, door }));
        node.open()?;
        Ok(node)
    }

    /// Where the node is: `ws://127.0.0.1:PORT`, for as long as it exists.
    pub fn url(&self) -> String {
        format!("ws://{}", self.0.address)
    }

    /// Makes the node fail, in this way only, until [`Node::heal`]. One such change of a node at a time.
    ///
    /// [`Failure::Refuse`], [`Failure::HangUp`] and [`Failure::Mute`] close the connections that are open.
    ///
    /// # Errors
    ///
    /// If the operating system does not give the port back.
    pub async fn fail(&self, failure: Failure) -> io::Result<()> {
        let (refuse, drop) = match failure {
            Failure::Refuse => (true, true),
            Failure::HangUp | Failure::Mute => (false, true),
            _ => (false, false),
        };
        *lock(&self.0.state.fault) = Some(Fault { failure, of: None });
        if refuse {
            self.close().await?;
        } else {
            self.open()?;
        }
        if drop {
            self.drop_connections();
        }
        Ok(())
    }

    /// Makes only what is named fail: RPC methods (`state_call`) and functions of the runtime (`Core_version`), however
    /// they are called. Failures that are of connections do as [`Failure::Silent`].
    pub fn fail_only(&self, names: &[&str], failure: Failure) {
        let of = names.iter().map(|name| (*name).to_owned()).collect();
        *lock(&self.0.state.fault) = Some(Fault { failure, of: Some(of) });
    }

    /// Ends the failure. What went unanswered stays so.
    ///
    /// # Errors
    ///
    /// If the operating system does not give the port back.
    pub async fn heal(&self) -> io::Result<()> {
        *lock(&self.0.state.fault) = None;
        self.open()
    }

    /// Closes every connection and refuses new ones, as a node that is down; the port stays its own.
    ///
    /// # Errors
    ///
    /// If the operating system does not give the port back.
    pub async fn stop(&self) -> io::Result<()> {
        self.fail(Failure::Refuse).await
    }

    /// Takes connections again after [`Node::stop`].
    ///
    /// # Errors
    ///
    /// If the operating system does not give the port back.
    pub async fn restart(&self) -> io::Result<()> {
        self.heal().await
    }

    /// Closes every connection; clients may come back at once.
    pub fn drop_connections(&self) {
        self.0.state.drops.send_replace(());
    }

    /// Chooses which families of methods the node has, from the next request on.
    pub fn offer(&self, methods: RpcMethods) {
        *lock(&self.0.state.methods) = methods;
    }

    /// What this node was asked.
    pub fn requests(&self) -> Requests {
        self.0.state.requests.snapshot()
    }

    /// Waits until this node was asked for `name`, an RPC method or a function of the runtime, `count` times.
    ///
    /// Cancel-safe.
    ///
    /// # Panics
    ///
    /// If it is not within 30 s.
    pub async fn wait_for_request(&self, name: &str, count: u64) {
        self.0.state.requests.wait(name, count).await;
    }

    /// How many connections are open. A connection counts until its task is gone.
    pub fn connections(&self) -> usize {
        self.0.state.drops.receiver_count()
    }

    fn open(&self) -> io::Result<()> {
        let mut door = lock(&self.0.door);
        let socket = match std::mem::replace(&mut *door, Door::Unhinged) {
            Door::Closed(socket) => socket,
            Door::Unhinged => bind(self.0.address)?,
            open @ Door::Open(_) => {
                *door = open;
                return Ok(());
            }
        };
        let listener = socket.listen(BACKLOG)?;
        *door = Door::Open(tokio::spawn(listen(listener, self.0.shared.clone(), self.0.state.clone())));
        Ok(())
    }

    async fn close(&self) -> io::Result<()> {
        let door = std::mem::replace(&mut *lock(&self.0.door), Door::Unhinged);
        let door = match door {
            Door::Open(listening) => {
                listening.abort();
                // Until the socket is closed. That the task was aborted is no news.
                let _ = listening.await;
                Door::Closed(bind(self.0.address)?)
            }
            Door::Unhinged => Door::Closed(bind(self.0.address)?),
            closed @ Door::Closed(_) => closed,
        };
        *lock(&self.0.door) = door;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Takes connections until it is aborted, and every connection with it.
async fn listen(listener: TcpListener, shared: Arc<Shared>, state: Arc<NodeState>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (shared, state) = (shared.clone(), state.clone());
        connections.spawn(async move {
            connection::serve(stream, shared, state).await;
            drop(place);
        });
    }
}
