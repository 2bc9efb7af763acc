//! Steps in which a miner is away for a while, or moves.

use std::time::{Duration, Instant};

use btlightning::Peer;
use tokio::task::JoinSet;

use super::super::miner::Miner;
use super::super::report::{Outcome, expect, heading, ms, short};
use super::super::subnet::Announced;
use super::super::words::{SUMMARISE, Summary};
use super::Demo;

/// How long the restarting miner is away.
const AWAY: Duration = Duration::from_millis(500);

impl Demo {
    /// Queries go on while a miner is away; they wait for it instead of failing.
    pub(super) async fn restart_a_miner(&mut self, queries: u32) -> Outcome {
        heading(&format!("Restart a miner while {queries} queries are asked of it"));
        let miner = self.miners.remove(0);
        let (hotkey, tls_key) = (miner.hotkey, miner.tls_key_pin());
        let mut changes = self.validator.client.peer_changes();
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
            let (client, question) = (self.validator.client.clone(), self.question.clone());
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
        if let Some(error) = failed.into_iter().next() {
            return Err(error.into());
        }
        expect(self.miners[0].tls_key_pin() == tls_key, "the miner has the TLS key that is on the chain")
    }

    /// The validators move with a miner, on no other word than the chain's.
    pub(super) async fn move_a_miner(&mut self) -> Outcome {
        heading("Move a miner to another port, which it says on the chain");
        let Some(old) = self.miners.pop() else { return Err("there is no miner".into()) };
        let miner = old.start_elsewhere().await?;
        println!("   {}  {} -> {}", short(&miner.hotkey), old.addr, miner.addr);
        if let Announced::Signed { block, after, waited_blocks } = self.subnet.announce(&miner).await? {
            println!(
                "   signed, in block {block} after {}; the rate limit had it wait for {waited_blocks} blocks",
                ms(after)
            );
        }

        let began = Instant::now();
        for validator in self.validators() {
            validator.client.refresh_metagraph();
        }
        for validator in self.validators() {
            let is_there = |peers: &[Peer]| peers.iter().any(|peer| is_connected_at(peer, &miner));
            validator.until_peers("the validator has moved with the miner", is_there).await?;
        }
        println!(
            "   both validators read the chain and are connected to it there after {}",
            ms(began.elapsed())
        );
        for validator in self.validators() {
            let peers = validator.client.peers();
            let is_gone = peers.iter().all(|peer| peer.addr.as_ref() != old.addr.to_string());
            expect(is_gone, "nobody is looked for at the old address")?;
        }
        old.stop().await?;
        for validator in self.validators() {
            let reply = validator.client.call::<_, Summary>(miner.hotkey, SUMMARISE, &self.question).await?;
            expect(reply.hotkey == miner.hotkey, "the miner answers at its new address")?;
        }
        self.miners.push(miner);
        Ok(())
    }
}

fn is_connected_at(peer: &Peer, miner: &Miner) -> bool {
    peer.hotkey == miner.hotkey && peer.addr.as_ref() == miner.addr.to_string() && peer.state.is_connected()
}
