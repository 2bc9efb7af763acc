//! [`Direction`]: the state of the way from one IP address to another, and the fate of each datagram on it.

use super::link::Link;
use crate::mix;
use std::{net::IpAddr, time::Duration};
use tokio::time::Instant;

/// What becomes of a datagram, as far as the link is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives then.
    Carried(Instant),
    /// It arrives then, and once more then.
    Duplicated(Instant, Instant),
    Lost,
    /// Too many bytes were waiting for the bandwidth.
    LinkFull,
}

/// The things that chance decides about a datagram. Each has draws of its own, so that one does not shift another.
#[derive(Clone, Copy)]
enum Draw {
    Loss,
    Duplicate,
    Reorder,
    Jitter,
    ReorderOfCopy,
    JitterOfCopy,
}

/// The way from one IP address to another.
#[derive(Debug)]
pub(super) struct Direction {
    /// The seed and both addresses.
    stream: u64,
    /// Datagrams sent so far: the number of the next one.
    sent: u64,
    /// When the bytes that wait for the bandwidth have left.
    free_at: Instant,
    /// When the latest datagram arrives that keeps its place: later ones do not arrive before.
    latest_due: Instant,
}

impl Direction {
    pub(super) fn new(seed: u64, from: IpAddr, to: IpAddr, now: Instant) -> Self {
        let stream = [from, to].into_iter().fold(mix::start(seed), absorb_ip);
        Self { stream, sent: 0, free_at: now, latest_due: now }
    }

    /// Sends a datagram of `len` bytes on its way over `link`.
    pub(super) fn carry(&mut self, now: Instant, link: &Link, len: usize) -> Fate {
        let number = self.sent;
        self.sent += 1;
        let Some(left_at) = self.transmit(now, link, len as u64) else { return Fate::LinkFull };
        if self.draw(number, Draw::Loss) < link.loss {
            return Fate::Lost;
        }
        let due = self.due(left_at, link, number, Draw::Reorder, Draw::Jitter);
        if self.draw(number, Draw::Duplicate) < link.duplicate {
            return Fate::Duplicated(
                due,
                self.due(left_at, link, number, Draw::ReorderOfCopy, Draw::JitterOfCopy),
            );
        }
        Fate::Carried(due)
    }

    /// When the last byte has left, or none if the backlog is full.
    fn transmit(&mut self, now: Instant, link: &Link, len: u64) -> Option<Instant> {
        let Some(bytes_per_second) = link.bandwidth_bytes_per_second else { return Some(now) };
        let waiting = self.free_at.saturating_duration_since(now);
        let backlog = waiting.as_secs_f64() * bytes_per_second as f64;
        if backlog + len as f64 > link.backlog_bytes_max as f64 {
            return None;
        }
        self.free_at = now + waiting + Duration::from_secs_f64(len as f64 / bytes_per_second as f64);
        Some(self.free_at)
    }

    fn due(&mut self, left_at: Instant, link: &Link, number: u64, reorder: Draw, jitter: Draw) -> Instant {
        let due = left_at + link.delay + link.jitter.mul_f64(self.draw(number, jitter));
        if self.draw(number, reorder) < link.reorder {
            return due + link.held_back();
        }
        self.latest_due = self.latest_due.max(due);
        self.latest_due
    }

    fn draw(&self, number: u64, draw: Draw) -> f64 {
        mix::unit(mix::absorb(mix::absorb(self.stream, number), draw as u64))
    }
}

fn absorb_ip(state: u64, ip: IpAddr) -> u64 {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    mix::absorb(mix::absorb(state, (bits >> 64) as u64), bits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn fates(start: Instant, seed: u64, from: IpAddr, to: IpAddr, link: Link, n: usize) -> Vec<Fate> {
        let mut direction = Direction::new(seed, from, to, start);
        (0..n).map(|_| direction.carry(start, &link, 1_000)).collect()
    }

    fn wild() -> Link {
        Link {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            loss: 0.3,
            duplicate: 0.2,
            reorder: 0.1,
            ..Link::default()
        }
    }

    #[test]
    fn the_seed_and_the_addresses_decide() {
        let start = Instant::now();
        assert_eq!(fates(start, 1, A, B, wild(), 200), fates(start, 1, A, B, wild(), 200));
        assert_ne!(fates(start, 1, A, B, wild(), 200), fates(start, 2, A, B, wild(), 200));
        assert_ne!(fates(start, 1, A, B, wild(), 200), fates(start, 1, B, A, wild(), 200));
    }

    #[test]
    fn shares_are_kept() {
        let fates = fates(Instant::now(), 3, A, B, wild(), 10_000);
        let lost = fates.iter().filter(|f| **f == Fate::Lost).count();
        let twice = fates.iter().filter(|f| matches!(f, Fate::Duplicated(..))).count();
        assert!((2_800..3_200).contains(&lost), "{lost}");
        assert!((1_250..1_550).contains(&twice), "{twice}");
    }

    #[test]
    fn jitter_alone_keeps_the_order() {
        let link = Link { loss: 0.0, duplicate: 0.0, reorder: 0.0, ..wild() };
        let dues: Vec<Instant> = fates(Instant::now(), 4, A, B, link, 1_000)
            .into_iter()
            .map(|fate| if let Fate::Carried(due) = fate { due } else { panic!("{fate:?}") })
            .collect();
        assert!(dues.is_sorted());
    }

    #[test]
    fn bandwidth_spaces_datagrams_and_its_backlog_is_bounded() {
        let link = Link {
            delay: Duration::ZERO,
            bandwidth_bytes_per_second: Some(10_000),
            backlog_bytes_max: 3_000,
            ..Link::default()
        };
        let start = Instant::now();
        let at = |ms| Fate::Carried(start + Duration::from_millis(ms));
        assert_eq!(
            fates(start, 5, A, B, link, 5),
            [at(100), at(200), at(300), Fate::LinkFull, Fate::LinkFull]
        );
    }
}
