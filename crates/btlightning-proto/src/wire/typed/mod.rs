//! The typed payload: any serde type into the frame, and out of it, without dynamic values in between.
//!
//! How a type looks on the wire, which is what btlightning 0.2 makes of it:
//!
//! | serde | MessagePack |
//! |---|---|
//! | struct, map | map; a struct's keys are its field names |
//! | sequence, tuple, tuple struct | array |
//! | `None`, unit, unit struct | nil |
//! | `Some`, newtype struct | what is in it |
//! | unit variant | its index |
//! | any other variant | a map of one entry: its index, and what is in it |
//! | integer | integer, smallest encoding |
//! | `f32`, `f64` | float of the same width |
//! | string, `char` | string |
//! | bytes (`serde_bytes`) | byte string |
//! | [`rmpv::Value::Ext`] | extension |
//!
//! `u128` and `i128` are refused. Types that have a form for people, such as IP addresses, are written in it.
//!
//! The payload itself is a map with string keys: a struct, a map, or a variant that holds something. Its keys are
//! turned into strings if they are not (`1` into `"1"`), at the outermost level only.
//!
//! All of these come back as what they were, with two exceptions that serde makes: `Some(None)` and `Some(())` come
//! back as `None`, and a unit variant does not come back out of a flattened, untagged or internally tagged type,
//! because serde buffers those and takes a number there for a number.

mod bytes;
mod de;
mod key;
mod meter;
mod ser;
mod variant;

pub use de::from_payload;
pub use ser::to_payload;
