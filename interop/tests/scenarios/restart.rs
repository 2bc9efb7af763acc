//! A miner that stops, and one that is restarted where it was.

use std::time::Duration;

use btlightning_interop::{Class, data, eventually, keys, within};
use tokio::sync::mpsc;

use super::stage::{
    MINER, Miner, VALIDATOR, answer, ask, client_config, connected, connected_with, error, server_config,
    stream,
};
use crate::peers::{Make, SERVER, client, server};

/// A server with the miner's keys at this port. A published server lets go of its port some time after it has stopped.
async fn again_at(port: u16) -> Miner {
    let keys = keys(MINER);
    let server = eventually("the port to be free", async || {
        let config = server_config().build().expect("a valid configuration");
        let mut server =
            server::LightningServer::with_config(keys.hotkey.clone(), "127.0.0.1".into(), port, config)
                .expect("a valid configuration");
        server.set_miner_keypair(keys.seed);
        server.start().await.ok().map(|()| server)
    })
    .await;
    let miner = Miner::serve(server, keys);
    miner.sync("echo", Ok).await;
    miner
}

#[tokio::test]
async fn a_validator_finds_its_way_back() {
    let mut miner = Miner::start().await;
    let validator = connected(&miner).await;
    let port = miner.addr.port();
    for _ in 0..2 {
        answer(&validator, &miner, "echo", data([])).await;
        drop(miner.stop().await);
        miner = again_at(port).await;
        // A published client fails the first query after the loss, and may pause before it dials again.
        eventually("an answer", async || ask(&validator, &miner, "echo", data([])).await.ok()).await;
        assert!(miner.connection_of(VALIDATOR).await.is_some());
        assert!(validator.authenticated_hotkeys().await.contains(&keys(MINER).hotkey));
    }
}

#[tokio::test]
async fn a_server_can_be_started_again() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let mut server = miner.stop().await;
    server.start().await.expect("a socket");
    let miner = Miner::serve(server, keys(MINER));
    // It still has its handlers.
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test]
async fn what_is_in_flight_when_the_miner_stops() {
    let miner = Miner::start().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let (unary_started, stream_started) = (started.clone(), started);
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let released = go_on.clone();
    miner
        .unary("slow", move |data| {
            unary_started.send(()).expect("the test is there");
            let released = released.clone();
            async move {
                released.notified().await;
                Ok(data)
            }
        })
        .await;
    miner
        .streaming("slow stream", move |_, chunks| {
            let started = stream_started.clone();
            async move {
                chunks.send(vec![1]).await.map_err(server::LightningError::handler)?;
                started.send(()).expect("the test is there");
                chunks.closed().await;
                Ok(())
            }
        })
        .await;
    let validator = connected(&miner).await;
    let mut streamed = stream(&validator, &miner, "slow stream", data([])).await;
    within("the first chunk", streamed.next_chunk()).await.expect("a chunk");
    within("the handler", starts.recv()).await;

    let (slow, (), ()) = tokio::join!(
        ask(&validator, &miner, "slow", data([])),
        async {
            within("the handler", starts.recv()).await;
            // Its serving ends with it.
            within("stop", miner.server.stop()).await.expect("stopped");
        },
        async {
            // A published server cuts off what is in flight. Ours lets it finish, within its grace.
            if SERVER == Make::Ours {
                go_on.notify_one();
            }
        }
    );
    match SERVER {
        Make::Ours => assert!(slow.expect("an answer").success),
        Make::Theirs => {
            let (class, words) = error(slow);
            assert_eq!(class, Class::Transport, "{words}");
        }
    }
    let (class, words) = error(within("the stream's end", streamed.next_chunk()).await);
    assert_eq!(class, Class::Transport, "{words}");
}

#[tokio::test]
async fn a_miner_that_is_gone() {
    let miner = Miner::start().await;
    let config = client::LightningClientConfig { connect_timeout: Duration::from_secs(1), ..client_config() };
    let validator = connected_with(&miner, config).await;
    let axon = miner.axon();
    drop(miner.stop().await);
    let query = async || {
        let request = client::QuicRequest::new("echo".into(), data([]));
        error(within("an error", validator.query_axon(axon.clone(), request)).await).0
    };
    // The first may still go out on the connection that is just being closed.
    let first = query().await;
    assert!([Class::Transport, Class::Connection].contains(&first), "{first:?}");
    assert_eq!(query().await, Class::Connection);
}
