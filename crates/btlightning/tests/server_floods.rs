//! Validators that have authenticated, and say what costs them next to nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::time::Duration;

use btlightning_testkit::by_hand::packet::retire_frame;
use common::by_hand::Stranger;
use common::sim::{VALIDATOR_IP, World};
use common::{Miner, config};
use tokio::time::sleep;

const PING: u8 = 1;

/// One that has authenticated.
async fn member(world: &World, miner: &Miner) -> Stranger {
    let mut member = Stranger::connected(world, VALIDATOR_IP, miner.addr).await;
    member.authenticate("alice").await;
    miner.members_are(1).await;
    member
}

/// Retires all connection ids but the one that it uses, seven at a time, `pause` after each, until it is closed. Says how many.
async fn retire(member: &mut Stranger, pause: Duration, acknowledges: bool) -> u64 {
    for first in (1..7_000).step_by(7) {
        let mut frames: Vec<_> = (first..first + 7).flat_map(retire_frame).collect();
        if acknowledges {
            frames.extend(member.bare.acknowledgements());
        }
        member.say(&frames);
        sleep(pause).await; // sleeps: virtual time, the pace of the flood
        member.take();
        if member.bare.is_closed() {
            return first + 6;
        }
    }
    panic!("7,000 connection ids, and the connection goes on");
}

#[tokio::test(start_paused = true)]
async fn who_retires_ids_and_acknowledges_nothing_is_closed_whatever_its_pace() {
    let world = World::new();
    let miner = world.miner(config()).await;
    for pause in [30, 1000] {
        let mut member = member(&world, &miner).await;
        let retired = retire(&mut member, Duration::from_millis(pause), false).await;
        assert!((100..1000).contains(&retired), "{retired}");
        miner.members_are(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_acknowledges_them_is_closed_in_the_end() {
    let world = World::new();
    let miner = world.miner(config()).await;
    let mut member = member(&world, &miner).await;
    let retired = retire(&mut member, Duration::from_millis(250), true).await;
    assert!((1025..1600).contains(&retired), "{retired}");
}

#[tokio::test(start_paused = true)]
async fn frames_that_say_nothing_are_bounded() {
    let world = World::new();
    let miner = world.miner(config()).await;
    for frame in [&[PING][..], &[0x1a; 9], &[0x16, 1], &[0x10, 1]] {
        let mut member = member(&world, &miner).await;
        let frames = frame.repeat(1100 / frame.len());
        for _ in 0..300 {
            member.say(&frames);
            sleep(Duration::from_millis(1)).await; // sleeps: virtual time, the pace of the flood
            member.take();
        }
        assert!(member.bare.is_closed(), "{frame:?}");
        miner.members_are(0).await;
    }
}
