//! Who gets a place where there are fewer than there are takers.
//!
//! A hotkey costs nothing to make up, so whoever comes first cannot be who stays. Someone with a permit takes the place of
//! someone without, and someone who was here for long that of someone whom nobody knows. Among equals without a permit a
//! newcomer takes a place only from a source that would still have as many as its own: no source can take more than its
//! share while others want theirs, and two sources never push each other out in turn.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use btlightning_proto::identity::SourcePrefix;
// Nobody is sent away for someone who has less of it.
pub(super) use btlightning_proto::identity::Standing;

use super::call::ConnectionId;
use crate::Hotkey;
use crate::transport::close::CloseReason;

/// A connection, as far as its place goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taker {
    /// Numbers are given in the order of arrival: the lowest is the oldest.
    pub(super) id: ConnectionId,
    pub(super) hotkey: Hotkey,
    pub(super) source: SourcePrefix,
    pub(super) standing: Standing,
}

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) in_all: usize,
    pub(super) per_hotkey: usize,
    /// Of hotkeys that hold no permit.
    pub(super) per_source: usize,
}

impl Bounds {
    /// Those for connections from `ip`. Nobody else's packets come from a loopback address: who does is a program on this
    /// host, or a relay with everybody behind it.
    pub(super) fn for_source(self, ip: IpAddr) -> Self {
        let per_source = if ip.is_loopback() { usize::MAX } else { self.per_source };
        Self { per_source, ..self }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    /// `max_connections` is reached.
    #[error("Connection limit reached ({max}/{max})", max = .0)]
    InAll(usize),
    /// `max_connections_per_ip` is reached.
    #[error("Connection limit of this address reached ({max}/{max})", max = .0)]
    FromThisSource(usize),
}

/// A connection that has to end, so that another one has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) id: ConnectionId,
    /// `Replaced` by one of the same hotkey, or `Displaced`.
    pub(super) why: CloseReason,
}

/// Who has to leave for `newcomer`, of `holders`.
pub(super) fn make_way(
    newcomer: &Taker,
    mut holders: Vec<Taker>,
    bounds: Bounds,
) -> Result<Vec<Leaving>, NoPlace> {
    let mut leaving = Vec::new();
    let mut leaves = |holders: &mut Vec<Taker>, leaver: Leaving| {
        holders.retain(|holder| holder.id != leaver.id);
        leaving.push(leaver);
    };
    while own(newcomer, &holders).count() >= bounds.per_hotkey {
        match oldest(own(newcomer, &holders)) {
            Some(goes) => leaves(&mut holders, goes),
            None => break,
        }
    }
    if newcomer.standing < Standing::Permitted {
        let neighbours: Vec<_> = neighbours(newcomer, &holders).copied().collect();
        if neighbours.len() >= bounds.per_source {
            let lesser = neighbours.iter().filter(|holder| holder.standing < newcomer.standing);
            let goes = displaced(lesser.max_by_key(|holder| (Reverse(holder.standing), holder.id)))
                .or_else(|| oldest(own(newcomer, &neighbours)))
                .ok_or(NoPlace::FromThisSource(bounds.per_source))?;
            leaves(&mut holders, goes);
        }
    }
    if holders.len() >= bounds.in_all {
        let goes = displaced(lesser_or_crowding(newcomer, &holders))
            .or_else(|| oldest(own(newcomer, &holders)))
            .ok_or(NoPlace::InAll(bounds.in_all))?;
        leaves(&mut holders, goes);
    }
    Ok(leaving)
}

fn own<'a>(newcomer: &Taker, holders: &'a [Taker]) -> impl Iterator<Item = &'a Taker> {
    let hotkey = newcomer.hotkey;
    holders.iter().filter(move |holder| holder.hotkey == hotkey)
}

/// Those that count against the newcomer's source.
fn neighbours<'a>(newcomer: &Taker, holders: &'a [Taker]) -> impl Iterator<Item = &'a Taker> {
    let source = newcomer.source;
    holders.iter().filter(move |holder| holder.source == source && holder.standing < Standing::Permitted)
}

fn oldest<'a>(own: impl Iterator<Item = &'a Taker>) -> Option<Leaving> {
    own.map(|holder| holder.id).min().map(|id| Leaving { id, why: CloseReason::Replaced })
}

fn displaced(holder: Option<&Taker>) -> Option<Leaving> {
    holder.map(|holder| Leaving { id: holder.id, why: CloseReason::Displaced })
}

/// Whose place the newcomer takes: of those who stand lowest, and lower, the youngest from the source that has the most
/// places; or else of his equals the youngest from such a source, if that has at least two more than his own.
fn lesser_or_crowding<'a>(newcomer: &Taker, holders: &'a [Taker]) -> Option<&'a Taker> {
    let mut crowds: HashMap<SourcePrefix, usize> = HashMap::new();
    for holder in holders.iter().filter(|holder| holder.standing < Standing::Permitted) {
        *crowds.entry(holder.source).or_default() += 1;
    }
    let crowd = |source: &SourcePrefix| crowds.get(source).copied().unwrap_or_default();
    let lesser = holders.iter().filter(|holder| holder.standing < newcomer.standing);
    let lesser = lesser.max_by_key(|holder| (Reverse(holder.standing), crowd(&holder.source), holder.id));
    if lesser.is_some() || newcomer.standing == Standing::Permitted {
        return lesser;
    }
    let fair = crowd(&newcomer.source) + 1;
    let crowding =
        holders.iter().filter(|holder| holder.standing == newcomer.standing && crowd(&holder.source) > fair);
    crowding.max_by_key(|holder| (crowd(&holder.source), holder.id))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use Standing::{Permitted, Returning, Unknown};

    use super::*;

    const BOUNDS: Bounds = Bounds { in_all: 6, per_hotkey: 2, per_source: 4 };

    fn taker(id: u64, key: u8, source: u8, standing: Standing) -> Taker {
        Taker {
            id: ConnectionId(id),
            hotkey: Hotkey::from_public_key([key; 32]).unwrap(),
            source: SourcePrefix::of(Ipv4Addr::new(10, 0, 0, source).into()),
            standing,
        }
    }

    /// Who leaves for the newcomer, by number; `d` is for displaced, `r` for replaced.
    fn leaving(newcomer: Taker, holders: &[Taker]) -> Result<Vec<String>, NoPlace> {
        let leaving = make_way(&newcomer, holders.to_vec(), BOUNDS)?;
        Ok(leaving.iter().map(|l| format!("{}{}", &l.why.as_str()[..1], l.id)).collect())
    }

    /// Holders with a hotkey each, from 1 on.
    fn holders<const N: usize>(them: [(u8, Standing); N]) -> Vec<Taker> {
        let numbered = (1..).zip(them);
        numbered.map(|(n, (source, standing))| taker(n.into(), n, source, standing)).collect()
    }

    #[test]
    fn while_there_is_room_nobody_leaves() {
        let here = holders([(1, Unknown); 3]);
        assert_eq!(leaving(taker(9, 9, 1, Unknown), &here).unwrap(), [""; 0]);
    }

    #[test]
    fn a_permit_takes_the_place_of_the_youngest_unknown_of_the_most_crowded_source() {
        let here =
            holders([(2, Unknown), (1, Unknown), (1, Unknown), (2, Returning), (2, Returning), (3, Unknown)]);
        // Source 2 is the most crowded; its returning ones stand higher.
        assert_eq!(leaving(taker(9, 9, 2, Permitted), &here).unwrap(), ["d1"]);
        assert_eq!(leaving(taker(9, 9, 4, Returning), &here).unwrap(), ["d1"]);
    }

    #[test]
    fn nobody_leaves_for_a_lesser_one_nor_a_permit_for_a_permit() {
        let here = holders([
            (1, Returning),
            (1, Returning),
            (1, Returning),
            (1, Permitted),
            (1, Permitted),
            (1, Permitted),
        ]);
        assert_eq!(leaving(taker(9, 9, 2, Unknown), &here), Err(NoPlace::InAll(6)));
        let here = holders([(1, Permitted); 6]);
        for standing in [Unknown, Returning, Permitted] {
            assert_eq!(leaving(taker(9, 9, 2, standing), &here), Err(NoPlace::InAll(6)));
        }
    }

    #[test]
    fn among_equals_the_source_with_the_most_gives_until_all_have_alike() {
        let here =
            holders([(1, Unknown), (1, Unknown), (1, Unknown), (2, Unknown), (2, Unknown), (3, Unknown)]);
        // The first of source 4, and the second of source 3, come out of what source 1 has too much.
        assert_eq!(leaving(taker(9, 9, 4, Unknown), &here).unwrap(), ["d3"]);
        assert_eq!(leaving(taker(9, 9, 3, Unknown), &here).unwrap(), ["d3"]);
        // Source 2 would then have as many as source 1 had.
        assert_eq!(leaving(taker(9, 9, 2, Unknown), &here), Err(NoPlace::InAll(6)));
        assert_eq!(leaving(taker(9, 9, 1, Unknown), &here), Err(NoPlace::InAll(6)));
        let returning =
            here.iter().map(|holder| Taker { standing: Returning, ..*holder }).collect::<Vec<_>>();
        assert_eq!(leaving(taker(9, 9, 4, Returning), &returning).unwrap(), ["d3"]);
        assert_eq!(leaving(taker(9, 9, 4, Unknown), &returning), Err(NoPlace::InAll(6)));
    }

    #[test]
    fn a_source_has_so_many_places_and_gives_them_to_whom_it_knows() {
        let here = holders([(1, Unknown), (1, Unknown), (1, Unknown), (1, Returning)]);
        assert_eq!(leaving(taker(9, 9, 1, Unknown), &here), Err(NoPlace::FromThisSource(4)));
        assert_eq!(leaving(taker(9, 3, 1, Unknown), &here).unwrap(), ["r3"]);
        assert_eq!(leaving(taker(9, 9, 1, Returning), &here).unwrap(), ["d3"]);
        assert_eq!(leaving(taker(9, 9, 1, Permitted), &here).unwrap(), [""; 0]);
        assert_eq!(leaving(taker(9, 9, 2, Unknown), &here).unwrap(), [""; 0]);
        let here = holders([(1, Permitted); 4]);
        assert_eq!(leaving(taker(9, 9, 1, Unknown), &here).unwrap(), [""; 0], "permits do not count");
        let local = BOUNDS.for_source(Ipv4Addr::LOCALHOST.into());
        assert_eq!(make_way(&taker(9, 9, 1, Unknown), holders([(1, Unknown); 4]), local), Ok(vec![]));
    }

    #[test]
    fn a_hotkey_keeps_to_its_share_and_gives_its_own_where_no_other_place_is_to_be_had() {
        let mut here = holders([(1, Permitted); 4]);
        here.extend([taker(5, 5, 1, Permitted), taker(6, 5, 1, Permitted)]);
        assert_eq!(leaving(taker(9, 5, 1, Permitted), &here).unwrap(), ["r5"], "its share");
        assert_eq!(leaving(taker(9, 1, 1, Permitted), &here).unwrap(), ["r1"], "no other place");
        here[5] = taker(6, 6, 1, Unknown);
        assert_eq!(leaving(taker(9, 1, 1, Permitted), &here).unwrap(), ["d6"], "two processes of one hotkey");
    }
}
