//! Typed values: both encoders make the same of every serde shape, and what one side sends arrives in the other's types.
//!
//! Two differences are on purpose. A published peer cannot read back what it writes for enums, unit structs and keys that
//! are not strings; ours can. And it makes an array of an extension value that is in a typed value; ours keeps it one.

mod decoding;
mod encoding;
mod end_to_end;
mod shapes;
