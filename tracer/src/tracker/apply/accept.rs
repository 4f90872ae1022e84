//! Time from the start of a connection to accept(); needs the fexit hook on inet_csk_accept.

use crate::{
    tcp::{coverage::OptionalHook, role::Role},
    trace::event::{Accepted, Input},
    tracker::{Tracker, connections::Origin},
};

impl Tracker {
    /// accept() returned a connection. It waited since its first transition: that is when the kernel
    /// puts a child into its listener's queue.
    pub(in crate::tracker) fn accepted(&mut self, accepted: &Accepted) {
        let &Accepted { time, sock } = accepted;
        if !self.coverage.has(OptionalHook::AcceptWait) {
            return;
        }
        let Some(connection) = self.connections.get_mut(sock) else {
            return self.filter_event(sock, time, Input::Accepted(*accepted));
        };
        let is_seen_whole =
            connection.role == Role::Server && connection.origin == Origin::Observed;
        if is_seen_whole && !std::mem::replace(&mut connection.evidence.accepted, true) {
            let waited = time.saturating_sub(connection.first_seen) / 1000;
            self.rows.get_mut(connection.row).interval.accept_wait.add(waited);
        }
    }
}
