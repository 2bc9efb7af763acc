//! Miners that let a link fill up with what is left of calls.

use std::sync::Arc;
use std::time::Duration;

use btlightning::LightningClient;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::by_hand::{Guest, Manners, answer};
use crate::world::{Ping, World, config, hotkey, within};

/// A miner whose answers are good and whose streams it ends after so long, or never.
fn ends_streams_after(world: &World, pause: Option<Duration>) -> crate::by_hand::ByHand {
    let mut manners = Manners::default();
    manners.transport.max_concurrent_bidi_streams(100_000u32.into());
    world.by_hand("miner", "10.0.0.2:1", manners, move |guest: Guest| async move {
        guest.prove().await?;
        loop {
            let (mut send, _) = guest.asked().await?;
            send.write_all(&answer()).await.ok()?;
            tokio::spawn(async move {
                match pause {
                    // sleeps: virtual, the clock is paused
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
                send.finish().ok()
            });
        }
    })
}

async fn calls(client: &LightningClient, count: usize) {
    for _ in 0..count {
        within(client.call::<_, Ping>(hotkey("miner"), "echo", &Ping { n: 1 })).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_whose_streams_are_not_ended_is_replaced_in_a_quiet_moment() {
    let world = World::new(220);
    let miner = ends_streams_after(&world, None);
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    calls(&client, 1_040).await;
    assert_eq!(miner.connections().len(), 1, "so soon nobody is bothered for so little");
    tokio::time::sleep(Duration::from_secs(70)).await; // virtual
    assert_eq!((miner.connections().len(), miner.live()), (2, 1));
    calls(&client, 10).await;
    tokio::time::sleep(Duration::from_secs(600)).await; // virtual
    assert_eq!(miner.connections().len(), 2, "the fresh link has done little yet");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_much_worn_is_replaced_and_no_call_notices() {
    let world = World::new(221);
    let miner = ends_streams_after(&world, None);
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let client = Arc::new(client);
    let began = Instant::now();
    let mut busy = JoinSet::new();
    for _ in 0..40 {
        let client = client.clone();
        busy.spawn(async move { calls(&client, 600).await });
    }
    while let Some(done) = busy.join_next().await {
        done.unwrap();
    }
    let (links, took) = (miner.connections().len(), began.elapsed());
    assert_eq!(links, 2, "24,000 calls in {took:?}");
    tokio::time::sleep(Duration::from_secs(1)).await; // virtual
    assert_eq!(miner.live(), 1, "the worn link is closed when its calls are over");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_a_little_later_wears_nothing() {
    let world = World::new(222);
    let miner = ends_streams_after(&world, Some(Duration::from_millis(5)));
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    calls(&client, 1_500).await;
    tokio::time::sleep(Duration::from_secs(120)).await; // virtual
    assert_eq!(miner.connections().len(), 1);
    let stopped = miner.connections()[0].stats().frame_rx.stop_sending;
    assert_eq!(stopped, 0, "nobody was told to stop sending what was all sent");
}

#[tokio::test(start_paused = true)]
async fn who_cancels_much_goes_on_undisturbed() {
    let world = World::new(223);
    let miner = world.miner("miner", "10.0.0.2:1").await;
    miner.server.register(
        "hang",
        btlightning::server::Handler::typed(|_, _: Ping| std::future::pending::<Result<Ping, String>>()),
    );
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let client = Arc::new(client);
    let mut honest = JoinSet::new();
    honest.spawn({
        let client = client.clone();
        async move { calls(&client, 6_000).await }
    });
    for _ in 0..3_000 {
        let call = client.call::<_, Ping>(hotkey("miner"), "hang", &Ping { n: 1 });
        let cancelled = tokio::time::timeout(Duration::from_millis(25), call).await; // virtual
        assert!(cancelled.is_err());
    }
    within(honest.join_next()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await; // virtual: a quiet moment
    calls(&client, 10).await;
    assert_eq!(miner.server.get_active_nonce_count().await, 2, "the link was replaced, once");
}
