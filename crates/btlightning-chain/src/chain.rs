//! [`Chain`], the nodes of one chain behind one door: whichever of them answers is asked.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use btlightning_proto::error::LightningError;
use subxt::ext::futures::FutureExt;
use subxt::{OnlineClient, PolkadotConfig};
use tokio::sync::watch;
use tokio::time::timeout;

pub use crate::config::{Backend, ChainConfig};
use crate::error::{ChainError, EndpointFailure, NodeError};
use crate::network::{FINNEY_GENESIS, Network};
use crate::node::{BlockHash, Node, shown, standalone_client};
use crate::runtimes::Runtimes;

/// The nodes of one chain. Clones share one connection, to one node at a time.
///
/// Nothing is connected before the first question. A node that fails a question is left for the next endpoint, which
/// stays in use until it fails in turn; there is no timer that leads back. All nodes must belong to the chain of the
/// one that answered first.
#[derive(Clone)]
pub struct Chain {
    inner: Arc<Inner>,
}

struct Inner {
    config: ChainConfig,
    state: Mutex<State>,
}

struct State {
    link: Link,
    /// The endpoint that the next attempt begins with.
    next: usize,
    /// Of the node that answered first.
    genesis: Option<BlockHash>,
    subxt: PolkadotConfig,
    /// Those whose metadata is kept in `subxt`.
    runtimes: Runtimes,
    answered_at: Option<SystemTime>,
    failures_in_a_row: u32,
    last_error: Option<ChainError>,
}

/// What an attempt to connect comes to, as soon as it has.
type Attempt = watch::Receiver<Option<Result<Arc<Node>, ChainError>>>;

enum Link {
    Down,
    Connecting(Attempt),
    Up(Arc<Node>),
}

/// How things stand with a chain's nodes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChainStatus {
    /// The node in use, without what may be a secret in its URL.
    pub endpoint: Option<String>,
    /// Since when it is in use.
    pub connected_since: Option<SystemTime>,
    /// When an operation last succeeded.
    pub answered_at: Option<SystemTime>,
    /// How many nodes failed since.
    pub failures_in_a_row: u32,
    /// What the last failure was; kept when things go well again.
    pub last_error: Option<ChainError>,
    /// Genesis hash of the chain, once a node has answered.
    pub genesis: Option<[u8; 32]>,
}

impl Chain {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`ChainError::Network`] for endpoints, [`ChainError::Setting`] for a timeout out of its bounds.
    pub fn new(config: ChainConfig) -> Result<Self, ChainError> {
        let state = State {
            link: Link::Down,
            next: 0,
            genesis: None,
            subxt: fresh_subxt_config(),
            runtimes: Runtimes::counted(),
            answered_at: None,
            failures_in_a_row: 0,
            last_error: None,
        };
        Ok(Self { inner: Arc::new(Inner { config: config.checked()?, state: Mutex::new(state) }) })
    }

    /// What it was made with.
    pub fn config(&self) -> &ChainConfig {
        &self.inner.config
    }

    /// How things stand. Costs nothing and waits for nothing.
    pub fn status(&self) -> ChainStatus {
        let state = self.inner.lock();
        let node = match &state.link {
            Link::Up(node) if node.is_connected() => Some(node),
            _ => None,
        };
        ChainStatus {
            endpoint: node.map(|node| node.endpoint.clone()),
            connected_since: node.map(|node| node.since),
            answered_at: state.answered_at,
            failures_in_a_row: state.failures_in_a_row,
            last_error: state.last_error.clone(),
            genesis: state.genesis.map(|hash| hash.0),
        }
    }

    /// Whether a node has answered, and is of mainnet.
    pub fn is_mainnet(&self) -> bool {
        self.status().genesis == Some(FINNEY_GENESIS)
    }

    /// Genesis hash of the chain, from the node if none has said it yet.
    ///
    /// # Errors
    /// [`ChainError::NoNode`] when no node answers.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the answer.
    pub async fn genesis(&self) -> Result<[u8; 32], ChainError> {
        self.run(|client| async move { Ok(client.genesis_hash().0) }).await
    }

    /// Runs `operation` over a live connection, and again over the next node's if the node fails it.
    ///
    /// It runs at most once for each endpoint, and once more if a connection was open already; each time for at most
    /// [`ChainConfig::operation_timeout`]. So it must be something that may be done twice, and an operation that
    /// changes the chain has to look whether it did already.
    ///
    /// # Errors
    /// Whatever `operation` returns that is not the node's fault ([`ChainError::is_fault_of_node`]), at once;
    /// [`ChainError::NoNode`] when every node failed.
    ///
    /// # Cancel safety
    /// As cancel-safe as `operation`. A connection that is being made is made all the same, for the next operation.
    pub async fn run<T, F, Fut>(&self, operation: F) -> Result<T, ChainError>
    where
        F: Fn(OnlineClient<PolkadotConfig>) -> Fut,
        Fut: Future<Output = Result<T, ChainError>>,
    {
        let mut failures = Vec::new();
        let endpoints = self.inner.config.endpoints.len();
        let mut fresh_connections = 0;
        // Others may make connections meanwhile, so these are counted and the attempts, too.
        for attempt in 0..=endpoints {
            let (node, fresh) = match self.live_node() {
                Some(node) => (node, attempt > 0),
                None if fresh_connections == endpoints => break,
                None => {
                    fresh_connections += 1;
                    match self.connected().await {
                        Ok(node) => (node, true),
                        // Every endpoint was tried just now.
                        Err(ChainError::NoNode(others)) => {
                            failures.extend(others);
                            break;
                        }
                        Err(err) => return Err(err),
                    }
                }
            };
            let after = self.inner.config.operation_timeout;
            // Strange metadata makes subxt panic; that is the node's fault, and must not end the caller's task.
            let operation = AssertUnwindSafe(operation(node.client.clone())).catch_unwind();
            let result = match timeout(after, operation).await {
                Ok(Ok(result)) => result,
                Ok(Err(_panic)) => Err(NodeError::Garbage {
                    doing: "for an operation",
                    reason: "reading it panicked".into(),
                }
                .into()),
                Err(_) => Err(NodeError::TimedOut { doing: "for the whole operation", after }.into()),
            };
            self.inner.bound_metadata();
            match result {
                Err(ChainError::Node(error)) => {
                    self.inner.failed(&node, &error, fresh);
                    failures.push(EndpointFailure { endpoint: node.endpoint.clone(), error });
                }
                result => {
                    self.inner.answered(&node);
                    return result;
                }
            }
        }
        Err(ChainError::NoNode(failures))
    }

    fn live_node(&self) -> Option<Arc<Node>> {
        match &self.inner.lock().link {
            Link::Up(node) if node.is_connected() => Some(Arc::clone(node)),
            _ => None,
        }
    }

    /// The connection, made if need be. Everyone who waits shares one attempt, which goes on if they leave.
    async fn connected(&self) -> Result<Arc<Node>, ChainError> {
        let mut attempt = match self.attempt() {
            Ok(node) => return Ok(node),
            Err(attempt) => attempt,
        };
        let outcome = attempt.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| {
            // The attempt was dropped with its runtime. Another runtime may begin one of its own.
            let mut state = self.inner.lock();
            if matches!(&state.link, Link::Connecting(dead) if dead.has_changed().is_err()) {
                state.link = Link::Down;
            }
            Err(ChainError::ShuttingDown)
        })
    }

    fn attempt(&self) -> Result<Arc<Node>, Attempt> {
        let mut state = self.inner.lock();
        match &state.link {
            Link::Up(node) if node.is_connected() => return Ok(Arc::clone(node)),
            Link::Connecting(attempt) => return Err(attempt.clone()),
            Link::Up(_) | Link::Down => {}
        }
        let (outcome, attempt) = watch::channel(None);
        state.link = Link::Connecting(attempt.clone());
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let result = inner.connect().await;
            inner.settle(&result);
            outcome.send_replace(Some(result));
        });
        Err(attempt)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries every endpoint once.
    async fn connect(&self) -> Result<Arc<Node>, ChainError> {
        let count = self.config.endpoints.len();
        let first = self.lock().next;
        let mut failures = Vec::new();
        for index in (first..first + count).map(|index| index % count) {
            let endpoint = &self.config.endpoints[index];
            let (subxt, runtimes) = {
                let state = self.lock();
                (state.subxt.clone(), state.runtimes.clone())
            };
            let connected = Node::connect(endpoint, &self.config, subxt, runtimes).await;
            match connected.and_then(|node| self.same_chain(node)) {
                Ok(node) => {
                    tracing::info!(endpoint = node.endpoint, "connected to the chain");
                    self.lock().next = index;
                    return Ok(Arc::new(node));
                }
                Err(error) => {
                    let endpoint = shown(endpoint);
                    tracing::warn!(endpoint, %error, "a node of the chain failed");
                    self.note(&error);
                    failures.push(EndpointFailure { endpoint, error });
                }
            }
        }
        Err(ChainError::NoNode(failures))
    }

    fn same_chain(&self, node: Node) -> Result<Node, NodeError> {
        let found = node.genesis();
        let expected = self.lock().genesis.unwrap_or(found);
        if found == expected {
            return Ok(node);
        }
        Err(NodeError::OtherChain { expected: format!("{expected:?}"), found: format!("{found:?}") })
    }

    fn settle(&self, result: &Result<Arc<Node>, ChainError>) {
        self.lock().link = match result {
            Ok(node) => Link::Up(Arc::clone(node)),
            Err(_) => Link::Down,
        };
    }

    fn note(&self, error: &NodeError) {
        let mut state = self.lock();
        state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        state.last_error = Some(error.clone().into());
    }

    /// Leaves a node that failed an operation, unless somebody else has already.
    fn failed(&self, node: &Arc<Node>, error: &NodeError, fresh: bool) {
        tracing::warn!(endpoint = node.endpoint, %error, "a node of the chain failed");
        self.note(error);
        let mut state = self.lock();
        if !matches!(&state.link, Link::Up(current) if Arc::ptr_eq(current, node)) {
            return;
        }
        state.link = Link::Down;
        // An older connection that broke is made again; a node that answered badly, not at all, or broke off at once,
        // comes last.
        if fresh || !matches!(error, NodeError::Lost { .. }) {
            state.next = (state.next + 1) % self.config.endpoints.len();
        }
        if matches!(error, NodeError::Garbage { .. }) {
            // It may be the metadata that is wrong.
            state.forget_metadata();
        }
    }

    /// Bounds the metadata that is kept. The connection keeps it, too, so the next operation gets a new one.
    fn bound_metadata(&self) {
        let mut state = self.lock();
        if state.runtimes.are_many() {
            state.forget_metadata();
            if matches!(state.link, Link::Up(_)) {
                state.link = Link::Down;
            }
        }
    }

    fn answered(&self, node: &Node) {
        let mut state = self.lock();
        // Not before: a node that says which chain it belongs to, and no more, must not shut the others out.
        state.genesis.get_or_insert(node.genesis());
        state.answered_at = Some(SystemTime::now());
        state.failures_in_a_row = 0;
    }
}

impl State {
    fn forget_metadata(&mut self) {
        self.subxt = fresh_subxt_config();
        self.runtimes = Runtimes::counted();
    }
}

/// Keeps the metadata of each runtime version it meets, for all connections that are made with it.
fn fresh_subxt_config() -> PolkadotConfig {
    PolkadotConfig::builder().use_historic_types(false).build()
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A client of the caller's own for one node, without fail-over; what [`Metagraph::sync`] takes.
///
/// Of a node that offers `chainHead` methods only, the blocks are followed by a task of the runtime that this is called
/// on. It lives as long as the connection does, which may be longer than the client. Metadata is kept of every runtime
/// version that the node names.
///
/// [`Metagraph::sync`]: crate::metagraph::Metagraph::sync
///
/// # Errors
/// `Connection` for what is not a `ws://` or `wss://` URL, when the node cannot be reached and has not answered within
/// 10 seconds, and when it offers no methods that can be used.
///
/// # Cancel safety
/// Dropping the future ends the attempt.
pub async fn connect_subtensor<T: subxt::Config + Default>(
    endpoint: &str,
) -> Result<OnlineClient<T>, LightningError> {
    let failed = |why: &dyn fmt::Display| {
        LightningError::Connection(format!("connecting to subtensor {}: {why}", shown(endpoint)))
    };
    let network = Network::from_endpoints([endpoint]).map_err(|err| failed(&err))?;
    let config = ChainConfig::new(&network);
    standalone_client(&network.endpoints()[0], &config, T::default()).await.map_err(|err| failed(&err))
}
