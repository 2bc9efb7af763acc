//! The systems that are compared, a file each.

pub mod certificate;
pub mod grpc;
pub mod on_ours;
pub mod on_published;
pub mod quinn;
pub mod typed;
