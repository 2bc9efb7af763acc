//! Miners that a client should never have dialled: whatever they do, the dial ends in time, and its reason is told.

use std::time::Duration;

use btlightning::{DialError, LightningClient, PeerState};
use tokio::time::Instant;

use crate::by_hand::{ByHand, Guest, Manners};
use crate::world::{Miner, Ping, World, axon_at, change, config, hotkey, within};

async fn proves_and_answers(guest: Guest) -> Option<()> {
    guest.prove().await?;
    loop {
        let (mut send, _) = guest.asked().await?;
        send.write_all(&crate::by_hand::answer()).await.ok()?;
        send.finish().ok()?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_shows_a_hundred_certificates_is_refused() {
    let world = World::new(200);
    let manners = Manners { more_certificates: 100, ..Manners::default() };
    let miner = world.by_hand("miner", "10.0.0.2:1", manners, proves_and_answers);
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let state = client.peer_state(&miner.hotkey).unwrap();
    let PeerState::Refused { reason, .. } = state else { panic!("{state:?}") };
    assert!(matches!(*reason, DialError::Incompatible(_)), "{reason}");
    assert!(reason.to_string().contains("more than its own certificate"), "{reason}");
    assert_eq!(miner.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn tickets_are_ignored_and_a_flood_of_them_ends_the_connection() {
    let world = World::new(201);
    let honest = Manners { tickets: 2, ..Manners::default() };
    let honest = world.by_hand("honest", "10.0.0.2:1", honest, proves_and_answers);
    let flooding = Manners { tickets: 2_000, ..Manners::default() };
    let flooding = world.by_hand("flooding", "10.0.0.3:1", flooding, proves_and_answers);
    let mut client = world.client(config()).await;
    let mut changes = client.peer_changes();
    client.initialize_connections(vec![honest.axon(), flooding.axon()]).await.unwrap();
    change(&mut changes, &flooding.hotkey, |state| match state {
        PeerState::BackingOff { reason, .. } => {
            assert!(reason.to_string().contains("of TLS after the handshake"), "{reason}");
            true
        }
        _ => false,
    })
    .await;
    within(client.call::<_, Ping>(honest.hotkey, "echo", &Ping { n: 1 })).await.unwrap();
    assert!(client.peer_state(&honest.hotkey).unwrap().is_connected());
}

/// Nothing, until the client has enough of it.
async fn is_silent(guest: Guest) -> Option<()> {
    guest.connection.closed().await;
    Some(())
}

/// A dial to `miner` takes the connect timeout, 4 s, and says that the handshake was not answered.
async fn is_given_up_in_time(world: &World, miner: &ByHand) {
    let mut client = world.client(config()).await;
    let began = Instant::now();
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let (took, state) = (began.elapsed(), client.peer_state(&miner.hotkey).unwrap());
    let PeerState::BackingOff { reason, .. } = state else { panic!("{state:?}") };
    assert!(matches!(*reason, DialError::HandshakeTimeout { .. }), "{reason}");
    assert!((4_000..4_010).contains(&took.as_millis()), "{took:?}");
    // sleeps: virtual; the goodbye takes 10 ms
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(miner.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_after_tls_is_given_up_in_time() {
    let world = World::new(202);
    let miner = world.by_hand("miner", "10.0.0.2:1", Manners::default(), is_silent);
    is_given_up_in_time(&world, &miner).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_grants_no_stream_is_given_up_in_time() {
    let world = World::new(203);
    let mut manners = Manners::default();
    manners.transport.max_concurrent_bidi_streams(0u32.into());
    let miner = world.by_hand("miner", "10.0.0.2:1", manners, is_silent);
    is_given_up_in_time(&world, &miner).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_grants_no_credit_is_given_up_in_time() {
    let world = World::new(204);
    let mut manners = Manners::default();
    manners.transport.stream_receive_window(0u32.into()).receive_window(0u32.into());
    let miner = world.by_hand("miner", "10.0.0.2:1", manners, is_silent);
    is_given_up_in_time(&world, &miner).await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_trickles_is_given_up_in_time() {
    let world = World::new(205);
    let miner = world.by_hand("miner", "10.0.0.2:1", Manners::default(), |guest: Guest| async move {
        let (mut send, answer) = guest.handshake().await?;
        for byte in answer {
            send.write_all(&[byte]).await.ok()?;
            // sleeps: virtual, the clock is paused
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    });
    is_given_up_in_time(&world, &miner).await;
}

/// What asking `miner` a hundred times takes, call by call.
async fn latencies(client: &LightningClient, miner: &Miner) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..100 {
        let asked = Instant::now();
        within(client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n })).await.unwrap();
        took.push(asked.elapsed());
        // sleeps: virtual, the clock is paused
        tokio::time::sleep(Duration::from_millis(370)).await;
    }
    took
}

#[tokio::test(start_paused = true)]
async fn silent_hotkeys_delay_nobody() {
    let world = World::new(206);
    let honest = world.miner("honest", "10.0.0.2:1").await;
    let silent: Vec<_> = (0..64)
        .map(|n| {
            let (name, addr) = (format!("silent {n}"), format!("10.0.1.{n}:1"));
            world.by_hand(&name, &addr, Manners::default(), is_silent)
        })
        .collect();
    // 64 at other addresses, and 64 that say that they are where the honest one is.
    let mut axons: Vec<_> = silent.iter().map(ByHand::axon).collect();
    axons.extend((0..64).map(|n| axon_at(&hotkey(&format!("neighbour {n}")), honest.addr)));
    axons.push(honest.axon());
    let client = std::sync::Arc::new(world.client(config()).await);
    let began = Instant::now();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect(axons).await.unwrap() }
    });
    let mut changes = client.peer_changes();
    change(&mut changes, &honest.hotkey, PeerState::is_connected).await;
    assert!(
        began.elapsed() < Duration::from_millis(100),
        "two round trips and a half: {:?}",
        began.elapsed()
    );
    within(connecting).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(4_300), "all of them at once: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn peers_that_refuse_stall_flap_and_half_close_change_no_honest_latency() {
    let mut seen = Vec::new();
    for hostile in [false, true] {
        let world = World::new(207);
        let honest = world.miner("honest", "10.0.0.2:1").await;
        let mut client = world.client(config()).await;
        let mut axons = vec![honest.axon()];
        if hostile {
            for n in 0..10 {
                let start = |kind: &str, host: u8, lives: Option<Duration>| {
                    let (name, addr) = (format!("{kind} {n}"), format!("10.0.{host}.{n}:1"));
                    let serve = move |guest: Guest| async move {
                        guest.prove().await?;
                        match lives {
                            // sleeps: virtual, the clock is paused
                            Some(lives) => tokio::time::sleep(lives).await,
                            None => drop(guest.asked().await?),
                        }
                        guest.connection.close(0u32.into(), b"enough");
                        Some(())
                    };
                    world.by_hand(&name, &addr, Manners::default(), serve).axon()
                };
                axons.push(start("flaps", 2, Some(Duration::from_millis(100))));
                axons.push(start("flaps slowly", 3, Some(Duration::from_secs(11))));
                axons.push(start("closes when asked", 4, None));
                let (name, addr) = (format!("stalls {n}"), format!("10.0.5.{n}:1"));
                axons.push(world.by_hand(&name, &addr, Manners::default(), is_silent).axon());
                // Another hotkey than who is there, and nobody at all.
                axons.push(axon_at(
                    &hotkey(&format!("refused {n}")),
                    format!("10.0.2.{n}:1").parse().unwrap(),
                ));
                axons
                    .push(axon_at(&hotkey(&format!("absent {n}")), format!("10.0.6.{n}:1").parse().unwrap()));
            }
        }
        client.initialize_connections(axons).await.unwrap();
        // In either world at the same distance from the honest link's birth.
        tokio::time::sleep(Duration::from_secs(1)).await; // virtual
        seen.push(latencies(&client, &honest).await);
        assert_eq!(honest.server.get_active_nonce_count().await, 1, "its link was not touched");
    }
    assert_eq!(seen[0], seen[1]);
}
