//! Many miners, one request, one deadline; the answers come as they arrive.

use std::pin::Pin;
use std::task::{Context, Poll};

use btlightning_proto::identity::Hotkey;
use futures_core::Stream;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::call::{self, CallOptions};
use super::config::LightningClientConfig;
use super::error::CallError;
use super::exchange::Answer;
use super::reply::{RawReply, Reply};
use super::request::RawRequest;
use super::route::Route;

/// The answers of a fan-out, in the order in which they arrive. Made by
/// [`LightningClient::fan_out`](crate::LightningClient::fan_out). Dropping it cancels the calls that are still out.
#[derive(Debug)]
#[must_use = "dropping a fan-out cancels it"]
pub struct FanOut<A> {
    calls: JoinSet<Unread>,
    decode: fn(RawReply) -> Result<Reply<A>, CallError>,
    /// Those that could not be asked at all.
    failed: Vec<Answered<A>>,
}

/// A miner as the caller named it, its hotkey, and its answer as it came.
type Unread = (String, Hotkey, Result<Answer, CallError>);

/// A miner, as the caller named it, and its answer.
pub type Answered<A> = (String, Result<Reply<A>, CallError>);

impl<A: Send + 'static> FanOut<A> {
    /// Asks every miner that has a route; the others fail as they are listed.
    pub(crate) fn start(
        config: &LightningClientConfig,
        request: &RawRequest,
        routes: Vec<(String, Result<Route, CallError>)>,
        options: CallOptions,
        runtime: Option<&Handle>,
        decode: fn(RawReply) -> Result<Reply<A>, CallError>,
    ) -> Self {
        let asked = Instant::now();
        let bounds = options.bounds(config, asked);
        let mut fan_out = Self { calls: JoinSet::new(), decode, failed: Vec::new() };
        for (name, route) in routes {
            match (route, runtime) {
                (Ok(route), Some(runtime)) => {
                    let request = request.clone();
                    let call = async move {
                        (name, route.hotkey, call::answer(&route, &request, &bounds, asked).await)
                    };
                    fan_out.calls.spawn_on(call, runtime);
                }
                (Err(error), _) => fan_out.failed.push((name, Err(error))),
                (Ok(_), None) => fan_out.failed.push((name, Err(CallError::NotStarted))),
            }
        }
        fan_out
    }
}

impl<A: 'static> FanOut<A> {
    /// The next answer, or `None` when all are in. Ends at the deadline at the latest. Cancel-safe: no answer is lost
    /// when the future is dropped.
    pub async fn next(&mut self) -> Option<Answered<A>> {
        std::future::poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// The next answer if it is there already.
    pub fn try_next(&mut self) -> Option<Answered<A>> {
        self.failed
            .pop()
            .or_else(|| self.calls.try_join_next().and_then(own).map(|answered| self.decoded(answered)))
    }

    /// How many answers are still to come.
    pub fn len(&self) -> usize {
        self.calls.len() + self.failed.len()
    }

    /// Whether all answers are in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Read and decoded by whoever takes it: the thread that it came by has others to serve.
    fn decoded(&self, (name, hotkey, answer): Unread) -> Answered<A> {
        (name, answer.and_then(|answer| call::read(hotkey, answer)).and_then(self.decode))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answered<A>>> {
        if let Some(failed) = self.failed.pop() {
            return Poll::Ready(Some(failed));
        }
        self.calls
            .poll_join_next(cx)
            .map(|joined| joined.and_then(own).map(|answered| self.decoded(answered)))
    }
}

/// The answer of a call that has ended; `None` if it was cancelled: the runtime is going down, and nobody is left to ask.
fn own<T>(joined: Result<T, JoinError>) -> Option<T> {
    match joined {
        Ok(answered) => Some(answered),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

impl<A: 'static> Stream for FanOut<A> {
    type Item = Answered<A>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_answer(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<A> Unpin for FanOut<A> {}
