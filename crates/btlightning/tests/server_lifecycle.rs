//! From start to stop.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use btlightning::LightningError;
use btlightning::server::{Handler, LightningServer, Response};
use common::{
    Data, Dropped, Miner, Raw, client_config, config, data, is_pending, new_server, read, request, socket,
    within,
};
use quinn::VarInt;
use rmpv::Value;
use tokio::sync::oneshot;

fn config_error<T: std::fmt::Debug>(result: btlightning::Result<T>) -> String {
    match result {
        Err(LightningError::Config(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn before_it_starts_a_server_has_no_address_and_nothing_to_stop() {
    let server = LightningServer::new(String::new(), String::new(), 0).unwrap();
    assert_eq!(config_error(server.local_addr()), "server not started: call start() first");
    assert_eq!(config_error(server.serve_forever().await), "server not started: call start() first");
    server.stop().await.unwrap();
    server.cleanup_stale_connections(1).await.unwrap();
    server.cleanup_expired_nonces().await;
    let stats = server.get_connection_stats().await.unwrap();
    assert_eq!(
        stats,
        [("total_connections", "0"), ("verified_connections", "0")].map(|(k, v)| (k.into(), v.into())).into()
    );
    assert_eq!(config_error(server.serve_forever().await), "server not started: call start() first");
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    for host in ["", "nonsense", "127.0.0.1:80"] {
        let mut server = LightningServer::new(String::new(), host.into(), 0).unwrap();
        assert_eq!(config_error(server.start().await), "Invalid address: invalid socket address syntax");
    }
    let taken = Miner::start().await;
    let mut server = LightningServer::new(String::new(), "127.0.0.1".into(), taken.addr.port()).unwrap();
    let why = config_error(server.start().await);
    assert!(why.starts_with("Failed to create QUIC endpoint: Address already in use"), "{why}");
}

#[tokio::test]
async fn hosts_of_both_families() {
    for (host, ip) in [("localhost", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1")] {
        let mut server = LightningServer::new(String::new(), host.into(), 0).unwrap();
        server.start().await.unwrap();
        assert_eq!(server.local_addr().unwrap().ip().to_string(), ip);
    }
}

#[tokio::test]
async fn what_is_required_of_a_resolver_needs_one() {
    let mut server = new_server(config().require_validator_permit(true));
    server.start().await.unwrap();
    assert_eq!(
        config_error(server.serve_forever().await),
        "require_validator_permit is enabled but no ValidatorPermitResolver is configured"
    );
    let mut server = new_server(config().enforce_source_allowlist(true));
    server.start().await.unwrap();
    assert_eq!(
        config_error(server.serve_forever().await),
        "enforce_source_allowlist is enabled but no SourceAddressResolver is configured"
    );
}

#[tokio::test]
async fn a_server_can_be_stopped_and_started_again_on_its_port() {
    let mut server = new_server(config());
    server.start().await.unwrap();
    let port = server.local_addr().unwrap().port();
    drop(server);
    // Another server than that one: its port is free only when quinn has let go of it.
    let mut server = common::eventually("the port", async || {
        let miner = common::hotkey("miner").to_string();
        let mut server = LightningServer::new(miner, "127.0.0.1".into(), port).unwrap();
        server.start().await.is_ok().then_some(server)
    })
    .await;
    server.set_miner_keypair(btlightning_testkit::keys::seed("miner"));
    for _ in 0..3 {
        let miner = Miner::serve(server);
        let raw = Raw::authenticated(&miner, "alice").await;
        within("stop", miner.server.stop()).await.unwrap();
        assert_eq!(raw.closed_for().await, "server_shutdown");
        within("serving", miner.serving).await.unwrap().unwrap();
        assert_eq!(miner.server.local_addr().unwrap(), miner.addr);
        miner.server.serve_forever().await.unwrap();
        miner.server.stop().await.unwrap();
        assert_eq!(miner.server.get_connection_stats().await.unwrap()["total_connections"], "0");
        server = Arc::into_inner(miner.server).unwrap();
        within("start", server.start()).await.unwrap();
        assert_eq!(server.local_addr().unwrap().port(), port);
    }
}

#[tokio::test]
async fn a_request_that_was_accepted_before_a_restart_is_not_accepted_after_it() {
    let mut server = new_server(config());
    server.start().await.unwrap();
    let miner = Miner::serve(server);
    let raw = Raw::connect(&miner).await;
    let (request, awaiting) = raw.opening("alice", |_| {});
    awaiting.verify(&raw.handshake(&request).await).unwrap();
    miner.server.stop().await.unwrap();
    within("serving", miner.serving).await.unwrap().unwrap();
    let mut server = Arc::into_inner(miner.server).unwrap();
    server.start().await.unwrap();
    let miner = Miner::serve(server);
    Raw::connect(&miner).await.handshake_refused(&request).await;
}

#[tokio::test]
async fn starting_again_cuts_off_what_was_served() {
    let mut server = new_server(config());
    server.start().await.unwrap();
    let before = server.local_addr().unwrap();
    server.start().await.unwrap();
    assert_ne!(server.local_addr().unwrap(), before);
    Raw::authenticated(&Miner::serve(server), "alice").await;
}

#[tokio::test]
async fn two_that_serve_share_the_work() {
    let miner = Miner::start().await;
    let other = tokio::spawn({
        let server = miner.server.clone();
        async move { server.serve_forever().await }
    });
    for _ in 0..4 {
        Raw::authenticated(&miner, "alice").await;
    }
    miner.server.stop().await.unwrap();
    within("one", miner.serving).await.unwrap().unwrap();
    within("the other", other).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_outlive_the_future_that_accepted_them() {
    let miner = Miner::start().await;
    let raw = Raw::authenticated(&miner, "alice").await;
    miner.serving.abort();
    let _ = miner.serving.await;
    assert_eq!(raw.failure("nobody knows", &data([])).await, "unrecognized synapse type");
    miner.server.stop().await.unwrap();
    assert_eq!(raw.closed_for().await, "server_shutdown");
}

#[tokio::test]
async fn a_server_that_is_dropped_says_so() {
    let miner = Miner::start().await;
    let (alice, stranger) = (Raw::authenticated(&miner, "alice").await, Raw::connect(&miner).await);
    // Before the server has seen the end of the TLS handshake, QUIC lets it give no reason (RFC 9000, section 10.2.3).
    assert_eq!(stranger.failure("echo", &data([])).await, "authentication failed");
    miner.serving.abort();
    let _ = miner.serving.await;
    drop(Arc::into_inner(miner.server).unwrap());
    assert_eq!(alice.closed_for().await, "dropped");
    assert_eq!(stranger.closed_for().await, "dropped");
}

/// A handler that waits for its release, and says when it has begun.
fn gate(miner: &Miner) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
    let ((begun, beginning), (release, held)) = (oneshot::channel(), oneshot::channel::<()>());
    let state = Mutex::new(Some((begun, held)));
    miner.server.register(
        "gate",
        Handler::typed(move |_, asked: Data| {
            let (begun, held) = state.lock().unwrap().take().unwrap();
            async move {
                begun.send(()).unwrap();
                held.await.map(|()| asked)
            }
        }),
    );
    (beginning, release)
}

#[tokio::test]
async fn answers_in_flight_finish_and_nothing_new_begins() {
    let miner = Miner::start().await;
    let (beginning, release) = gate(&miner);
    let (raw, stranger) = (Raw::authenticated(&miner, "alice").await, Raw::connect(&miner).await);
    let asked = data([("a", 1.into())]);
    let answered = raw.answer("gate", &asked);
    let stopping = async {
        within("the handler", beginning).await.unwrap();
        let mut stop = std::pin::pin!(miner.server.stop());
        assert!(is_pending(stop.as_mut()).await);
        assert_eq!(stranger.closed_for().await, "server_shutdown");
        let connecting = socket().connect(miner.addr, "127.0.0.1").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(300), connecting).await.is_err());
        // Whoever asks now sees at once that nobody will answer.
        for _ in 0..200 {
            let (mut send, mut late) = raw.connection.open_bi().await.unwrap();
            // It may be turned away before all of it is written.
            let _ = send.write_all(&request("gate", &data([]))).await;
            assert!(is_pending(stop.as_mut()).await);
            let reset = within("the reset", late.received_reset()).await.unwrap();
            assert_eq!(reset, Some(VarInt::from_u32(0)));
        }
        assert!(is_pending(stop.as_mut()).await);
        release.send(()).unwrap();
        within("stop", stop).await.unwrap();
    };
    let (answered, ()) = tokio::join!(answered, stopping);
    assert_eq!(answered, asked);
    assert_eq!(raw.closed_for().await, "server_shutdown");
}

#[tokio::test]
async fn an_answer_that_was_just_written_arrives() {
    let miner = Miner::start().await;
    let large = vec![7; 2 << 20];
    let answer = data([("b", Value::Binary(large))]);
    let (written, mut writing) = tokio::sync::mpsc::channel(1);
    let given = answer.clone();
    miner.server.register(
        "large",
        Handler::unary(move |_| {
            let (written, given) = (written.clone(), given.clone());
            async move {
                written.send(()).await?;
                Response::from_map(&given)
            }
        }),
    );
    // The peer reads slowly: when the server is told to stop, most of the answer is still to be sent.
    let mut endpoint = socket();
    endpoint.set_default_client_config(client_config(b"btlightning", |transport| {
        transport.stream_receive_window(VarInt::from_u32(64 * 1024));
    }));
    let raw = Raw::connect_from(endpoint, miner.addr).await.unwrap();
    raw.accepted("alice").await;
    let (_send, mut receive) = raw.send(&request("large", &data([]))).await;
    within("the handler", writing.recv()).await.unwrap();
    let (stopped, answered) = tokio::join!(miner.server.stop(), read(&mut receive));
    stopped.unwrap();
    assert_eq!(answered.data(), answer);
}

#[tokio::test]
async fn many_answers_that_were_just_written_arrive() {
    let miner = Miner::start().await;
    miner.server.register("echo", Handler::typed(|_, asked: Data| async { Ok::<_, String>(asked) }));
    let raw = Raw::authenticated(&miner, "alice").await;
    let mut receiving = Vec::new();
    for n in 0..100 {
        receiving.push(raw.send(&request("echo", &data([("n", n.into())]))).await.1);
    }
    // The last one is answered, so the server has seen them all.
    let last = read(&mut receiving.pop().unwrap()).await;
    assert_eq!(last.data(), data([("n", 99.into())]));
    miner.server.stop().await.unwrap();
    for (n, mut receive) in receiving.into_iter().enumerate() {
        assert_eq!(read(&mut receive).await.data(), data([("n", n.into())]));
    }
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_is_cut_off() {
    for grace_secs in [0, 1] {
        let miner = Miner::with(config().shutdown_grace_secs(grace_secs), |_| {}).await;
        let (begun, beginning) = oneshot::channel();
        let (dropped, dropping) = oneshot::channel();
        let state = Mutex::new(Some((begun, dropped)));
        miner.server.register(
            "for ever",
            Handler::unary(move |_| {
                let (begun, dropped) = state.lock().unwrap().take().unwrap();
                let guard = Dropped(Some(dropped));
                async move {
                    let _guard = guard;
                    begun.send(()).unwrap();
                    std::future::pending().await
                }
            }),
        );
        let raw = Raw::authenticated(&miner, "alice").await;
        let (_send, _receive) = raw.send(&request("for ever", &data([]))).await;
        within("the handler", beginning).await.unwrap();
        let began = Instant::now();
        within("stop", miner.server.stop()).await.unwrap();
        let took = began.elapsed();
        assert!(
            took >= Duration::from_secs(grace_secs) && took < Duration::from_secs(grace_secs + 3),
            "{took:?}"
        );
        assert_eq!(raw.closed_for().await, "server_shutdown");
        within("the drop", dropping).await.unwrap();
    }
}

#[tokio::test]
async fn a_stop_that_is_not_waited_for_stops_all_the_same() {
    let miner = Miner::start().await;
    let (beginning, release) = gate(&miner);
    let raw = Raw::authenticated(&miner, "alice").await;
    let asked = data([("a", 1.into())]);
    let answered = raw.answer("gate", &asked);
    let stopping = async {
        within("the handler", beginning).await.unwrap();
        {
            let mut stop = std::pin::pin!(miner.server.stop());
            assert!(is_pending(stop.as_mut()).await);
        }
        within("serving", miner.serving).await.unwrap().unwrap();
        release.send(()).unwrap();
    };
    assert_eq!(tokio::join!(answered, stopping).0, asked);
    assert_eq!(raw.closed_for().await, "server_shutdown");
}
