//! Both clients send the same bytes, and make the same of whatever they are answered; where ours does not, it is written
//! down here.
//!
//! A bare QUIC server answers, so that the clients also hear what no package says.

mod acceptances;
mod answers;
mod chunks;
mod requests;
mod stage;
