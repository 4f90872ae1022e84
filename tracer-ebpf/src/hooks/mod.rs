//! One file per hook, and what several hooks share: [`reset`] and [`socket_event`].

mod accept;
mod accept_syscall;
mod reset;
mod reset_received;
mod reset_sent;
mod socket_event;
mod state_change;
mod syn_queue;
mod synack_retransmit;
mod time_wait;
