//! What is attacked: a process of its own, so that what it costs is not what the attacker costs.

mod door;
mod log;
mod pipe;
mod protocol;
pub(crate) mod server;
pub(crate) mod validator;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pipe::Pipe;

use crate::verdict::Failure;

pub(crate) use protocol::{Asked, Decoded, Order, Ready, Report, Setup, ValidatorOrder};

/// The name that the victim's key is made from.
pub(crate) const NAME: &str = "victim";

/// A server in a process of its own, and the pipe to it.
pub(crate) struct Victim {
    pub(crate) addr: SocketAddr,
    pub(crate) hotkey: String,
    pipe: Pipe,
}

impl Victim {
    /// Starts one, and waits until it serves.
    pub(crate) async fn start(setup: Setup) -> Result<Self, Failure> {
        let mut pipe = Pipe::to(server::ROLE)?;
        let Ready { addr, hotkey } = pipe.ask(&setup).await?;
        Ok(Self { addr, hotkey, pipe })
    }

    /// What it costs, and what it does.
    pub(crate) async fn report(&mut self) -> Result<Report, Failure> {
        self.order(Order::Report).await
    }

    /// Has it do something; hands out how it is after that.
    pub(crate) async fn order(&mut self, order: Order) -> Result<Report, Failure> {
        self.pipe.ask(&order).await
    }

    /// Waits until its report is as wanted, and hands it out; after `patience`, whatever it is.
    pub(crate) async fn becomes(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&Report) -> bool,
    ) -> Result<Report, Failure> {
        let began = Instant::now();
        loop {
            let report = self.report().await?;
            if wanted(&report) || began.elapsed() > patience {
                return Ok(report);
            }
            // sleeps: between two looks at another process, which no event announces
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A validator in a process of its own, and the pipe to it.
pub(crate) struct Validator(Pipe);

impl Validator {
    /// Starts one that knows nobody.
    pub(crate) fn start() -> Result<Self, Failure> {
        Ok(Self(Pipe::to(validator::ROLE)?))
    }

    /// Has it do something; hands out how its questions were answered, and how it is after that.
    pub(crate) async fn order(&mut self, order: ValidatorOrder) -> Result<Asked, Failure> {
        self.0.ask(&order).await
    }
}
