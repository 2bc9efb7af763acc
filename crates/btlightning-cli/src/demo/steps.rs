//! The validator of the demo, step by step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use btlightning::{
    CallError, CallOptions, Hotkey, LightningClient, LightningClientConfig, PeerState, QuicAxonInfo,
    QuicRequest, Sr25519Signer, Timings,
};
use rmpv::Value;
use tokio::task::JoinSet;

use super::Outcome;
use super::miner::{Miner, fresh_seed};
use super::words::{ECHO, Question, SUMMARISE, Summary, WORDS, summarise, words};

/// How long the restarting miner is away.
const AWAY: Duration = Duration::from_millis(500);

pub(super) struct Demo {
    client: Arc<LightningClient>,
    miners: Vec<Miner>,
    question: Question,
}

impl Demo {
    /// Connects a validator to every miner.
    pub(super) async fn connect(miners: Vec<Miner>, text: String) -> Outcome<Self> {
        let signer = Sr25519Signer::from_seed(fresh_seed()?);
        let validator = signer.hotkey();
        let config = LightningClientConfig { query_timeout: Duration::from_secs(20), ..Default::default() };
        let mut client = LightningClient::with_config(validator.to_string(), config)?;
        client.set_signer(Box::new(signer));

        let began = Instant::now();
        client.initialize_connections(miners.iter().map(Miner::axon).collect()).await?;
        let took = began.elapsed();

        heading(&format!("Connect {} to {} miners: {}", short(&validator), miners.len(), ms(took)));
        for miner in miners.iter().take(LISTED_MAX) {
            match client.peer_state(&miner.hotkey) {
                Some(PeerState::Connected { path_rtt, .. }) => {
                    println!(
                        "   {}  {:<21}  authenticated, path {}",
                        short(&miner.hotkey),
                        miner.addr,
                        ms(path_rtt)
                    );
                }
                other => return Err(format!("{} is not connected: {other:?}", miner.hotkey).into()),
            }
        }
        and_more(miners.len());
        Ok(Self { client: Arc::new(client), miners, question: Question { text } })
    }

    /// A question and an answer of types of one's own.
    pub(super) async fn ask_typed(&self) -> Outcome {
        heading("Ask, with types of your own");
        let miner = &self.miners[0];
        let reply = self.client.call::<_, Summary>(miner.hotkey, SUMMARISE, &self.question).await?;
        let Summary { words, distinct, longest, commonest } = &reply.value;
        println!(
            "   {words} words, {distinct} of them different, longest \"{longest}\", commonest \"{commonest}\""
        );
        println!("   {}", explain(&reply.timings));
        expect(reply.value == summarise(&self.question.text), "the miner's summary is right")
    }

    /// The published API, as existing programs use it.
    pub(super) async fn ask_dynamic(&self) -> Outcome {
        heading("Ask, with a map of dynamic values (the published API)");
        let data = HashMap::from([
            ("text".to_owned(), Value::from(self.question.text.as_str())),
            ("numbers".to_owned(), Value::Array(vec![1.into(), (-2).into(), 0.5.into()])),
            ("bytes".to_owned(), Value::Binary(vec![0, 1, 254, 255])),
        ]);
        let request = QuicRequest::new(ECHO.to_owned(), data.clone());
        let response = self.client.query_axon(self.miners[0].axon(), request).await?.into_result()?;
        println!("   an echo of {} values after {:.2} ms", response.data.len(), response.latency_ms);
        expect(response.data == data, "the echo is what was sent")
    }

    /// An answer in chunks.
    pub(super) async fn stream(&self) -> Outcome {
        heading("Stream an answer");
        let miner = &self.miners[0];
        let options = CallOptions::new();
        let mut stream = self.client.call_stream(miner.hotkey, WORDS, &self.question, options).await?;
        let mut received = Vec::new();
        while let Some(chunk) = stream.next().await? {
            received.push(String::from_utf8(chunk.to_vec())?);
        }
        let timings = stream.timings();
        println!(
            "   {} chunks: the first after {}, the last after {}",
            received.len(),
            ms(timings.first_byte),
            ms(timings.last_byte)
        );
        expect(
            received.into_iter().eq(words(&self.question.text)),
            "the chunks came in order, none is missing",
        )
    }

    /// Queries go on while a miner is away; they wait for it instead of failing.
    pub(super) async fn restart_a_miner(&mut self, queries: u32) -> Outcome {
        heading(&format!("Restart a miner while {queries} queries are asked of it"));
        let miner = self.miners.swap_remove(0);
        let hotkey = miner.hotkey;
        let mut changes = self.client.peer_changes();
        let restarting = tokio::spawn(miner.restart(AWAY));
        while let Some(change) = changes.next().await {
            let change = change?;
            if change.hotkey == hotkey && !change.state.is_connected() {
                break;
            }
        }
        let asked = Instant::now();
        let mut calls = JoinSet::new();
        for _ in 0..queries {
            let (client, question) = (self.client.clone(), self.question.clone());
            calls.spawn(async move { client.call::<_, Summary>(hotkey, SUMMARISE, &question).await });
        }
        let (mut waited, mut failed) = (Vec::new(), Vec::new());
        while let Some(reply) = calls.join_next().await {
            match reply? {
                Ok(reply) => waited.push(reply.timings.waited),
                Err(error) => failed.push(error),
            }
        }
        let took = asked.elapsed();
        self.miners.insert(0, restarting.await??);
        println!("   {} answered, {} failed, within {}", waited.len(), failed.len(), ms(took));
        if let Some(longest) = waited.iter().max() {
            println!(
                "   the longest waited {} for the connection, which is charged to nobody's score",
                ms(*longest)
            );
        }
        match failed.into_iter().next() {
            None => Ok(()),
            Some(error) => Err(error.into()),
        }
    }

    /// Everybody at once, under one deadline.
    pub(super) async fn fan_out(&self) -> Outcome {
        heading(&format!("Fan out to {} miners under one deadline", self.miners.len()));
        let options = CallOptions::new().timeout(Duration::from_secs(5));
        let began = Instant::now();
        let hotkeys = self.miners.iter().map(|miner| miner.hotkey);
        let mut answers = self.client.fan_out::<_, Summary>(hotkeys, SUMMARISE, &self.question, options)?;
        let mut answered = 0;
        while let Some((miner, reply)) = answers.next().await {
            let reply = reply.map_err(|error| format!("{miner}: {error}"))?;
            answered += 1;
            if answered <= LISTED_MAX {
                println!("   {}  {}", short(&reply.hotkey), explain(&reply.timings));
            }
        }
        and_more(answered);
        println!("   all {answered} within {}", ms(began.elapsed()));
        expect(answered == self.miners.len(), "every miner has answered")
    }

    /// A hotkey registered at somebody else's address gets nothing.
    pub(super) async fn turn_away_an_impostor(&self) -> Outcome {
        heading("Ask a hotkey that is registered at another miner's address");
        let impostor = Sr25519Signer::from_seed(fresh_seed()?).hotkey();
        let addr = self.miners[0].addr;
        let axon = QuicAxonInfo::new(impostor.to_string(), addr.ip().to_string(), addr.port(), 4);
        match self.client.call::<_, Summary>(&axon, SUMMARISE, &self.question).await {
            Err(error @ CallError::Unavailable { .. }) if error.reason() == "wrong_hotkey" => {
                println!("   {error}");
                Ok(())
            }
            Err(other) => Err(other.into()),
            Ok(_) => Err("an impostor was served".into()),
        }
    }

    /// Closes everything in good order.
    pub(super) async fn close(self) -> Outcome {
        heading("Close");
        self.client.close_all_connections().await?;
        for miner in self.miners {
            miner.stop().await?;
        }
        println!("   every connection was closed and every miner has stopped");
        Ok(())
    }
}

/// How many miners are listed line by line.
const LISTED_MAX: usize = 8;

fn and_more(listed: usize) {
    if listed > LISTED_MAX {
        println!("   … and {} more", listed - LISTED_MAX);
    }
}

fn heading(text: &str) {
    println!("▸ {text}");
}

fn expect(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("this does not hold: {what}").into()) }
}

/// Where the time of a call went, in words.
fn explain(timings: &Timings) -> String {
    format!(
        "answered after {} (first byte {}, path {}, waited {} for a connection)",
        ms(timings.last_byte),
        ms(timings.first_byte),
        ms(timings.path_rtt_min),
        ms(timings.waited)
    )
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// The beginning of a hotkey, enough to tell it from others.
fn short(hotkey: &Hotkey) -> String {
    let text = hotkey.to_string();
    format!("{}…", &text[..8])
}
