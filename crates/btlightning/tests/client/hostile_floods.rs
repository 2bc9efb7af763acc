//! Miners that flood a connection with frames.

use std::net::SocketAddr;
use std::time::Duration;

use btlightning::{DialError, PeerState};

use crate::by_hand::{Guest, Manners, answer};
use crate::world::{Ping, World, change, config, within};

fn is_turned_away(state: &PeerState) -> bool {
    matches!(state, PeerState::Refused { reason, until: Some(_) } if matches!(**reason, DialError::Misbehaving(_)))
}

async fn serve(guest: Guest) -> Option<()> {
    guest.prove().await?;
    loop {
        let (mut send, _) = guest.asked().await?;
        send.write_all(&answer()).await.ok()?;
        send.finish().ok()?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_tokens_is_turned_away_and_a_few_are_taken() {
    let world = World::new(240);
    let few = Manners { tokens: 8, ..Manners::default() };
    let few = world.by_hand("few", "10.0.0.2:1", few, serve);
    let many = Manners { tokens: 2_000, ..Manners::default() };
    let many = world.by_hand("many", "10.0.0.3:1", many, serve);
    let mut client = world.client(config()).await;
    let mut changes = client.peer_changes();
    client.initialize_connections(vec![few.axon(), many.axon()]).await.unwrap();
    change(&mut changes, &many.hotkey, is_turned_away).await;
    let error = client.call::<_, Ping>(many.hotkey, "echo", &Ping { n: 1 }).await.unwrap_err();
    assert_eq!(error.reason(), "misbehaving", "{error}");
    tokio::time::sleep(Duration::from_secs(20)).await; // virtual
    assert_eq!((many.connections().len(), many.live()), (1, 0), "it is not dialled again at once");
    within(client.call::<_, Ping>(few.hotkey, "echo", &Ping { n: 1 })).await.unwrap();
    assert_eq!(few.connections().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_before_the_handshake_is_answered_ends_the_dial() {
    let world = World::new(241);
    let manners = Manners { tokens: 2_000, ..Manners::default() };
    let silent = world.by_hand("silent", "10.0.0.2:1", manners, |guest: Guest| async move {
        guest.connection.closed().await;
        Some(())
    });
    let mut client = world.client(config()).await;
    let began = tokio::time::Instant::now();
    client.initialize_connections(vec![silent.axon()]).await.unwrap();
    let state = client.peer_state(&silent.hotkey).unwrap();
    assert!(is_turned_away(&state), "{state:?}");
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn connection_ids_that_are_retired_without_end_are_not_all_replaced() {
    let world = World::new(242);
    let miner = world.by_hand("retires", "10.0.0.2:1", Manners::default(), serve);
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let connection = miner.connections()[0].clone();
    let bound = connection.remote_address();
    // A miner's QUIC retires one whenever its client's address changes.
    for port in 20_000.. {
        world.net.rebind(bound, SocketAddr::new(bound.ip(), port)).unwrap();
        if within(client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 })).await.is_err() {
            break;
        }
    }
    let retired = connection.stats().frame_tx.retire_connection_id;
    assert!((1025..1100).contains(&retired), "{retired}");
    // It may have been honest.
    within(client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 })).await.unwrap();
    assert_eq!((miner.connections().len(), miner.live()), (2, 1));
}
