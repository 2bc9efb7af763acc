//! Queries of every kind: each ends in time, and with its own answer or with an error that fits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use btlightning::raw::{EncodeError, PayloadWriter};
use btlightning::{
    CallError, CallOptions, Hotkey, LightningClient, LightningError, PeerError, QuicAxonInfo, QuicRequest,
    Reply,
};
use btlightning_proto::wire::from_payload;
use tokio::time::timeout;

use crate::miner::{Answer, Question, chunk, chunks_of};
use crate::oracle::Oracle;
use crate::plan::{Ask, Synapse, Way};
use crate::validator::{CHUNK_TIMEOUT, CONNECT_TIMEOUT, QUERY_TIMEOUT};

/// A miner as it is named in a query.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) hotkey: Hotkey,
    /// Where it is said to be.
    pub(crate) axon: Option<QuicAxonInfo>,
    /// Where it is, for calls that want to be told.
    pub(crate) home: QuicAxonInfo,
}

/// A query that is about to be made.
pub(crate) struct Query {
    pub(crate) nonce: u64,
    pub(crate) ask: Ask,
    pub(crate) client: Arc<LightningClient>,
    pub(crate) from: Hotkey,
    pub(crate) target: Target,
    /// Whom a fan-out asks.
    pub(crate) everyone: Vec<Target>,
    pub(crate) oracle: Oracle,
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// For this reason.
    Failed(&'static str),
    Cancelled,
}

impl Query {
    /// Makes it, and judges what comes back.
    pub(crate) async fn run(self) {
        let outcome = match self.ask.cancelled_after {
            Some(after) => timeout(after, self.made()).await.unwrap_or(Outcome::Cancelled),
            None => self.made().await,
        };
        let Self { nonce, ask, oracle, .. } = &self;
        oracle.note(format_args!("query {nonce} ({:?} {}): {outcome:?}", ask.way, ask.synapse.name()));
        oracle.count(|counts| {
            counts.queries += 1;
            match outcome {
                Outcome::Answered => counts.answered += 1,
                Outcome::Failed(reason) => *counts.failed.entry(reason).or_default() += 1,
                Outcome::Cancelled => counts.cancelled += 1,
            }
        });
    }

    async fn made(&self) -> Outcome {
        match self.ask.way {
            Way::Typed => self.typed().await,
            Way::Dynamic => self.dynamic().await,
            Way::Raw => self.raw().await,
            Way::FanOut => self.fan_out().await,
            Way::Stream => self.stream().await,
            Way::PublishedStream => self.published_stream().await,
        }
    }

    fn name(&self) -> String {
        format!("query {} ({:?})", self.nonce, self.ask)
    }

    fn question(&self) -> Question {
        let to = (self.ask.way != Way::FanOut).then(|| self.target.hotkey.to_string());
        Question { nonce: self.nonce, from: self.from.to_string(), to }
    }

    fn options(&self) -> CallOptions {
        let options = CallOptions::new().timeout(self.ask.timeout);
        self.ask.first_byte.map_or(options, |bound| options.first_byte_timeout(bound))
    }

    async fn bounded<T>(&self, bound: Duration, work: impl Future<Output = T>) -> Option<T> {
        self.oracle.within(bound, || self.name(), work).await
    }

    async fn typed(&self) -> Outcome {
        let (name, question, options) = (self.ask.synapse.name(), self.question(), self.options());
        let called = async {
            match &self.target.axon {
                Some(axon) => self.client.call_with(axon, name, &question, options).await,
                None => self.client.call_with(self.target.hotkey, name, &question, options).await,
            }
        };
        match self.bounded(self.ask.timeout, called).await {
            Some(reply) => self.judge(&self.target, reply),
            None => Outcome::Failed("stuck"),
        }
    }

    async fn raw(&self) -> Outcome {
        let question = self.question();
        let write = |out: &mut PayloadWriter| -> Result<(), EncodeError> {
            out.map_len(3)?;
            out.str("nonce")?;
            out.uint(question.nonce);
            out.str("from")?;
            out.str(&question.from)?;
            out.str("to")?;
            out.str(&self.target.hotkey.to_string())
        };
        let request = self.client.encode_raw(self.ask.synapse.name(), write).unwrap();
        let called = async {
            match &self.target.axon {
                Some(axon) => self.client.call_raw(axon, &request, self.options()).await,
                None => self.client.call_raw(self.target.hotkey, &request, self.options()).await,
            }
        };
        let Some(reply) = self.bounded(self.ask.timeout, called).await else {
            return Outcome::Failed("stuck");
        };
        let decoded = reply.and_then(|reply| reply.into_reply()).and_then(|reply| {
            let value = from_payload::<Answer>(reply.value.as_scanned())?;
            Ok((value, reply.hotkey))
        });
        self.judge_answer(&self.target, decoded)
    }

    async fn dynamic(&self) -> Outcome {
        let request = QuicRequest::from_typed(self.ask.synapse.name(), &self.question()).unwrap();
        let axon = self.target.axon.clone().unwrap_or_else(|| self.target.home.clone());
        let own_bound = self.nonce.is_multiple_of(4);
        let (bound, called) = match own_bound {
            true => (QUERY_TIMEOUT, self.client.query_axon(axon, request)),
            false => {
                let called = self.client.query_axon_with_timeout(axon, request, self.ask.timeout);
                return self.judge_published(self.bounded(self.ask.timeout, called).await);
            }
        };
        self.judge_published(self.bounded(bound, called).await)
    }

    fn judge_published(
        &self,
        response: Option<Result<btlightning::QuicResponse, LightningError>>,
    ) -> Outcome {
        match response {
            None => Outcome::Failed("stuck"),
            Some(Ok(response)) if response.success => {
                let answer = response.deserialize_data::<Answer>();
                let answer = answer.map_err(|error| self.oracle.wrong(format!("{}: {error}", self.name())));
                answer.map_or(Outcome::Failed("wrong"), |answer| self.judge_value(&self.target, &answer))
            }
            Some(Ok(response)) => {
                let words = response.error.unwrap_or_default();
                let fits = match words.as_str() {
                    "request processing failed" => matches!(self.ask.synapse, Synapse::Fail | Synapse::Panic),
                    "handler timed out" => matches!(self.ask.synapse, Synapse::Slow | Synapse::Hang),
                    _ => false,
                };
                self.oracle.holds(fits, || format!("{} was told {words:?}", self.name()));
                Outcome::Failed("rejected")
            }
            Some(Err(error)) => self.judge_published_error(&error),
        }
    }

    fn judge_published_error(&self, error: &LightningError) -> Outcome {
        let reason = match error {
            LightningError::Connection(_) => "published_connection",
            LightningError::Handshake(_) => "published_handshake",
            LightningError::Transport(_) => "published_transport",
            LightningError::Stream(_) => "published_stream",
            other => {
                self.oracle.wrong(format!("{}: {other:?}", self.name()));
                "wrong"
            }
        };
        Outcome::Failed(reason)
    }

    /// Everyone answers once, be it with an error.
    async fn fan_out(&self) -> Outcome {
        let mut missing: BTreeSet<String> =
            self.everyone.iter().map(|target| target.hotkey.to_string()).collect();
        let axons = self.everyone.iter().map(|target| target.axon.as_ref().unwrap_or(&target.home));
        let (question, options) = (self.question(), self.options());
        let synapse = self.ask.synapse.name();
        let mut answers = match self.nonce.is_multiple_of(2) {
            true => self.client.fan_out::<_, Answer>(axons, synapse, &question, options).unwrap(),
            false => {
                let hotkeys = self.everyone.iter().map(|target| target.hotkey);
                self.client.fan_out::<_, Answer>(hotkeys, synapse, &question, options).unwrap()
            }
        };
        let all = async {
            let mut outcomes = Vec::new();
            while let Some((name, reply)) = answers.next().await {
                self.oracle.holds(missing.remove(&name), || format!("{}: {name} answers twice", self.name()));
                if let Some(target) = self.everyone.iter().find(|target| target.hotkey.to_string() == name) {
                    outcomes.push(self.judge(target, reply));
                }
            }
            outcomes
        };
        let Some(outcomes) = self.bounded(self.ask.timeout, all).await else {
            return Outcome::Failed("stuck");
        };
        self.oracle.holds(missing.is_empty(), || format!("{}: no answer of {missing:?}", self.name()));
        let failed = outcomes.iter().find(|outcome| **outcome != Outcome::Answered);
        failed.copied().unwrap_or(Outcome::Answered)
    }

    async fn stream(&self) -> Outcome {
        let (name, question, options) = (self.ask.synapse.name(), self.question(), self.options());
        let opened = async {
            match &self.target.axon {
                Some(axon) => self.client.call_stream(axon, name, &question, options).await,
                None => self.client.call_stream(self.target.hotkey, name, &question, options).await,
            }
        };
        let mut stream = match self.bounded(self.ask.timeout, opened).await {
            None => return Outcome::Failed("stuck"),
            Some(Err(error)) => return self.judge_error(&error),
            Some(Ok(stream)) => stream,
        };
        let mut number = 0;
        loop {
            match self.bounded(CHUNK_TIMEOUT, stream.next()).await {
                None => return Outcome::Failed("stuck"),
                Some(Ok(Some(chunk))) => self.judge_chunk(number, &chunk),
                Some(Ok(None)) => return self.judge_end(number),
                Some(Err(error)) => return self.judge_error(&error),
            }
            number += 1;
            if self.drops_at(number) {
                return Outcome::Cancelled;
            }
        }
    }

    async fn published_stream(&self) -> Outcome {
        let request = QuicRequest::from_typed(self.ask.synapse.name(), &self.question()).unwrap();
        let axon = self.target.axon.clone().unwrap_or_else(|| self.target.home.clone());
        let mut stream = match self.bounded(QUERY_TIMEOUT, self.client.query_axon_stream(axon, request)).await
        {
            None => return Outcome::Failed("stuck"),
            Some(Err(error)) => return self.judge_published_error(&error),
            Some(Ok(stream)) => stream,
        };
        let mut number = 0;
        loop {
            match self.bounded(CHUNK_TIMEOUT, stream.next_chunk()).await {
                None => return Outcome::Failed("stuck"),
                Some(Ok(Some(chunk))) => self.judge_chunk(number, &chunk),
                Some(Ok(None)) => return self.judge_end(number),
                Some(Err(error)) => return self.judge_published_error(&error),
            }
            number += 1;
            if self.drops_at(number) {
                return Outcome::Cancelled;
            }
        }
    }

    /// Some streams are not read to their end.
    fn drops_at(&self, number: u64) -> bool {
        self.nonce.is_multiple_of(5) && number == 1 + self.nonce % 40
    }

    fn judge_chunk(&self, number: u64, said: &[u8]) {
        if self.ask.synapse == Synapse::Flood {
            return self.oracle.holds(said.is_empty(), || format!("{}: a chunk of a flood", self.name()));
        }
        let expected = chunk(&self.expected(&self.target), number);
        self.oracle.holds(said == expected, || {
            let said = String::from_utf8_lossy(said).into_owned();
            format!("{}: chunk {number} is {said:?}", self.name())
        });
    }

    fn judge_end(&self, chunks: u64) -> Outcome {
        let is_whole = self.ask.synapse == Synapse::Count && chunks == chunks_of(self.nonce);
        self.oracle.holds(is_whole, || format!("{}: ended well after {chunks} chunks", self.name()));
        Outcome::Answered
    }

    fn judge(&self, target: &Target, reply: Result<Reply<Answer>, CallError>) -> Outcome {
        self.judge_answer(target, reply.map(|reply| (reply.value, reply.hotkey)))
    }

    fn judge_answer(&self, target: &Target, reply: Result<(Answer, Hotkey), CallError>) -> Outcome {
        match reply {
            Ok((answer, hotkey)) => {
                self.oracle.holds(hotkey == target.hotkey, || {
                    format!("{}: the reply for {} is {hotkey}'s", self.name(), target.hotkey)
                });
                self.judge_value(target, &answer)
            }
            Err(error) => self.judge_error(&error),
        }
    }

    fn judge_value(&self, target: &Target, answer: &Answer) -> Outcome {
        let (fits, expected) = (self.ask.synapse.answers(), self.expected(target));
        self.oracle
            .holds(fits && *answer == expected, || format!("{}: {answer:?} is not its answer", self.name()));
        Outcome::Answered
    }

    fn expected(&self, target: &Target) -> Answer {
        let (miner, caller) = (target.hotkey.to_string(), self.from.to_string());
        Answer { nonce: self.nonce, miner, caller, padding: String::new() }
    }

    fn judge_error(&self, error: &CallError) -> Outcome {
        let synapse = self.ask.synapse;
        let in_chunks = matches!(self.ask.way, Way::Stream | Way::PublishedStream);
        let fits = match error {
            CallError::Rejected(PeerError::ProcessingFailed) => {
                matches!(synapse, Synapse::Fail | Synapse::Panic)
            }
            CallError::Rejected(PeerError::HandlerTimedOut) => {
                in_chunks || matches!(synapse, Synapse::Slow | Synapse::Hang)
            }
            CallError::Rejected(PeerError::StreamFailed) => synapse == Synapse::Break,
            CallError::Rejected(PeerError::StreamWriteFailed) => in_chunks,
            CallError::Frame(_) => synapse == Synapse::TooLarge,
            CallError::StreamTooLarge { .. } => synapse == Synapse::Flood,
            CallError::UnknownPeer(_) => self.target.axon.is_none() || self.ask.way == Way::FanOut,
            CallError::ConnectionLimit { .. }
            | CallError::Unavailable { .. }
            | CallError::TimedOut { .. }
            | CallError::ConnectionLost { .. }
            | CallError::Closed(_) => true,
            _ => false,
        };
        self.oracle.holds(fits, || format!("{}: {error}", self.name()));
        Outcome::Failed(error.reason())
    }
}

/// How long a change of the registry may take: one dial, and a moment.
pub(crate) const DIALS_TAKE: Duration = CONNECT_TIMEOUT.saturating_add(Duration::from_millis(250));
