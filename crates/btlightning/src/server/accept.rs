//! Connection attempts, from the first packet to the end of the TLS handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::Incoming;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::admission::{self, Admission};
use super::session::{self, Session};
use super::shared::{Door, Live, PhaseWatch, Running, Shared};
use super::strangers::Crowd;
use crate::transport::close;
use crate::transport::io::{Lane, Tenure};

/// Accepts connections until the server stops.
pub(super) async fn accept_all(shared: Arc<Shared>, running: Arc<Running>) {
    let mut phase = running.phase();
    let mut stopping = std::pin::pin!(phase.stopping());
    loop {
        tokio::select! {
            biased;
            _ = &mut stopping => return,
            incoming = running.endpoint.accept() => match incoming {
                Some(incoming) => decide(&shared, &running, incoming),
                None => return,
            }
        }
    }
}

fn decide(shared: &Arc<Shared>, running: &Arc<Running>, incoming: Incoming) {
    let remote = incoming.remote_address();
    let is_validated = incoming.remote_address_validated();
    let admission = match shared.door(remote.ip()) {
        Door::Open => {
            let needs_validation = shared.config.require_address_validation && !is_validated;
            admission::decide(&shared.strangers, remote, needs_validation)
        }
        Door::Shut => Admission::Ignore,
        Door::Ajar(learned) => {
            let now = Instant::now().into_std();
            admission::decide_visitor(&shared.strangers, &learned.visitors, remote, is_validated, now)
        }
    };
    match admission {
        Admission::Ignore => incoming.ignore(),
        Admission::Retry => {
            // An address that is not validated may always be asked to show itself.
            let _ = incoming.retry();
        }
        Admission::Refuse(crowd) => {
            let bound = match crowd {
                Crowd::InAll => "max_unauthenticated_connections",
                Crowd::FromThisSource => "max_unauthenticated_connections_per_ip",
            };
            shared.hush.admission.line(|more| {
                warn!("{bound} reached, refusing incoming connection from {remote}{more}");
            });
            incoming.refuse();
        }
        Admission::Admit(tenure) => {
            let lane = running.io.next_lane();
            // In a box of its own, which is gone when TLS is done: a stranger is to take little.
            let connecting =
                Box::pin(connect(shared.clone(), running.clone(), lane.clone(), incoming, tenure));
            lane.spawn(async move {
                let Some(Connected { tenure, live, session, deadline, phase }) = connecting.await else {
                    return;
                };
                session::serve(session, deadline, phase).await;
                drop((live, tenure));
            });
        }
    }
}

/// A connection whose TLS handshake is done.
struct Connected {
    tenure: Tenure,
    live: Live,
    session: Arc<Session>,
    /// When it has to have authenticated.
    deadline: Instant,
    phase: PhaseWatch,
}

/// Ends the TLS handshake. It and what follows count against the time that a stranger has.
async fn connect(
    shared: Arc<Shared>,
    running: Arc<Running>,
    lane: Lane,
    incoming: Incoming,
    tenure: Tenure,
) -> Option<Connected> {
    let deadline = Instant::now() + shared.config.handshake_timeout();
    let live = running.count();
    let mut phase = running.phase();
    let remote = incoming.remote_address();
    let accepted =
        match running.quiet.around(|| tenure.of(|| incoming.accept_with(running.configs.to(remote.ip())))) {
            // quinn lets a server have a connection at once; nothing is said on it before TLS is done.
            Ok(connecting) => connecting.into_0rtt(),
            Err(error) => {
                log_failed(&shared, remote, &close::describe(&error));
                return None;
            }
        };
    let Ok((connection, tls)) = accepted else {
        log_failed(&shared, remote, "it cannot be had before TLS is done");
        return None;
    };
    tenure.watch(connection.clone());
    let is_in_time = tokio::select! {
        biased;
        _ = phase.stopping() => return None,
        done = timeout_at(deadline, tls) => done.is_ok(),
    };
    if !is_in_time {
        log_failed(&shared, remote, "its TLS handshake took too long");
        return None;
    }
    if let Some(error) = connection.close_reason() {
        log_failed(&shared, remote, &close::describe(&error));
        return None;
    }
    let session = Session::new(shared, running, connection, lane, remote.ip().to_canonical(), tenure.door());
    Some(Connected { tenure, live, session: Arc::new(session), deadline, phase })
}

fn log_failed(shared: &Shared, remote: SocketAddr, why: &str) {
    shared.hush.failed.line(|more| debug!("no connection from {remote}: {why}{more}"));
}
