//! One file per hook.

mod reset_received;
mod state_change;
mod synack_retransmit;
