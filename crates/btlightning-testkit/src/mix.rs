//! SplitMix64's finaliser, as a way to turn a few words into one well-mixed word.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The state that `seed` starts from. Neighbouring seeds start far apart.
pub(crate) fn start(seed: u64) -> u64 {
    absorb(0, seed)
}

/// The state after `word`.
pub(crate) fn absorb(state: u64, word: u64) -> u64 {
    let mut z = (state ^ word).wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `state` as a number in `0.0..1.0`.
pub(crate) fn unit(state: u64) -> f64 {
    // The 53 bits that a double holds exactly.
    (state >> 11) as f64 / (1u64 << 53) as f64
}

/// Thirty-two bytes that follow from `state`.
pub(crate) fn bytes(state: u64) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, chunk) in out.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&absorb(state, i as u64).to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absorbing_is_splitmix64() {
        // The first two outputs of the reference SplitMix64 seeded with 0.
        assert_eq!(absorb(0, 0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(absorb(0, GOLDEN), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn units_fill_the_interval_evenly() {
        let draws: Vec<f64> = (0..10_000).map(|n| unit(absorb(start(1), n))).collect();
        assert!(draws.iter().all(|d| (0.0..1.0).contains(d)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
