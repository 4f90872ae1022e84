//! Vocabulary of the domain: roles, states, handshakes, close reasons. Imports no other module.

pub mod close_reason;
pub mod coverage;
pub mod group_by;
pub mod handshake;
pub mod labels;
pub mod role;
pub mod state;
pub(crate) mod transition;
