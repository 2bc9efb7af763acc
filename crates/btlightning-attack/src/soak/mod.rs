//! Many connections for long: what each holds, and what is left of them.

mod hour;
mod idle;

use crate::run::Attack;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[idle::SERVER, idle::VALIDATOR, hour::HOUR];
