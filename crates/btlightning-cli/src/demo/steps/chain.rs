//! Steps in which the chain changes things: its node goes away, a validator loses its permit.

use std::time::Instant;

use btlightning::metagraph::MetagraphStatus;
use btlightning::{CallError, Peer};

use super::super::report::{Outcome, expect, heading, ms, short};
use super::super::words::{SUMMARISE, Summary};
use super::Demo;

impl Demo {
    /// Nobody needs the chain to talk to those it knows already.
    pub(super) async fn lose_the_chain(&self) -> Outcome {
        heading("Stop the chain's node, and start it again");
        let node = self.subnet.chain.node();
        let before = self.validator.status()?.sync.block;
        node.stop().await?;
        self.validator.client.refresh_metagraph();
        let failed = |status: &MetagraphStatus| status.sync.failures_in_a_row > 0;
        let status = self.validator.until_status("the validator sees that no node answers", failed).await?;
        let error = status.sync.last_error.as_ref().map(ToString::to_string).unwrap_or_default();
        println!(
            "   stopped: the validator has the metagraph of block {} still, {} old",
            status.sync.block.unwrap_or_default(),
            ms(status.sync.age.unwrap_or_default())
        );
        println!("   why: {error}");
        expect(status.sync.block == before, "the metagraph stays as it was")?;
        for validator in self.validators() {
            let (answered, within) = self.ask_all(validator, &mut |_| {}).await?;
            println!("   {} asks on: {answered} answers within {}", short(&validator.hotkey), ms(within));
        }

        let produced = self.subnet.chain.produce_block();
        let began = Instant::now();
        node.restart().await?;
        self.validator.client.refresh_metagraph();
        let synced = |status: &MetagraphStatus| {
            status.sync.block >= Some(produced) && status.sync.failures_in_a_row == 0
        };
        let status = self.validator.until_status("the validator reads the chain again", synced).await?;
        println!(
            "   started: synced with block {} after {}",
            status.sync.block.unwrap_or_default(),
            ms(began.elapsed())
        );
        Ok(())
    }

    /// Miners serve those who hold a permit, for as long as they hold it.
    pub(super) async fn take_a_permit(&self) -> Outcome {
        let loser = &self.other_validator;
        heading(&format!("Take the permit of {} away", short(&loser.hotkey)));
        self.subnet.take_permit(&loser.hotkey);
        let began = Instant::now();
        self.subnet.reread().await?;
        let is_cut_off = |peers: &[Peer]| peers.iter().all(|peer| !peer.state.is_connected());
        loser.until_peers("its connections are closed", is_cut_off).await?;
        println!(
            "   {} miners read the chain and have closed its connections after {}",
            self.miners.len(),
            ms(began.elapsed())
        );
        for miner in &self.miners {
            let refusal = loser.client.call::<_, Summary>(miner.hotkey, SUMMARISE, &self.question).await;
            match refusal {
                Err(error @ CallError::Unavailable { .. }) if error.reason() == "refused" => {
                    if miner.hotkey == self.miners[0].hotkey {
                        println!("   {} asks: {error}", short(&loser.hotkey));
                    }
                }
                Err(other) => return Err(other.into()),
                Ok(_) => return Err("a validator without a permit was served".into()),
            }
        }
        let (answered, within) = self.ask_all(&self.validator, &mut |_| {}).await?;
        println!("   {} asks on: {answered} answers within {}", short(&self.validator.hotkey), ms(within));
        Ok(())
    }
}
