//! From a start to its stop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use btlightning_proto::identity::TlsKeyPin;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::accept;
use super::refresh;
use super::shared::{Running, Shared, Stop};
use crate::error::{LightningError, Result};
use crate::transport::close::CloseReason;
use crate::transport::io::Task;
use crate::transport::nowhere;
use crate::transport::tls_key::TlsKey;

/// How long a stop waits, after the last answer, for peers to be told that their connections are closed.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(2);

/// How long a start waits for the port of a stop just before to become free: quinn closes a socket only when the last
/// task that drives it has ended.
const PORT_TIME_MAX: Duration = Duration::from_secs(2);

const PORT_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Whether the server runs, and where.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    New,
    Running(Arc<Running>),
    Stopped {
        local_addr: SocketAddr,
        tls_key_pin: Option<TlsKeyPin>,
    },
}

impl Lifecycle {
    /// Binds the address of `host` and `port`. A server that runs already is cut off, once the new one is bound.
    pub(super) async fn start(&self, shared: &Shared, host: &str, port: u16) -> Result<SocketAddr> {
        let addr = SocketAddr::new(listen_ip(host)?, port);
        let key = tls_key(shared).await?;
        let give_up_at = Instant::now() + PORT_TIME_MAX;
        let running = loop {
            match Running::open(shared, &key, addr)? {
                Ok(running) => break running,
                Err(error)
                    if error.kind() == std::io::ErrorKind::AddrInUse
                        && self.had(addr)
                        && Instant::now() < give_up_at =>
                {
                    sleep(PORT_RETRY_INTERVAL).await;
                }
                Err(error) => {
                    return Err(LightningError::Config(format!("Failed to create QUIC endpoint: {error}")));
                }
            }
        };
        let local_addr = running.local_addr;
        let before = std::mem::replace(&mut *self.state(), State::Running(Arc::new(running)));
        if let State::Running(before) = before {
            cut_off(&before, CloseReason::ServerShutdown);
        }
        Ok(local_addr)
    }

    /// Accepts connections until the server is stopped.
    pub(super) async fn serve(&self, shared: &Arc<Shared>) -> Result<()> {
        let running = match &*self.state() {
            State::New => return Err(not_started()),
            State::Running(running) => running.clone(),
            State::Stopped { .. } => return Ok(()),
        };
        let mut phase = running.phase();
        tokio::select! {
            biased;
            _ = phase.stopping() => return Ok(()),
            begun = refresh::begin(shared, &running) => begun?,
        }
        let accepting = running.io.handle().spawn(accept::accept_all(shared.clone(), running.clone()));
        // Aborted with this future. An error can only mean that the thread is gone.
        let _ = Task::from(accepting).await;
        Ok(())
    }

    /// Lets answers in flight finish, and closes everything. Says whether there was anything to stop.
    pub(super) async fn stop(&self, shared: &Shared) -> bool {
        let Some(running) = self.take() else { return false };
        let until = Instant::now() + shared.config.shutdown_grace();
        // Packets of new connections are not answered from here on: whoever is sent away must not come back to be cut off.
        running.endpoint.set_server_config(None);
        running.begin_to_stop(Stop { until, reason: CloseReason::ServerShutdown });
        // Each connection keeps to `until` by itself; this is for those that are still in their TLS handshake.
        let _ = timeout_at(until, running.all_gone()).await;
        cut_off(&running, CloseReason::ServerShutdown);
        let _ = timeout(FAREWELL_TIME_MAX, running.endpoint.wait_idle()).await;
        // Whoever starts next on the port, be it another server, must find it free, however late peers acknowledge.
        nowhere::move_there(&running.endpoint);
        let socket = running.socket.clone();
        drop(running);
        let _ = timeout(FAREWELL_TIME_MAX, socket.closed()).await;
        true
    }

    /// Closes everything at once.
    pub(super) fn abandon(&self) {
        if let Some(running) = self.take() {
            cut_off(&running, CloseReason::Dropped);
        }
    }

    /// Where the server listens, or did when it was stopped.
    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        match &*self.state() {
            State::New => Err(not_started()),
            State::Running(running) => Ok(running.local_addr),
            State::Stopped { local_addr, .. } => Ok(*local_addr),
        }
    }

    /// What clients may know the server's TLS key by, or could until it was stopped.
    pub(super) fn tls_key_pin(&self) -> Option<TlsKeyPin> {
        match &*self.state() {
            State::New => None,
            State::Running(running) => running.tls_key_pin,
            State::Stopped { tls_key_pin, .. } => *tls_key_pin,
        }
    }

    /// What runs, for those who look.
    pub(super) fn running(&self) -> Option<Arc<Running>> {
        match &*self.state() {
            State::Running(running) => Some(running.clone()),
            _ => None,
        }
    }

    fn take(&self) -> Option<Arc<Running>> {
        let mut state = self.state();
        let State::Running(running) = &*state else { return None };
        let running = running.clone();
        *state = State::Stopped { local_addr: running.local_addr, tls_key_pin: running.tls_key_pin };
        Some(running)
    }

    /// Whether this server itself listened there before.
    fn had(&self, addr: SocketAddr) -> bool {
        matches!(&*self.state(), State::Stopped { local_addr, .. } if local_addr.port() == addr.port())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut_off(running: &Running, reason: CloseReason) {
    running.begin_to_stop(Stop { until: Instant::now(), reason });
    reason.close_all(&running.endpoint);
}

/// The key that is kept in a file, if one was named. Files are read where blocking does no harm.
async fn tls_key(shared: &Shared) -> Result<TlsKey> {
    let Some(path) = shared.tls_key_file.get() else { return TlsKey::generate() };
    let read = tokio::task::spawn_blocking(move || TlsKey::kept_in(&path)).await;
    read.unwrap_or_else(|ended| Err(LightningError::Config(format!("no TLS key: {ended}"))))
}

fn not_started() -> LightningError {
    LightningError::Config("server not started: call start() first".to_owned())
}

/// The address that `host` means: an IPv4 or IPv6 address, the latter with brackets or without, or `localhost`.
fn listen_ip(host: &str) -> Result<IpAddr> {
    if host == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let parsed = match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().map(IpAddr::from),
        None => host.parse::<IpAddr>(),
    };
    parsed.map_err(|_| LightningError::Config("Invalid address: invalid socket address syntax".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_localhost() {
        let ip = |host| listen_ip(host).unwrap().to_string();
        assert_eq!(ip("127.0.0.1"), "127.0.0.1");
        assert_eq!(ip("0.0.0.0"), "0.0.0.0");
        assert_eq!(ip("localhost"), "127.0.0.1");
        assert_eq!((ip("::"), ip("::1"), ip("[::1]")), ("::".to_owned(), "::1".to_owned(), "::1".to_owned()));
        for host in ["", "nonsense", "127.0.0.1:80", "[127.0.0.1]", "[::1", "::1]", "256.1.1.1", "[::1]:80"] {
            assert!(matches!(listen_ip(host), Err(LightningError::Config(_))), "{host:?}");
        }
    }
}
