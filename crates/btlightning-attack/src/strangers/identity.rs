//! Being somebody else's miner.

use btlightning::{LightningClient, LightningClientConfig, PeerState, QuicAxonInfo, Sr25519Signer};
use btlightning_testkit::by_hand::Impostor;
use btlightning_testkit::by_hand::tls::Shown;
use btlightning_testkit::keys;

use super::stranger;
use crate::run::Attack;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Victim};

pub(super) const MAN_IN_THE_MIDDLE: Attack = Attack {
    name: "man-in-the-middle",
    promise: "who holds only a miner's public certificate is refused, and hears no handshake",
    carry_out: |_| Box::pin(man_in_the_middle()),
};

pub(super) const RELAYED_HANDSHAKE: Attack = Attack {
    name: "relayed-handshake",
    promise: "a handshake that one miner passes on to another is refused",
    carry_out: |_| Box::pin(relayed_handshake()),
};

async fn man_in_the_middle() -> Result<Verdict, Failure> {
    let victim = Victim::start(Setup::default()).await?;
    let onward = stranger(&victim, 0).await?.connection;
    let impostor = Impostor::start(Shown::stolen_from(&onward)?, onward)?;
    let reason = refused_at(&victim, &impostor).await?;
    let mut verdict = Verdict::default();
    verdict.hold(reason == "incompatible", format!("the validator says: {reason}"));
    verdict.hold(impostor.passed_on() == 0, format!("{} handshakes shown to it", impostor.passed_on()));
    Ok(verdict)
}

async fn relayed_handshake() -> Result<Verdict, Failure> {
    let mut victim = Victim::start(Setup::default()).await?;
    let onward = stranger(&victim, 0).await?.connection;
    let impostor = Impostor::start(Shown::fresh()?, onward)?;
    let reason = refused_at(&victim, &impostor).await?;
    let members = victim.report().await?.members;
    let mut verdict = Verdict::default();
    verdict.hold(reason == "refused", format!("the validator says: {reason}"));
    verdict.hold(members == 0, format!("{members} connections authenticated by it"));
    verdict.hold(impostor.passed_on() > 0, format!("{} handshakes passed on", impostor.passed_on()));
    Ok(verdict)
}

/// Has a validator look for the victim at the impostor's address; hands out why it refuses.
async fn refused_at(victim: &Victim, impostor: &Impostor) -> Result<String, Failure> {
    let signer = Sr25519Signer::from_seed(keys::seed("validator"));
    let config = LightningClientConfig::default();
    let mut client = LightningClient::with_config(signer.hotkey().to_string(), config)?;
    client.set_signer(Box::new(signer));
    let addr = impostor.addr;
    let axon = QuicAxonInfo::new(victim.hotkey.clone(), addr.ip().to_string(), addr.port(), 4);
    client.initialize_connections(vec![axon]).await?;
    match client.peer_state(&victim.hotkey.parse()?) {
        Some(PeerState::Refused { reason, .. }) => Ok(reason.reason().to_owned()),
        other => Ok(format!("{other:?}")),
    }
}
