//! [`Node`], a live connection to one node, and what its failures mean.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use subxt::backend::{ChainHeadBackend, LegacyBackend};
use subxt::config::HashFor;
use subxt::error::{
    BackendError, OnlineClientAtBlockError, OnlineClientError, RuntimeApiError, StorageError,
};
use subxt::ext::futures::StreamExt;
use subxt::ext::jsonrpsee::client_transport::ws::{Url, WsTransportClientBuilder};
use subxt::ext::jsonrpsee::core::client::{Client, Error as RpcError, async_client::PingConfig};
use subxt::rpcs::{self, RpcClient};
use subxt::{OnlineClient, PolkadotConfig};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::timeout;

use crate::chain_head::Attentive;
use crate::config::{Backend, ChainConfig};
use crate::error::{ChainError, NodeError};
use crate::runtimes::{Counting, Runtimes};
use crate::words::printable;

/// Hash of a block.
pub(crate) type BlockHash = HashFor<PolkadotConfig>;

/// Hex doubles what is sent: room for the largest subnet that is read, and for metadata ten times today's size.
const RESPONSE_BYTES_MAX: u32 = 16 << 20;
const REQUEST_BYTES_MAX: u32 = 1 << 20;
const REQUESTS_AT_ONCE_MAX: usize = 64;
/// Notifications of a subscription that wait to be read; the `chainHead` backend reads them as they come.
const NOTIFICATIONS_MAX: usize = 256;
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A connection on which nothing at all came for this long, no pong either, is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);

const LEGACY_METHODS: [&str; 4] =
    ["chain_getFinalizedHead", "chain_getHeader", "chain_getBlockHash", "state_call"];
const CHAIN_HEAD_METHODS: [&str; 5] = [
    "chainHead_v1_follow",
    "chainHead_v1_header",
    "chainHead_v1_call",
    "chainHead_v1_storage",
    "chainSpec_v1_genesisHash",
];

/// A live connection to one node.
pub(crate) struct Node {
    pub(crate) client: OnlineClient<PolkadotConfig>,
    /// Fit to be shown.
    pub(crate) endpoint: String,
    pub(crate) since: SystemTime,
    socket: Arc<Client>,
    _driver: Option<AbortOnDrop>,
}

impl Node {
    /// Connects to `endpoint`, chooses a backend, and learns which chain it is. Bounded by the connect timeout.
    pub(crate) async fn connect(
        endpoint: &str,
        config: &ChainConfig,
        subxt: PolkadotConfig,
        runtimes: Runtimes,
    ) -> Result<Self, NodeError> {
        let after = config.connect_timeout;
        timeout(after, Self::connect_unbounded(endpoint, config, subxt, runtimes))
            .await
            .unwrap_or(Err(NodeError::TimedOut { doing: CONNECTING, after }))
    }

    async fn connect_unbounded(
        endpoint: &str,
        config: &ChainConfig,
        subxt: PolkadotConfig,
        runtimes: Runtimes,
    ) -> Result<Self, NodeError> {
        let (client, socket, driver) = client(endpoint, config, subxt, runtimes).await?;
        Ok(Self { client, endpoint: shown(endpoint), since: SystemTime::now(), socket, _driver: driver })
    }

    /// Whether the connection still stands, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.socket.is_connected()
    }

    pub(crate) fn genesis(&self) -> BlockHash {
        self.client.genesis_hash()
    }
}

/// The task that reads the `chainHead` subscription; it ends with the connection.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const CONNECTING: &str = "while connecting";

/// A client of any configuration, its socket, and the task that it needs, if any. Not bounded in time.
async fn client<T: subxt::Config>(
    endpoint: &str,
    config: &ChainConfig,
    subxt: T,
    runtimes: Runtimes,
) -> Result<(OnlineClient<T>, Arc<Client>, Option<AbortOnDrop>), NodeError> {
    let socket = Arc::new(open(endpoint, config).await?);
    let rpc = RpcClient::new(Arc::clone(&socket));
    let (client, driver) = match choose(&rpc, config.backend).await? {
        Chosen::Legacy => {
            let rpc = RpcClient::new(Counting::new(Arc::clone(&socket), runtimes));
            let backend = LegacyBackend::builder().build(rpc);
            (OnlineClient::from_backend_with_config(subxt, Arc::new(backend)).await, None)
        }
        Chosen::ChainHead => {
            let rpc = RpcClient::new(Attentive::new(Arc::clone(&socket), runtimes));
            let (backend, mut driver) = ChainHeadBackend::builder().build(rpc);
            let task = tokio::spawn(async move { while driver.next().await.is_some() {} });
            let driver = AbortOnDrop(task.abort_handle());
            (OnlineClient::from_backend_with_config(subxt, Arc::new(backend)).await, Some(driver))
        }
    };
    Ok((client.map_err(|err| fault(CONNECTING, err))?, socket, driver))
}

/// A client that stands alone: what it needs goes on until its connection ends.
pub(crate) async fn standalone_client<T: subxt::Config>(
    endpoint: &str,
    config: &ChainConfig,
    subxt: T,
) -> Result<OnlineClient<T>, NodeError> {
    let after = config.connect_timeout;
    let (client, _socket, driver) = timeout(after, client(endpoint, config, subxt, Runtimes::not_counted()))
        .await
        .unwrap_or(Err(NodeError::TimedOut { doing: CONNECTING, after }))?;
    std::mem::forget(driver);
    Ok(client)
}

async fn open(endpoint: &str, config: &ChainConfig) -> Result<Client, NodeError> {
    let unreachable = |reason: String| NodeError::Unreachable { reason: printable(reason) };
    let url = Url::parse(endpoint).map_err(|err| unreachable(err.to_string()))?;
    let transport = WsTransportClientBuilder::default()
        .connection_timeout(config.connect_timeout)
        .max_request_size(REQUEST_BYTES_MAX)
        .max_response_size(RESPONSE_BYTES_MAX)
        // The first target counts as one: a node has no say in who is asked in its place, and over what.
        .max_redirections(1);
    let (sender, receiver) = apart(transport.build(url))
        .await
        .ok_or_else(|| unreachable("connecting was broken off".to_owned()))?
        .map_err(|err| unreachable(err.to_string()))?;
    let ping = PingConfig::new().ping_interval(PING_INTERVAL).inactive_limit(SILENCE_MAX).max_failures(1);
    Ok(Client::builder()
        // Only for what is not bounded by its caller: whoever waits gives up first, and says for what it waited.
        .request_timeout(config.call_timeout + Duration::from_secs(1))
        .max_concurrent_requests(REQUESTS_AT_ONCE_MAX)
        .max_buffer_capacity_per_subscription(NOTIFICATIONS_MAX)
        .enable_ws_ping(ping)
        .build_with_tokio(sender, receiver))
}

/// Runs `work` on a thread where it may block, as the transport does while it looks up a name. `None` if it panicked or
/// the runtime is shutting down. Dropping the future ends the work as soon as it does not block.
async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let runtime = Handle::current();
    let (mut sender, outcome) = oneshot::channel();
    spawn_blocking(move || {
        runtime.block_on(async move {
            tokio::select! {
                biased;
                () = sender.closed() => {}
                done = work => {
                    // Whoever left meanwhile does not want it.
                    let _ = sender.send(done);
                }
            }
        });
    });
    outcome.await.ok()
}

/// Answer of `rpc_methods`.
#[derive(serde::Deserialize)]
struct Methods {
    methods: Vec<String>,
}

enum Chosen {
    Legacy,
    ChainHead,
}

/// The legacy backend where the node has it: it asks for one thing at a time and holds nothing on the node. `archive`
/// methods are not looked at, because pruned nodes list them and then refuse.
async fn choose(rpc: &RpcClient, wanted: Backend) -> Result<Chosen, NodeError> {
    let legacy = match wanted {
        Backend::Legacy => return Ok(Chosen::Legacy),
        Backend::ChainHead => return Ok(Chosen::ChainHead),
        Backend::Auto => LEGACY_METHODS,
    };
    let answer: Result<Methods, _> = rpc.request("rpc_methods", rpcs::rpc_params![]).await;
    let methods = match answer {
        Ok(answer) => answer.methods,
        // A node that does not say what it has may still have it.
        Err(rpcs::Error::User(_)) => return Ok(Chosen::Legacy),
        Err(err) => return Err(rpc_fault(CONNECTING, err)),
    };
    let missing = |wanted: &[&'static str]| {
        wanted.iter().copied().find(|&method| !methods.iter().any(|known| known == method))
    };
    let Some(missing_legacy) = missing(&legacy) else { return Ok(Chosen::Legacy) };
    match missing(&CHAIN_HEAD_METHODS) {
        None => Ok(Chosen::ChainHead),
        Some(_) => Err(NodeError::NoMethods { missing: missing_legacy }),
    }
}

/// `endpoint` without user, password, path and query, any of which may be a key that lets one in.
pub(crate) fn shown(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (secret, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let user = if secret.is_empty() { "" } else { "...@" };
    let path = if path.trim_matches('/').is_empty() { "" } else { "/..." };
    printable(format!("{scheme}://{user}{host}{path}"))
}

/// Bounds `call` by `after`, and tells whose fault it is if it fails.
pub(crate) async fn within<T, E: Into<subxt::Error>>(
    after: Duration,
    doing: &'static str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, ChainError> {
    match timeout(after, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(err)) => Err(fault(doing, err).into()),
        Err(_) => Err(NodeError::TimedOut { doing, after }.into()),
    }
}

/// What an error of subxt says about the node.
pub(crate) fn fault(doing: &'static str, err: impl Into<subxt::Error>) -> NodeError {
    use subxt::Error as E;
    match err.into() {
        E::OnlineClientError(OnlineClientError::CannotGetGenesisHash(err)) => backend_fault(doing, err),
        E::OnlineClientError(OnlineClientError::RpcError(err)) => rpc_fault(doing, err),
        E::OnlineClientAtBlockError(
            OnlineClientAtBlockError::CannotGetCurrentBlock { reason }
            | OnlineClientAtBlockError::CannotGetBlockHash { reason, .. }
            | OnlineClientAtBlockError::CannotGetBlockHeader { reason, .. }
            | OnlineClientAtBlockError::CannotGetSpecVersion { reason, .. },
        ) => backend_fault(doing, reason),
        E::RuntimeApiError(RuntimeApiError::CannotCallApi(err)) => backend_fault(doing, err),
        E::StorageError(
            StorageError::CannotFetchValue(err)
            | StorageError::CannotIterateValues(err)
            | StorageError::StreamFailure(err),
        ) => backend_fault(doing, err),
        E::BackendError(err) => backend_fault(doing, err),
        E::OtherRpcClientError(err) => rpc_fault(doing, err),
        other => NodeError::Garbage { doing, reason: printable(other.to_string()) },
    }
}

fn backend_fault(doing: &'static str, err: BackendError) -> NodeError {
    use subxt::error::RpcError as E;
    match err {
        BackendError::Rpc(E::ClientError(err)) => rpc_fault(doing, err),
        BackendError::Rpc(E::LimitReached) => NodeError::Refused {
            doing,
            reason: "the node's limit of concurrent operations is reached".into(),
        },
        BackendError::Rpc(E::SubscriptionDropped) => {
            NodeError::Lost { doing, reason: "the subscription ended".into() }
        }
        other => NodeError::Refused { doing, reason: printable(other.to_string()) },
    }
}

fn rpc_fault(doing: &'static str, err: rpcs::Error) -> NodeError {
    match err {
        rpcs::Error::User(err) => {
            let detail = err.data.as_ref().map(|data| format!(": {}", data.get())).unwrap_or_default();
            NodeError::Refused { doing, reason: printable(format!("{}{detail}", err.message)) }
        }
        rpcs::Error::Client(err) => match err.downcast::<RpcError>() {
            Ok(err) => socket_fault(doing, &err),
            Err(err) => NodeError::Lost { doing, reason: printable(err.to_string()) },
        },
        rpcs::Error::DisconnectedWillReconnect(reason) => {
            NodeError::Lost { doing, reason: printable(reason) }
        }
        other => NodeError::Garbage { doing, reason: printable(other.to_string()) },
    }
}

fn socket_fault(doing: &'static str, err: &RpcError) -> NodeError {
    let reason = printable(err.to_string());
    match err {
        RpcError::RestartNeeded(cause) => socket_fault(doing, cause),
        RpcError::ParseError(_) | RpcError::InvalidSubscriptionId | RpcError::InvalidRequestId(_) => {
            NodeError::Garbage { doing, reason }
        }
        RpcError::Call(_) => NodeError::Refused { doing, reason },
        _ => NodeError::Lost { doing, reason },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const AMPLE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_blocks_its_thread_does_not_block_the_runtime() {
        let (go, may_go) = mpsc::channel();
        let blocking = apart(async move { may_go.recv_timeout(AMPLE) });
        let (blocked, ()) = tokio::join!(blocking, async { go.send(7).unwrap() });
        assert_eq!(blocked, Some(Ok(7)));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_ends() {
        let (held, is_held) = oneshot::channel::<()>();
        let mut work = Box::pin(apart(async move {
            std::future::pending::<()>().await;
            drop(held);
        }));
        std::future::poll_fn(|cx| std::task::Poll::Ready(work.as_mut().poll(cx).is_pending())).await;
        drop(work);
        assert!(timeout(AMPLE, is_held).await.unwrap().is_err());
        assert_eq!(apart(async { panic!("as subxt might") }).await, None::<()>);
    }
}
