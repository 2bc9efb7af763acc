//! Connection attempts, from the first packet to the end of the TLS handshake.

use std::sync::Arc;

use quinn::Incoming;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::admission::{self, Admission, Crowd, StrangerSlot};
use super::session::{self, Session};
use super::shared::{Door, Running, Shared};
use crate::transport::close;
use crate::transport::io::Lane;

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
        Admission::Admit(slot) => {
            let lane = running.io.next_lane();
            lane.spawn(connect(shared.clone(), running.clone(), lane.clone(), incoming, slot));
        }
    }
}

/// Ends the TLS handshake and serves the connection. All of it counts against the time that a stranger has.
async fn connect(
    shared: Arc<Shared>,
    running: Arc<Running>,
    lane: Lane,
    incoming: Incoming,
    slot: StrangerSlot,
) {
    let deadline = Instant::now() + shared.config.handshake_timeout();
    let _live = running.count();
    let mut phase = running.phase();
    let remote = incoming.remote_address();
    let connecting = match incoming.accept_with(running.configs.to(remote.ip())) {
        Ok(connecting) => connecting,
        Err(error) => return debug!("no connection from {remote}: {}", close::describe(&error)),
    };
    let connected = tokio::select! {
        biased;
        _ = phase.stopping() => return,
        connected = timeout_at(deadline, connecting) => connected,
    };
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return debug!("no connection from {remote}: {}", close::describe(&error)),
        Err(_) => return debug!("no connection from {remote}: its TLS handshake took too long"),
    };
    let session = Session::new(shared, running, connection, lane, remote.ip().to_canonical(), slot);
    session::serve(Arc::new(session), deadline, phase).await;
}
