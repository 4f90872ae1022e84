//! What sockets of the model leave behind: TIME_WAITs, and orphans in FIN_WAIT2 on the way there.
//! The kernel's timers end them, late, or something else does before.

use synfin::{
    tcp::role::Role,
    trace::{
        event::{Input, TimeWaitKind},
        scan::ScannedTimeWait,
        time::Nanos,
    },
};
use synfin_testkit::{MILLISECOND, SECOND, Socket};

const TIME_WAIT_LENGTH: Nanos = 60 * SECOND;

/// `net.ipv4.tcp_fin_timeout`: not longer than the tests wait.
const FIN_TIMEOUT: Nanos = 4 * SECOND;

/// What one socket left behind.
#[derive(Clone, Debug)]
pub(crate) struct TimeWait {
    pub(crate) socket: Socket,
    in_fin_wait2: bool,
    /// When the peer's FIN comes, if it is awaited and comes.
    fin: Option<Nanos>,
    /// What its timer is set to.
    expiry: Nanos,
    /// By how much the timer is late.
    lateness: Nanos,
    /// Its entry was reported, or a scan that is complete found it.
    pub(crate) is_known: bool,
    /// The scan that goes on has found it.
    pub(crate) is_found: bool,
}

/// What happens to one by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Turns,
    Ends,
}

/// What decides how one goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Future {
    /// When the peer's FIN comes, if it does.
    pub(crate) fin_after: Option<Nanos>,
    /// By how much of a timer's time it is late, in hundredths.
    pub(crate) lateness: u64,
}

impl TimeWait {
    pub(crate) fn new(socket: Socket, remains: TimeWaitKind, now: Nanos, future: Future) -> Self {
        let in_fin_wait2 = remains == TimeWaitKind::FinWait2;
        let length = if in_fin_wait2 { FIN_TIMEOUT } else { TIME_WAIT_LENGTH };
        Self {
            socket,
            in_fin_wait2,
            fin: future.fin_after.filter(|_| in_fin_wait2).map(|after| now + after),
            expiry: now + length,
            lateness: future.lateness,
            is_known: true,
            is_found: false,
        }
    }

    pub(crate) fn is_orphan(&self) -> bool {
        self.in_fin_wait2
    }

    /// When its timer runs down at the earliest.
    pub(crate) fn expiry(&self) -> Nanos {
        self.expiry
    }

    /// When something happens to it, and what.
    pub(crate) fn next(&self) -> (Nanos, Change) {
        let length = if self.in_fin_wait2 { FIN_TIMEOUT } else { TIME_WAIT_LENGTH };
        let end = self.expiry + length / 100 * self.lateness;
        match self.fin {
            Some(fin) if fin < end => (fin, Change::Turns),
            _ => (end, Change::Ends),
        }
    }

    /// The peer's FIN has come.
    pub(crate) fn turns(&mut self, now: Nanos) {
        (self.in_fin_wait2, self.fin, self.expiry) = (false, None, now + TIME_WAIT_LENGTH);
    }

    /// What a scan finds of it.
    pub(crate) fn as_found(&self, now: Nanos) -> Input {
        Input::ScannedTimeWait(ScannedTimeWait {
            fin_wait2: self.in_fin_wait2,
            port_by_connect: Some(self.socket.role == Role::Client),
            local: self.socket.local,
            remote: self.socket.remote,
            remaining_ms: (self.expiry.saturating_sub(now) / MILLISECOND) as u32,
        })
    }
}
