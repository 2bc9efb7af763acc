//! Steps that ask: one miner, in three ways; all of them; and somebody who is not who he says.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use btlightning::{CallError, CallOptions, QuicAxonInfo, QuicRequest, Reply, Sr25519Signer};
use rmpv::Value;

use super::super::miner::fresh_seed;
use super::super::report::{LISTED_MAX, Outcome, and_more, expect, explain, heading, ms, short};
use super::super::validator::Validator;
use super::super::words::{ECHO, SUMMARISE, Summary, WORDS, summarise, words};
use super::Demo;

impl Demo {
    /// A question and an answer of types of one's own.
    pub(super) async fn ask_typed(&self) -> Outcome {
        heading("Ask, with types of your own");
        let miner = &self.miners[0];
        let reply = self.validator.client.call::<_, Summary>(miner.hotkey, SUMMARISE, &self.question).await?;
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
        let response =
            self.validator.client.query_axon(self.miners[0].axon(), request).await?.into_result()?;
        println!("   an echo of {} values after {:.2} ms", response.data.len(), response.latency_ms);
        expect(response.data == data, "the echo is what was sent")
    }

    /// An answer in chunks.
    pub(super) async fn stream(&self) -> Outcome {
        heading("Stream an answer");
        let miner = &self.miners[0];
        let options = CallOptions::new();
        let mut stream =
            self.validator.client.call_stream(miner.hotkey, WORDS, &self.question, options).await?;
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

    /// Everybody at once, under one deadline.
    pub(super) async fn fan_out(&self) -> Outcome {
        heading(&format!("Fan out to {} miners under one deadline", self.miners.len()));
        let mut listed = 0;
        let mut list = |reply: &Reply<Summary>| {
            listed += 1;
            if listed <= LISTED_MAX {
                println!("   {}  {}", short(&reply.hotkey), explain(&reply.timings));
            }
        };
        let (answered, within) = self.ask_all(&self.validator, &mut list).await?;
        and_more(answered);
        println!("   all {answered} within {}", ms(within));
        Ok(())
    }

    /// Has `validator` ask every miner, who all must answer: how many that were, and how long it took.
    pub(super) async fn ask_all(
        &self,
        validator: &Validator,
        tell: &mut (dyn FnMut(&Reply<Summary>) + Send),
    ) -> Outcome<(usize, Duration)> {
        let options = CallOptions::new().timeout(Duration::from_secs(5));
        let began = Instant::now();
        let hotkeys = self.miners.iter().map(|miner| miner.hotkey);
        let mut answers =
            validator.client.fan_out::<_, Summary>(hotkeys, SUMMARISE, &self.question, options)?;
        let mut answered = 0;
        while let Some((miner, reply)) = answers.next().await {
            tell(&reply.map_err(|error| format!("{miner}: {error}"))?);
            answered += 1;
        }
        let within = began.elapsed();
        expect(answered == self.miners.len(), "every miner has answered")?;
        Ok((answered, within))
    }

    /// A hotkey registered at somebody else's address gets nothing.
    pub(super) async fn turn_away_an_impostor(&self) -> Outcome {
        heading("Ask a hotkey that is registered at another miner's address");
        let impostor = Sr25519Signer::from_seed(fresh_seed()?).hotkey();
        let addr = self.miners[0].addr;
        let axon = QuicAxonInfo::new(impostor.to_string(), addr.ip().to_string(), addr.port(), 4);
        match self.validator.client.call::<_, Summary>(&axon, SUMMARISE, &self.question).await {
            Err(error @ CallError::Unavailable { .. }) if error.reason() == "wrong_hotkey" => {
                println!("   {error}");
                Ok(())
            }
            Err(other) => Err(other.into()),
            Ok(_) => Err("an impostor was served".into()),
        }
    }
}
