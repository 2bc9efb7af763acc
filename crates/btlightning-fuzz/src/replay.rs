//! The replay window, without the signatures around it: many hotkeys, nonces, times and clocks.

use std::collections::{HashMap, HashSet};

use arbitrary::{Arbitrary, Unstructured};
use btlightning_proto::identity::{Hotkey, Nonce, ReplayError, ReplayWindow, Standing};

#[derive(Debug, Arbitrary)]
enum Step {
    /// So many requests, or the same once more.
    Admit {
        who: u8,
        nonce: u16,
        behind: i16,
        more: u8,
    },
    Passes {
        secs: u16,
    },
    Expire,
    /// The clock is set.
    Jumps {
        to: u64,
    },
}

/// The window's room (two bytes), the age of signatures (two), and steps in the form that `arbitrary` reads.
pub fn replay(data: &[u8]) {
    let Some((&[a, b, c, d], steps)) = data.split_first_chunk() else { return };
    let (room, age) = (usize::from(u16::from_le_bytes([a, b])), u64::from(u16::from_le_bytes([c, d])));
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(steps)) else { return };
    let share = room.div_ceil(8).max(256).min(room);

    let mut window = ReplayWindow::new(room, age);
    let mut now = 1_700_000_000_u64;
    let mut is_steady = true;
    // A signed request has one timestamp, so that request is what may come twice.
    let mut ever = HashSet::new();
    let mut live: HashMap<(u8, u16), u64> = HashMap::new();
    for step in steps {
        match step {
            Step::Passes { secs } => now = now.saturating_add(secs.into()),
            Step::Jumps { to } => {
                now = to;
                is_steady = false;
            }
            Step::Expire => window.expire(now),
            Step::Admit { who, nonce, behind, more } => {
                let who = who % 16;
                let timestamp = now.saturating_add_signed(behind.into());
                let is_timely = now.saturating_sub(timestamp) < age;
                live.retain(|_, timestamp| now.saturating_sub(*timestamp) < age);
                let mut held = live.keys().filter(|(other, _)| *other == who).count();
                for nonce in nonce..=nonce.saturating_add((more % 64).into()) {
                    let standing = standing(who);
                    let verdict = window.admit_as(standing, hotkey(who), spelled(nonce), timestamp, now);
                    if is_steady {
                        let expected = match () {
                            () if !is_timely => Err(ReplayError::Stale),
                            () if live.contains_key(&(who, nonce)) => Err(ReplayError::Seen),
                            () if is_full(&live, room, standing) => Err(ReplayError::Full),
                            () if held >= share => Err(ReplayError::ShareFull),
                            () => Ok(()),
                        };
                        assert_eq!(verdict, expected);
                    }
                    if verdict.is_ok() {
                        assert!(is_timely);
                        assert!(ever.insert((who, nonce, timestamp)), "admitted twice");
                        held += usize::from(live.insert((who, nonce), timestamp).is_none());
                    }
                    assert!(!is_steady || window.len() == live.len());
                }
            }
        }
        assert!(window.len() <= room);
    }
}

/// What the server knows of a hotkey.
fn standing(who: u8) -> Standing {
    match who {
        0..8 => Standing::Unknown,
        8..12 => Standing::Returning,
        _ => Standing::Permitted,
    }
}

/// Whether there is no room for one more with this standing: a quarter is kept from those whom nobody knows, and an eighth
/// from all without a permit.
fn is_full(live: &HashMap<(u8, u16), u64>, room: usize, newcomer: Standing) -> bool {
    let up_to = |most| live.keys().filter(|(who, _)| standing(*who) <= most).count();
    let (unknown, unpermitted) = (up_to(Standing::Unknown), up_to(Standing::Returning));
    (newcomer == Standing::Unknown && unknown >= room - room / 4)
        || (newcomer < Standing::Permitted && unpermitted >= room - room / 8)
        || live.len() >= room
}

fn hotkey(n: u8) -> Hotkey {
    Hotkey::from_public_key([n + 1; 32]).expect("not the identity point")
}

fn spelled(nonce: u16) -> Nonce {
    Nonce::from_random(u128::from(nonce).to_be_bytes())
}
