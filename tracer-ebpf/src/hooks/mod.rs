//! One file per hook.

mod accept;
mod aside;
mod reset;
mod reset_received;
mod reset_sent;
mod state_change;
mod syn_queue;
mod synack_retransmit;
mod time_wait;
