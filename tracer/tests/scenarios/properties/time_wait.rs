//! TIME_WAITs of the model, and orphans in FIN_WAIT2 on the way there. A timer ends them, with a
//! delay, or another event ends them before.

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

/// `net.ipv4.tcp_fin_timeout`, shorter than the tests wait.
const FIN_TIMEOUT: Nanos = 4 * SECOND;

/// The timewait socket that replaces a closed socket.
#[derive(Clone, Debug)]
pub(crate) struct TimeWait {
    pub(crate) socket: Socket,
    in_fin_wait2: bool,
    /// When the peer's FIN arrives, if it does.
    fin: Option<Nanos>,
    /// When its timer expires.
    expiry: Nanos,
    /// The delay of the timer.
    lateness: Nanos,
    /// Whether its entry was reported or a complete scan found it.
    pub(crate) is_known: bool,
    /// Whether the current scan has found it.
    pub(crate) is_found: bool,
}

/// A change that needs no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    EntersTimeWait,
    Ends,
}

/// The future of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Future {
    /// When the peer's FIN arrives, if it does.
    pub(crate) fin_after: Option<Nanos>,
    /// The delay of a timer, in hundredths of its time.
    pub(crate) lateness: u64,
}

impl TimeWait {
    pub(crate) fn new(socket: Socket, kind: TimeWaitKind, now: Nanos, future: Future) -> Self {
        let in_fin_wait2 = kind == TimeWaitKind::FinWait2;
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

    /// When its timer expires at the earliest.
    pub(crate) fn expiry(&self) -> Nanos {
        self.expiry
    }

    /// The time of its next change, and the change.
    pub(crate) fn next(&self) -> (Nanos, Change) {
        let length = if self.in_fin_wait2 { FIN_TIMEOUT } else { TIME_WAIT_LENGTH };
        let end = self.expiry + length / 100 * self.lateness;
        match self.fin {
            Some(fin) if fin < end => (fin, Change::EntersTimeWait),
            _ => (end, Change::Ends),
        }
    }

    /// The peer's FIN has arrived.
    pub(crate) fn enter_time_wait(&mut self, now: Nanos) {
        (self.in_fin_wait2, self.fin, self.expiry) = (false, None, now + TIME_WAIT_LENGTH);
    }

    /// The result of a scan that finds it.
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
