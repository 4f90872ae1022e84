//! What is known of accept(), where the kernel shows it.

use crate::{
    tcp::{coverage::OptionalHook, role::Role},
    trace::event::{Accepted, Input},
    tracker::{Tracker, connections::Origin},
};

impl Tracker {
    /// accept() has taken a connection, which has waited for it since its birth: that is when a
    /// child is put into its listener's queue.
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
