//! The words of TCP: roles, states, handshakes, close reasons. Imports nothing above it.

pub mod close_reason;
pub mod coverage;
pub mod group_by;
pub mod handshake;
pub mod labels;
pub mod role;
pub mod state;
pub(crate) mod transition;
