//! The kinds of handlers, and how names find them.

use std::sync::Arc;
use std::time::Duration;

use btlightning_interop::{Data, data, within};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::stage::{Miner, answer, ask, chunks, connected, failure, stream};
use crate::peers::{Make, SERVER, client, server};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Question {
    text: String,
    times: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Answer {
    text: String,
    length: Option<u64>,
}

fn repeat(question: Question) -> Result<Answer, &'static str> {
    if question.times == 0 {
        return Err("not even once?");
    }
    let text = question.text.repeat(question.times as usize);
    Ok(Answer { length: Some(text.len() as u64), text })
}

#[tokio::test]
async fn typed_handlers() {
    let miner = Miner::start().await;
    let handler = server::typed_handler(repeat);
    miner.server.register_synapse_handler("blocking".into(), handler).await.expect("registered");
    let handler = server::typed_async_handler(|question| async move { repeat(question) });
    miner.server.register_async_synapse_handler("async".into(), handler).await.expect("registered");
    let validator = connected(&miner).await;

    for name in ["blocking", "async"] {
        let ask = |question: Question| {
            let request = client::QuicRequest::from_typed(name, &question).expect("a map");
            within(name, validator.query_axon(miner.axon(), request))
        };
        let response = ask(Question { text: "ab".into(), times: 2 }).await.expect("an answer");
        let response = response.into_result().expect("a success");
        let expected = Answer { text: "abab".into(), length: Some(4) };
        assert_eq!(response.deserialize_data::<Answer>().expect("fits"), expected);

        let refused = ask(Question { text: "ab".into(), times: 0 }).await.expect("an answer");
        assert_eq!(refused.error.as_deref(), Some("request processing failed"));
    }
}

#[tokio::test]
async fn a_handler_that_takes_maps_reads_what_is_typed_and_the_reverse() {
    let miner = Miner::start().await;
    let handler = server::typed_handler(repeat);
    miner.server.register_synapse_handler("typed".into(), handler).await.expect("registered");
    let validator = connected(&miner).await;
    let dynamic = data([("times", 1.into()), ("text", "x".into()), ("unknown", true.into())]);
    let expected = data([("text", "x".into()), ("length", 1.into())]);
    assert_eq!(answer(&validator, &miner, "typed", dynamic).await, expected);
    let question = Question { text: "x".into(), times: 3 };
    let request = client::QuicRequest::from_typed("echo", &question).expect("a map");
    let echoed = within("echo", validator.query_axon(miner.axon(), request)).await.expect("an answer");
    assert_eq!(echoed.deserialize_data::<Question>().expect("fits"), question);
}

#[tokio::test]
async fn a_blocking_handler_holds_up_nobody() {
    let miner = Miner::start().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    miner
        .sync("block", move |data| {
            started.send(()).expect("the test is there");
            held.lock().expect("not poisoned").recv_timeout(Duration::from_secs(10)).expect("released");
            Ok(data)
        })
        .await;
    let validator = connected(&miner).await;
    let (blocked, ()) = tokio::join!(ask(&validator, &miner, "block", data([])), async {
        within("the handler", starts.recv()).await.expect("started");
        answer(&validator, &miner, "echo", data([])).await;
        release.send(()).expect("the handler waits");
    });
    assert!(blocked.expect("an answer").success);
}

/// A handler that says which one it is.
struct Named;

#[async_trait::async_trait]
impl server::AsyncSynapseHandler for Named {
    async fn handle(&self, synapse_type: &str, _: Data) -> server::Result<Data> {
        Ok(data([("name", synapse_type.into())]))
    }
}

#[tokio::test]
async fn names_are_exact_and_may_be_anything() {
    let miner = Miner::start().await;
    let names = ["", "a", "A", "a ", "漢字", "with/slash and \0", &"long".repeat(1000)];
    for name in names {
        miner.server.register_async_synapse_handler(name.into(), Arc::new(Named)).await.expect("registered");
    }
    let validator = connected(&miner).await;
    for name in names {
        let expected = data([("name", name.into())]);
        assert_eq!(answer(&validator, &miner, name, data([])).await, expected, "{name:?}");
    }
    assert_eq!(failure(&validator, &miner, "b", data([])).await, "unrecognized synapse type");
}

#[tokio::test]
async fn handlers_come_and_are_replaced_while_the_miner_serves() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    assert_eq!(failure(&validator, &miner, "late", data([])).await, "unrecognized synapse type");
    let says = |word: &'static str| move |_| Ok(data([("says", word.into())]));
    miner.sync("late", says("one")).await;
    assert_eq!(answer(&validator, &miner, "late", data([])).await, data([("says", "one".into())]));
    miner.sync("late", says("two")).await;
    assert_eq!(answer(&validator, &miner, "late", data([])).await, data([("says", "two".into())]));
}

/// In a published server a name may have a handler of each kind: the streaming one answers before the async one before the
/// blocking one, whichever came last. In ours a name has one handler, the last.
#[tokio::test]
async fn a_name_with_handlers_of_several_kinds() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let says = |word: &'static str| data([("says", word.into())]);
    miner.sync("name", move |_| Ok(says("blocking"))).await;
    miner.unary("name", move |_| async move { Ok(says("async")) }).await;
    assert_eq!(answer(&validator, &miner, "name", data([])).await, says("async"));
    miner.sync("name", move |_| Ok(says("blocking again"))).await;
    let expected = SERVER.pick("blocking again", "async");
    assert_eq!(answer(&validator, &miner, "name", data([])).await, says(expected));

    miner
        .streaming("name", |_, chunks| async move {
            chunks.send(b"streaming".to_vec()).await.map_err(server::LightningError::handler)
        })
        .await;
    let streamed = chunks(&validator, &miner, "name", data([])).await.expect("a stream");
    assert_eq!(streamed, [b"streaming".to_vec()]);
    miner.unary("name", move |_| async move { Ok(says("async again")) }).await;
    match SERVER {
        Make::Ours => {
            assert_eq!(answer(&validator, &miner, "name", data([])).await, says("async again"));
        }
        Make::Theirs => {
            chunks(&validator, &miner, "name", data([])).await.expect("a stream");
        }
    }
}

#[tokio::test]
async fn a_streaming_handler_is_given_the_request() {
    let miner = Miner::start().await;
    miner
        .streaming("words", |data, chunks| async move {
            for word in data["text"].as_str().unwrap_or_default().split(' ') {
                chunks.send(word.into()).await.map_err(server::LightningError::handler)?;
            }
            Ok(())
        })
        .await;
    let validator = connected(&miner).await;
    let mut words = stream(&validator, &miner, "words", data([("text", "a bc".into())])).await;
    assert_eq!(within("a word", words.next_chunk()).await.expect("a chunk"), Some(b"a".to_vec()));
    assert_eq!(within("a word", words.next_chunk()).await.expect("a chunk"), Some(b"bc".to_vec()));
    assert_eq!(within("the end", words.next_chunk()).await.expect("the end"), None);
}
