//! What must hold of hotkeys, nonces, the replay window and the limiter for any input.

// Helpers of tests may unwrap as the tests do; the lint knows only functions that are tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use btlightning_proto::identity::{
    AttemptLimiter, AttemptLimits, CertFingerprint, Claimed, Hotkey, Nonce, ReplayWindow,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn hotkey(n: u8) -> Hotkey {
    Hotkey::from_public_key([n + 1; 32]).unwrap()
}

fn address(n: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, n).into()
}

proptest! {
    #[test]
    fn every_key_has_one_spelling_and_it_reads_back(key in any::<[u8; 32]>()) {
        prop_assume!(key != [0; 32]);
        let hotkey = Hotkey::from_public_key(key).unwrap();
        let text = hotkey.to_string();
        prop_assert_eq!(text.len(), Hotkey::TEXT_BYTES);
        prop_assert_eq!(text.parse(), Ok(hotkey));
    }

    #[test]
    fn a_text_that_reads_as_a_hotkey_is_its_spelling(text in "5?[1-9A-HJ-NP-Za-km-z]{0,60}|\\PC{0,60}") {
        if let Ok(hotkey) = text.parse::<Hotkey>() {
            prop_assert_eq!(hotkey.to_string(), text);
        }
    }

    #[test]
    fn one_wrong_character_never_makes_another_hotkey(key in any::<[u8; 32]>(), at in 0usize..48, with in "[1-9A-Za-z]") {
        prop_assume!(key != [0; 32]);
        let mut text = Hotkey::from_public_key(key).unwrap().to_string();
        prop_assume!(text[at..=at] != with);
        text.replace_range(at..=at, &with);
        // Two bytes of checksum let one in 65,536 through; that one is still spelled canonically.
        if let Ok(other) = text.parse::<Hotkey>() {
            prop_assert_eq!(other.to_string(), text);
        }
    }

    #[test]
    fn nonces_and_fingerprints_read_back(bytes in any::<[u8; 16]>(), certificate in any::<Vec<u8>>()) {
        let nonce = Nonce::from_random(bytes);
        prop_assert_eq!(nonce.to_string().parse(), Ok(nonce));
        prop_assert_eq!(nonce.to_string().to_uppercase().parse(), Ok(nonce));
        let fingerprint = CertFingerprint::of_certificate(&certificate);
        prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }

    /// Whatever the clock does, and however full the window is, nothing is admitted twice.
    #[test]
    fn no_nonce_is_admitted_twice(
        entries_max in 0usize..12,
        steps in vec((0u8..3, 0u8..6, 0u64..700, 0u64..700), 0..200),
    ) {
        const AGE: u64 = 300;
        let mut window = ReplayWindow::new(entries_max, AGE);
        let mut admitted = HashSet::new();
        for (key, nonce, timestamp, now) in steps {
            // A signed request has one timestamp, so the request is what may be replayed.
            let nonce_of_request = Nonce::from_random(u128::from(timestamp * 10 + u64::from(nonce)).to_be_bytes());
            if window.admit(hotkey(key), nonce_of_request, timestamp, now).is_ok() {
                prop_assert!(now.saturating_sub(timestamp) < AGE);
                prop_assert!(admitted.insert((key, nonce_of_request)));
            }
            prop_assert!(window.len() <= entries_max);
        }
    }

    /// With a clock that runs forward and room enough, everything new is admitted and everything acceptable remembered.
    #[test]
    fn a_roomy_window_refuses_replays_only(steps in vec((0u8..3, 0u8..40, 0u64..60, 0u64..30), 0..200)) {
        const AGE: u64 = 300;
        let mut window = ReplayWindow::new(10_000, AGE);
        let mut remembered: HashMap<(u8, u8), u64> = HashMap::new();
        let mut now = 1_000;
        for (key, nonce, ahead, passes) in steps {
            now += passes;
            remembered.retain(|_, timestamp| *timestamp + AGE > now);
            let is_new = !remembered.contains_key(&(key, nonce));
            let admitted = window.admit(hotkey(key), Nonce::from_random([nonce; 16]), now + ahead, now).is_ok();
            prop_assert_eq!(admitted, is_new);
            remembered.entry((key, nonce)).or_insert(now + ahead);
            prop_assert_eq!(window.len(), remembered.len());
        }
    }

    /// With room for everyone, an address gets exactly what a window of its own gives, whoever else comes.
    #[test]
    fn a_roomy_limiter_is_a_window_an_address(steps in vec((0u8..6, 0u64..20_000), 0..300)) {
        const PER_MINUTE: u32 = 3;
        let mut limiter = limiter(PER_MINUTE, 6);
        let mut model: HashMap<u8, (Instant, u32)> = HashMap::new();
        let mut now = Instant::now();
        for (who, millis) in steps {
            now += Duration::from_millis(millis);
            let window = model.entry(who).or_insert((now, 0));
            if now - window.0 >= Duration::from_secs(60) {
                *window = (now, 0);
            }
            window.1 += 1;
            prop_assert_eq!(limiter.allow(address(who), Claimed::Unknown, now), window.1 <= PER_MINUTE);
        }
    }

    /// However crowded it is, nobody gets more than the stated multiple in any minute, and the table keeps its bound.
    #[test]
    fn a_crowded_limiter_resets_nobody(
        tracked_max in 0usize..4,
        steps in vec((0u8..12, 0u64..9_000), 0..400),
    ) {
        const PER_MINUTE: u32 = 2;
        let mut limiter = limiter(PER_MINUTE, tracked_max);
        let mut allowed: HashMap<u8, Vec<Instant>> = HashMap::new();
        let mut now = Instant::now();
        for (who, millis) in steps {
            now += Duration::from_millis(millis);
            if limiter.allow(address(who), Claimed::Unknown, now) {
                let times = allowed.entry(who).or_default();
                times.push(now);
                let recent = times.iter().filter(|&&time| now - time < Duration::from_secs(60)).count();
                prop_assert!(recent <= 3 * PER_MINUTE as usize);
            }
            prop_assert!(limiter.tracked() <= tracked_max);
        }
    }

    /// No amount of attempts of any kind by others takes a known hotkey's attempts away at its address.
    #[test]
    fn a_known_hotkey_has_its_attempts_to_itself(noise in vec((0u8..4, proptest::option::of(1u8..4)), 0..200)) {
        const PER_MINUTE: u32 = 2;
        let mut limiter = limiter(PER_MINUTE, 100);
        let now = Instant::now();
        for (who, claimed) in noise {
            let claimed = claimed.map(hotkey);
            limiter.allow(address(who), claimed.as_ref().map_or(Claimed::Unknown, Claimed::Known), now);
            match &claimed {
                Some(proven) if who % 2 == 0 => limiter.note_proven(address(who), proven, now),
                _ => limiter.note_unproven(address(who), now),
            }
        }
        for _ in 0..PER_MINUTE {
            prop_assert!(limiter.allow(address(0), Claimed::Known(&hotkey(0)), now));
            limiter.note_unproven(address(0), now);
            limiter.note_proven(address(0), &hotkey(0), now);
        }
        prop_assert!(!limiter.allow(address(0), Claimed::Known(&hotkey(0)), now));
    }
}

/// With the same hashes in every run, so that a failure can be repeated.
fn limiter(per_minute: u32, tracked_max: usize) -> AttemptLimiter<BuildHasherDefault<DefaultHasher>> {
    AttemptLimiter::new(AttemptLimits::new(per_minute, tracked_max), BuildHasherDefault::default())
}
