//! The file that a learned source allowlist is kept in, as whoever can write there left it; and what a roster makes of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use btlightning::fuzzing::sources_in;
use btlightning_proto::sources::{
    ADDRESSES_PER_HOTKEY_MAX, CLOCK_SECS_MIN, HOTKEYS_MAX, Mode, Observed, Reason, Roster, RosterPolicy,
    RosterRecord,
};
use serde_json::json;

const NETUID: u16 = 2;
const GENESIS: [u8; 32] = [0x2f; 32];

/// What the clock shows (in units of a minute after or before the year 2025; two bytes), an address that is seen (one),
/// and a file.
pub fn sources_file(data: &[u8]) {
    let Some((&[a, b, at], bytes)) = data.split_first_chunk() else { return };
    let Ok(record) = sources_in(bytes, NETUID, GENESIS) else { return };
    let now = CLOCK_SECS_MIN.saturating_add_signed(i64::from(i16::from_le_bytes([a, b])) * 60);

    let policy = RosterPolicy::default();
    let mut roster = Roster::restore(policy, record);
    let kept = roster.record();
    bounded(&kept);
    assert_eq!(written_and_read(&kept), kept);
    assert_eq!(Roster::restore(policy, kept.clone()).record(), kept, "a restart changes nothing");

    decided(&mut roster, now);
    if let Some(known) = kept.hotkeys.first() {
        let ip = IpAddr::from([192, 0, 2, at]);
        let observed = roster.observe(&known.hotkey, ip, now);
        // Told who holds a permit, it allows what it has seen of them, at once.
        let list: Vec<_> = kept.hotkeys.iter().map(|known| (known.hotkey, known.stake)).collect();
        let counts = roster.permitted(&list, now);
        assert_eq!(counts, list.iter().any(|(_, stake)| *stake > 0));
        let allowed = roster.decide(now).allowed;
        assert!(observed == Observed::Ignored || allowed.contains(&ip));
        decided(&mut roster, now.saturating_add(policy.address_age_secs_max));
    }
    bounded(&roster.record());
    assert_eq!(written_and_read(&roster.record()), roster.record());
}

/// Nothing is enforced that is empty, covers too little, or is too old.
fn decided(roster: &mut Roster, now: u64) {
    let before = roster.mode();
    let decision = roster.decide(now);
    assert_eq!(decision.mode == Mode::Enforcing, decision.reason == Reason::Covered);
    let allowed: BTreeSet<_> =
        roster.entries(now).filter(|entry| entry.is_allowed).map(|entry| entry.ip).collect();
    assert_eq!(decision.allowed.iter().copied().collect::<BTreeSet<_>>(), allowed);
    assert!(decision.coverage_permille <= 1000);
    if decision.mode == Mode::Enforcing {
        let policy = RosterPolicy::default();
        assert!(!allowed.is_empty(), "an empty list is enforced");
        let age = roster.permits_age_secs(now).expect("it was told who holds a permit");
        assert!(age <= policy.permits_age_secs_max);
        let least = match before {
            Mode::Learning => policy.coverage_to_enforce_permille,
            Mode::Enforcing => policy.coverage_to_relax_permille,
        };
        assert!(decision.coverage_permille >= least);
    }
    assert_eq!(roster.decide(now), decision, "a decision changes the next one");
}

fn bounded(record: &RosterRecord) {
    assert!(record.hotkeys.len() <= HOTKEYS_MAX);
    let hotkeys: BTreeSet<_> = record.hotkeys.iter().map(|known| known.hotkey).collect();
    assert_eq!(hotkeys.len(), record.hotkeys.len());
    for known in &record.hotkeys {
        assert!(known.addresses.len() <= ADDRESSES_PER_HOTKEY_MAX);
        let different: BTreeSet<_> = known.addresses.iter().map(|seen| seen.ip).collect();
        assert_eq!(different.len(), known.addresses.len());
        assert!(different.iter().all(|ip| *ip == ip.to_canonical()));
    }
}

/// What comes back of a record that is written to a file as ours are.
fn written_and_read(record: &RosterRecord) -> RosterRecord {
    let genesis = format!("0x{}", "2f".repeat(32));
    let file = json!({ "version": 1, "netuid": NETUID, "genesis": genesis, "saved_at": 7, "roster": record });
    sources_in(file.to_string().as_bytes(), NETUID, GENESIS).expect("ours")
}
