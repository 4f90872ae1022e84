//! One file per hook.

mod reset;
mod reset_received;
mod reset_sent;
mod state_change;
mod synack_retransmit;
