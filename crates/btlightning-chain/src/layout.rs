//! What decoding by a node's own type registry may cost, before it is done.
//!
//! The registry comes from the node like the bytes do. A type that contains itself would overflow the stack, and a
//! sequence of elements without bytes would go on for as long as a number in the answer says. So every type is measured
//! first: how many bytes a value takes at least, and how many steps.

use std::collections::HashMap;

use scale_info::{PortableRegistry, TypeDef, form::PortableForm};

const DEPTH_MAX: u32 = 32;
/// The steps of decoding an element of a sequence: so many for each of its bytes, and a few more.
const STEPS_PER_BYTE: u64 = 8;
const STEPS_SPARE: u64 = 16;
const STEPS_MAX: u64 = 4_096;

/// Whether values of the type `id` can be decoded in time and stack that their bytes pay for.
///
/// # Errors
/// A word about what is wrong with the type.
pub(crate) fn check(types: &PortableRegistry, id: u32) -> Result<(), &'static str> {
    let cost = Measure { types, known: HashMap::new() }.cost(id, 0)?;
    if cost.steps > STEPS_MAX { Err("type is too large") } else { Ok(()) }
}

/// The least that a value takes in bytes, and the most in steps apart from the elements of its sequences.
#[derive(Clone, Copy)]
struct Cost {
    bytes: u64,
    steps: u64,
    /// How many levels of types there are within.
    height: u32,
}

impl Cost {
    /// The cost of what wraps it in one more level.
    fn wrapped(self, bytes: u64) -> Self {
        Self { bytes, steps: self.steps.saturating_add(1), height: self.height.saturating_add(1) }
    }
}

struct Measure<'a> {
    types: &'a PortableRegistry,
    /// `None` for a type that is being measured.
    known: HashMap<u32, Option<Cost>>,
}

impl Measure<'_> {
    fn cost(&mut self, id: u32, depth: u32) -> Result<Cost, &'static str> {
        if depth > DEPTH_MAX {
            return Err("type is nested too deep");
        }
        match self.known.get(&id) {
            // It may stand deeper here than where it was measured.
            Some(Some(cost)) if depth.saturating_add(cost.height) > DEPTH_MAX => {
                return Err("type is nested too deep");
            }
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => return Err("type contains itself"),
            None => {}
        }
        self.known.insert(id, None);
        let types = self.types;
        let resolved = types.resolve(id).ok_or("type is not in the registry")?;
        let cost = self.cost_of(&resolved.type_def, depth + 1)?;
        self.known.insert(id, Some(cost));
        Ok(cost)
    }

    fn cost_of(&mut self, def: &TypeDef<PortableForm>, depth: u32) -> Result<Cost, &'static str> {
        match def {
            TypeDef::Composite(composite) => {
                self.sum(composite.fields.iter().map(|field| field.ty.id), depth)
            }
            TypeDef::Tuple(tuple) => self.sum(tuple.fields.iter().map(|field| field.id), depth),
            TypeDef::Variant(variant) => {
                let mut all = Cost { bytes: u64::MAX, steps: 0, height: 0 };
                for variant in &variant.variants {
                    let one = self.sum(variant.fields.iter().map(|field| field.ty.id), depth)?;
                    all = Cost {
                        bytes: all.bytes.min(one.bytes),
                        steps: all.steps.max(one.steps),
                        height: all.height.max(one.height),
                    };
                }
                let bytes = if variant.variants.is_empty() { 0 } else { all.bytes };
                Ok(Cost { bytes: bytes.saturating_add(1), steps: all.steps.saturating_add(1), ..all })
            }
            TypeDef::Sequence(sequence) => {
                let element = self.element(sequence.type_param.id, depth)?;
                Ok(element.wrapped(1))
            }
            TypeDef::Array(array) => {
                let element = self.element(array.type_param.id, depth)?;
                let bytes = element.bytes.saturating_mul(array.len.into());
                Ok(element.wrapped(bytes))
            }
            TypeDef::Compact(compact) => {
                let inner = self.cost(compact.type_param.id, depth)?;
                Ok(Cost { bytes: 1, steps: 1, height: inner.height.saturating_add(1) })
            }
            TypeDef::Primitive(_) | TypeDef::BitSequence(_) => Ok(Cost { bytes: 1, steps: 1, height: 0 }),
        }
    }

    fn sum(&mut self, ids: impl Iterator<Item = u32>, depth: u32) -> Result<Cost, &'static str> {
        let mut sum = Cost { bytes: 0, steps: 1, height: 0 };
        for id in ids {
            let one = self.cost(id, depth)?;
            sum = Cost {
                bytes: sum.bytes.saturating_add(one.bytes),
                steps: sum.steps.saturating_add(one.steps),
                height: sum.height.max(one.height.saturating_add(1)),
            };
        }
        Ok(sum)
    }

    fn element(&mut self, id: u32, depth: u32) -> Result<Cost, &'static str> {
        let cost = self.cost(id, depth)?;
        if cost.bytes == 0 {
            return Err("type is a sequence of elements without bytes");
        }
        if cost.steps > cost.bytes.saturating_mul(STEPS_PER_BYTE).saturating_add(STEPS_SPARE) {
            return Err("type takes too many steps for its bytes");
        }
        Ok(cost)
    }
}
