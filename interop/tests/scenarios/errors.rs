//! What a validator hears of a request that was not served: the words of the protocol and no others. `authentication
//! failed` and `invalid request format` are told only to clients that no package is; see the test `same_answers`.

use btlightning_interop::{Class, Data, data, within};
use serde::{Deserialize, Serialize};

use super::stage::{Miner, answer, ask, connected, error, failure, server_config};
use crate::peers::{Make, SERVER, client, server};

const FAILED: &str = "request processing failed";
const SECRET: &str = "a secret";

#[tokio::test]
async fn nobody_has_heard_of_it() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    assert_eq!(failure(&validator, &miner, "unheard of", data([])).await, "unrecognized synapse type");
    assert_eq!(failure(&validator, &miner, "", data([])).await, "unrecognized synapse type");
}

#[tokio::test]
async fn a_handlers_own_words_stay_with_it() {
    let miner = Miner::start().await;
    miner.sync("blocking fails", |_| Err(server::LightningError::handler(SECRET))).await;
    miner.unary("async fails", |_| async { Err(server::LightningError::Config(SECRET.into())) }).await;
    let typed = server::typed_handler(|_: Data| Err::<Data, _>(SECRET));
    miner.server.register_synapse_handler("typed fails".into(), typed).await.expect("registered");
    let typed = server::typed_async_handler(|_: Data| async { Err::<Data, _>(SECRET) });
    miner.server.register_async_synapse_handler("typed async fails".into(), typed).await.expect("registered");
    let validator = connected(&miner).await;
    for name in ["blocking fails", "async fails", "typed fails", "typed async fails"] {
        assert_eq!(failure(&validator, &miner, name, data([])).await, FAILED, "{name}");
    }
}

#[tokio::test]
async fn a_handler_that_panics() {
    let miner = Miner::start().await;
    miner.sync("blocking", |_| panic!("{SECRET}")).await;
    miner.unary("async", |_| async { panic!("{SECRET}") }).await;
    let validator = connected(&miner).await;
    assert_eq!(failure(&validator, &miner, "blocking", data([])).await, FAILED);
    // A published server drops the stream of an async handler that panics. Ours answers as for any other failure.
    match SERVER {
        Make::Ours => assert_eq!(failure(&validator, &miner, "async", data([])).await, FAILED),
        Make::Theirs => {
            let (class, words) = error(ask(&validator, &miner, "async", data([])).await);
            assert_eq!(class, Class::Transport, "{words}");
        }
    }
    answer(&validator, &miner, "echo", data([])).await;
}

#[derive(Serialize, Deserialize)]
struct Number {
    n: u32,
}

#[tokio::test]
async fn a_request_or_an_answer_of_the_wrong_type() {
    let miner = Miner::start().await;
    let typed = server::typed_handler(|number: Number| Ok::<_, String>(number));
    miner.server.register_synapse_handler("typed".into(), typed).await.expect("registered");
    let typed = server::typed_async_handler(|number: Number| async move { Ok::<_, String>(number) });
    miner.server.register_async_synapse_handler("typed async".into(), typed).await.expect("registered");
    let no_map = server::typed_handler(|number: Number| Ok::<_, String>(number.n));
    miner.server.register_synapse_handler("no map".into(), no_map).await.expect("registered");
    let validator = connected(&miner).await;

    let good = data([("n", 1.into())]);
    for name in ["typed", "typed async"] {
        assert_eq!(answer(&validator, &miner, name, good.clone()).await, good);
        for bad in [data([]), data([("n", "1".into())]), data([("n", (-1).into())])] {
            assert_eq!(failure(&validator, &miner, name, bad).await, FAILED, "{name}");
        }
    }
    // Published servers call an answer that is no map a failure of the handler.
    let words = failure(&validator, &miner, "no map", good).await;
    assert_eq!(words, SERVER.pick("internal serialization error", FAILED));
}

#[tokio::test]
async fn a_handler_that_takes_too_long() {
    let miner = Miner::with(server_config().handler_timeout_secs(1)).await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    miner
        .sync("blocking", move |data| {
            // Ends with the test at the latest, when the other end is dropped.
            let _ = held.lock().expect("not poisoned").recv();
            Ok(data)
        })
        .await;
    miner.unary("async", |_| std::future::pending()).await;
    let validator = connected(&miner).await;
    let (blocking, unary) = tokio::join!(
        failure(&validator, &miner, "blocking", data([])),
        failure(&validator, &miner, "async", data([])),
    );
    assert_eq!((blocking.as_str(), unary.as_str()), ("handler timed out", "handler timed out"));
    answer(&validator, &miner, "echo", data([])).await;
    drop(release);
}

#[tokio::test]
async fn a_failure_is_an_answer_and_an_error_for_whoever_wants_one() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let response = ask(&validator, &miner, "unheard of", data([])).await.expect("an answer");
    assert!(response.latency_ms > 0.0);
    assert_eq!(error(response.into_result()), (Class::Handler, "unrecognized synapse type".to_owned()));
    let request = client::QuicRequest::new("echo".into(), data([("n", "x".into())]));
    let response = within("echo", validator.query_axon(miner.axon(), request)).await.expect("an answer");
    assert_eq!(error(response.deserialize_data::<Number>()).0, Class::Serialization);
}
