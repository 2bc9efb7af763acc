//! [`RosterPolicy`], when a roster is believed.

/// When the addresses of a [`Roster`](super::Roster) are enforced, and for how long one counts. Any values work; those
/// out of their bounds are brought within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RosterPolicy {
    /// The share of permitted stake whose address must be known before others are turned away, in thousandths. Default:
    /// 800. From `coverage_to_relax_permille` to 1000.
    pub coverage_to_enforce_permille: u16,
    /// The share below which everybody passes again, in thousandths. Default: 500. From 1 to 1000.
    pub coverage_to_relax_permille: u16,
    /// How long the roster learns before it is enforced for the first time, in seconds. Default: 3600. Only time during
    /// which permits are known counts, and not the time between two runs of the program.
    pub learning_secs_min: u64,
    /// An address that was not seen for longer than this does not count, in seconds. Default: 14 days. At least 1.
    pub address_age_secs_max: u64,
    /// How long the addresses of a hotkey without a permit are remembered, though not allowed, in seconds. Default: one
    /// day.
    pub permit_grace_secs: u64,
    /// A list of permits that was not renewed for longer than this is not enforced, in seconds. Default: 7 days. At
    /// least 1.
    pub permits_age_secs_max: u64,
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

impl Default for RosterPolicy {
    fn default() -> Self {
        Self {
            coverage_to_enforce_permille: 800,
            coverage_to_relax_permille: 500,
            learning_secs_min: HOUR,
            address_age_secs_max: 14 * DAY,
            permit_grace_secs: DAY,
            permits_age_secs_max: 7 * DAY,
        }
    }
}

impl RosterPolicy {
    /// The same policy with every value within its bounds.
    pub(super) fn within_bounds(self) -> Self {
        // Not zero: an address list that covers nothing must never be enforced.
        let relax = self.coverage_to_relax_permille.clamp(1, 1000);
        Self {
            coverage_to_enforce_permille: self.coverage_to_enforce_permille.clamp(relax, 1000),
            coverage_to_relax_permille: relax,
            address_age_secs_max: self.address_age_secs_max.max(1),
            permits_age_secs_max: self.permits_age_secs_max.max(1),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_their_bounds_are_brought_within_them() {
        assert_eq!(RosterPolicy::default().within_bounds(), RosterPolicy::default());
        let absurd = RosterPolicy {
            coverage_to_enforce_permille: 0,
            coverage_to_relax_permille: 0,
            address_age_secs_max: 0,
            permits_age_secs_max: 0,
            ..RosterPolicy::default()
        };
        let bounded = absurd.within_bounds();
        assert_eq!((bounded.coverage_to_enforce_permille, bounded.coverage_to_relax_permille), (1, 1));
        assert_eq!((bounded.address_age_secs_max, bounded.permits_age_secs_max), (1, 1));
        let crossed = RosterPolicy {
            coverage_to_enforce_permille: 300,
            coverage_to_relax_permille: 2000,
            ..RosterPolicy::default()
        };
        assert_eq!(crossed.within_bounds().coverage_to_enforce_permille, 1000);
    }
}
