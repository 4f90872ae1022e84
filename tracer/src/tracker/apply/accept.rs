//! Time from the start of a connection to accept(); needs the fexit hook on inet_csk_accept.

use crate::{
    tcp::{coverage::OptionalHook, role::Role},
    trace::event::{Accepted, Input},
    tracker::{Tracker, connections::Origin},
};

impl Tracker {
    /// Applies the return of a connection by accept(). The connection waited since its first
    /// transition, at which the kernel puts a child into its listener's queue.
    pub(in crate::tracker) fn apply_accepted(&mut self, accepted: &Accepted) {
        let &Accepted { time, sock } = accepted;
        if !self.coverage.has(OptionalHook::AcceptWait) {
            return;
        }
        let Some(connection) = self.connections.get_mut(sock) else {
            return self.filter_event(sock, time, Input::Accepted(*accepted));
        };
        let is_measurable =
            connection.role == Role::Server && connection.origin == Origin::Observed;
        if is_measurable && !std::mem::replace(&mut connection.evidence.accepted, true) {
            let waited = time.saturating_sub(connection.first_seen) / 1000;
            self.rows.get_mut(connection.row).counters.accept_wait.add(waited);
        }
    }
}
