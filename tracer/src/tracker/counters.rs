//! The counters of a row.

use synfin_common::{
    port_count::{PortEvent, SynQueueEvent},
    reset::ResetReason,
    state::TcpState,
};

use super::{histogram::LatencyHistogram, listener_drops::DropCauses, segments::Segments};
use crate::{
    tcp::{
        close_reason::{CloseReason, Phase},
        handshake::{Handshake, Unmeasured},
        labels::Enumeration,
    },
    trace::time::Nanos,
};

/// Ends by which a connection notices that something on the path has forgotten it, see
/// [`Counters::idle_cut`]. (One that sends
/// keepalives is not forgotten for being idle.)
pub const IDLE_ENDS: &[CloseReason] = &[
    CloseReason::ResetByPeer,
    CloseReason::TimeoutRetransmission,
    CloseReason::TimeoutUser,
    CloseReason::TimeoutOrphan,
];

/// The counters of a row over an interval. All of them are additive over intervals and rows.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections opened by connect() or as children of a listener, including those found in
    /// SYN_SENT or SYN_RECV.
    pub attempts: u64,
    /// Children of a listener that the kernel discarded before they were established.
    pub discarded: u64,
    /// Handshakes whose completion was observed.
    pub established: u64,
    /// Connections that were already established when found.
    pub adopted: u64,
    closes: Closes,
    /// Durations of handshakes without retransmission, microseconds.
    pub clean: LatencyHistogram,
    /// Durations of handshakes whose SYN or SYN-ACK was retransmitted, microseconds.
    pub retransmitted: LatencyHistogram,
    unmeasured: [u64; Unmeasured::ALL.len()],
    /// Entries into TIME_WAIT.
    pub time_wait_entered: u64,
    /// Entries that the kernel's full TIME_WAIT table (`net.ipv4.tcp_max_tw_buckets`) prevented.
    pub time_wait_overflowed: u64,
    /// Lifetimes of closed connections whose first transition was observed, microseconds.
    pub lifetime: LatencyHistogram,
    /// Times from the last received segment to the close, microseconds.
    pub idle: LatencyHistogram,
    /// Times without a received segment before connections closed abnormally, up to the first
    /// segment that went unanswered, microseconds.
    pub idle_abnormal: LatencyHistogram,
    /// Resets by peers that had closed before ([`CloseReason::ResetByPeer`] in CLOSE_WAIT).
    pub reset_after_fin: u64,
    /// Resets by peers within a second of the start of connections on which the peer had sent nothing.
    pub reset_early: u64,
    /// Attempts that the application canceled before the first SYN was answered or sent again, but
    /// not at once.
    pub cancelled_late: u64,
    /// The part of `idle_abnormal` of connections that ended for one of [`IDLE_ENDS`].
    pub idle_cut: LatencyHistogram,
    /// Smoothed round-trip times of established connections when they closed, microseconds.
    pub rtt: LatencyHistogram,
    /// Segments with data that connections have sent while they were watched, until they closed or the
    /// last scan found them.
    pub segments: Segments,
    /// Number of closed connections that had retransmitted data.
    pub retransmitting: u64,
    /// Length of the accept queue that each new connection found on its listener.
    pub accept_depth: LatencyHistogram,
    /// Times that connections waited for accept(), microseconds. Without
    /// [`OptionalHook::AcceptWait`](crate::tcp::coverage::OptionalHook::AcceptWait) they are
    /// estimates, of those connections that allow one.
    pub accept_wait: LatencyHistogram,
    /// Lower bounds of the inferred times, of all connections; empty with that hook.
    pub accept_wait_at_least: LatencyHistogram,
    /// Upper bounds of the inferred times, of all connections; empty with that hook.
    pub accept_wait_at_most: LatencyHistogram,
    syn_queue: [u64; SynQueueEvent::ALL.len()],
    /// Segments that listeners dropped, for any reason (`sk_drops`).
    pub listener_drops: u64,
    /// Connections for which the accept queue had no room.
    pub accept_overflows: u64,
    /// SYNs that were dropped because the SYN queue was full. No SYN cookies were sent for them.
    pub syn_drops: u64,
    /// SYN cookies sent because the SYN queue was full.
    pub cookies_sent: u64,
    /// Valid SYN cookies that clients returned.
    pub cookies_returned: u64,
    /// Retransmitted SYN-ACKs.
    pub synack_retransmits: u64,
    resets: [u64; ResetReason::COUNT],
    closed_first: [u64; ClosedFirst::ALL.len()],
    /// Payload bytes that peers of closed connections acknowledged.
    pub bytes_sent: u64,
    /// Payload bytes that closed connections received.
    pub bytes_received: u64,
}

/// Connections closed for each reason. (Longer arrays have no `Default`.)
#[derive(Clone, Debug)]
struct Closes {
    counts: [u64; CloseReason::ALL.len()],
    /// When the first one closed; 0 if none.
    first: [Nanos; CloseReason::ALL.len()],
}

impl Default for Closes {
    fn default() -> Self {
        Self { counts: [0; CloseReason::ALL.len()], first: [0; CloseReason::ALL.len()] }
    }
}

impl Closes {
    fn add(&mut self, reason: CloseReason, count: u64, first: Nanos) {
        let index = reason.index();
        self.counts[index] += count;
        let known = [self.first[index], first].into_iter().filter(|&time| time > 0);
        self.first[index] = known.min().unwrap_or(0);
    }

    fn merge(&mut self, other: &Self) {
        for &reason in CloseReason::ALL {
            let index = reason.index();
            self.add(reason, other.counts[index], other.first[index]);
        }
    }
}

impl Counters {
    /// Number of connections closed for this reason.
    pub fn ended(&self, reason: CloseReason) -> u64 {
        self.closes.counts[reason.index()]
    }

    /// When the first connection closed for this reason (CLOCK_MONOTONIC, nanoseconds); `None` if none
    /// did.
    pub fn first_ended(&self, reason: CloseReason) -> Option<Nanos> {
        Some(self.closes.first[reason.index()]).filter(|&time| time > 0)
    }

    /// Number of connections that failed: closed before they were established.
    pub fn failed(&self) -> u64 {
        self.sum(|reason| reason.phase() == Phase::Handshake)
    }

    /// Number of connections closed after they were established.
    pub fn closed(&self) -> u64 {
        self.sum(|reason| reason.phase() == Phase::Established)
    }

    /// Number of connections closed for one of the reasons that `which` selects.
    pub fn sum(&self, which: impl Fn(CloseReason) -> bool) -> u64 {
        CloseReason::ALL
            .iter()
            .filter(|&&reason| which(reason))
            .map(|&reason| self.ended(reason))
            .sum()
    }

    /// Number of handshakes without a measured duration for this cause.
    pub fn unmeasured(&self, cause: Unmeasured) -> u64 {
        self.unmeasured[cause as usize]
    }

    /// Number of handshakes without a measured duration.
    pub fn unmeasured_total(&self) -> u64 {
        self.unmeasured.iter().sum()
    }

    /// Number of resets sent without a connection for this reason.
    pub fn resets(&self, reason: ResetReason) -> u64 {
        self.resets[reason as usize]
    }

    /// Number of resets sent without a connection for any reason.
    pub fn resets_total(&self) -> u64 {
        self.resets.iter().copied().fold(0, u64::saturating_add)
    }

    /// Number of handshakes in a SYN queue with this event; 0 without
    /// [`OptionalHook::SynQueue`](crate::tcp::coverage::OptionalHook::SynQueue).
    pub fn syn_queue(&self, what: SynQueueEvent) -> u64 {
        self.syn_queue[what as usize]
    }

    /// Whether any segment led to no connection, or not yet: handshakes in SYN queues, resets, and
    /// what listeners dropped or answered by a SYN cookie.
    pub(super) fn has_port_events(&self) -> bool {
        let Self { synack_retransmits, listener_drops, syn_drops, cookies_sent, .. } = self;
        [synack_retransmits, listener_drops, syn_drops, cookies_sent]
            .into_iter()
            .chain(&self.syn_queue)
            .chain(&self.resets)
            .any(|&count| count > 0)
    }

    /// Number of connections whose wait for accept() is known, exactly or within bounds.
    pub fn accept_waits(&self) -> u64 {
        self.accept_wait.count().max(self.accept_wait_at_most.count())
    }

    /// Number of connections that this side closed first.
    pub fn closed_first(&self, side: ClosedFirst) -> u64 {
        self.closed_first[side as usize]
    }

    /// Counts a close from this state.
    pub(super) fn close(&mut self, reason: CloseReason, state: TcpState, time: Nanos) {
        self.closes.add(reason, 1, time);
        if let Some(side) = ClosedFirst::by_state(state) {
            self.closed_first[side as usize] += 1;
        }
    }

    pub(super) fn add_port_event(&mut self, counted: PortEvent, count: u64) {
        let sum = self.port_event(counted);
        *sum = sum.saturating_add(count);
    }

    pub(super) fn remove_port_event(&mut self, counted: PortEvent, count: u64) {
        let sum = self.port_event(counted);
        *sum = sum.saturating_sub(count);
    }

    fn port_event(&mut self, counted: PortEvent) -> &mut u64 {
        match counted {
            PortEvent::SynackRetransmit => &mut self.synack_retransmits,
            PortEvent::Reset(reason) => &mut self.resets[reason as usize],
            PortEvent::SynQueue(what) => &mut self.syn_queue[what as usize],
        }
    }

    pub(super) fn add_drops(&mut self, causes: &DropCauses) {
        for (sum, count) in [
            (&mut self.accept_overflows, causes.accept_overflows),
            (&mut self.syn_drops, causes.syn_drops),
            (&mut self.cookies_sent, causes.cookies_sent),
            (&mut self.cookies_returned, causes.cookies_returned),
        ] {
            *sum = sum.saturating_add(count);
        }
    }

    pub(super) fn handshake(&mut self, handshake: &Handshake) {
        match handshake {
            Handshake::Clean { us } => self.clean.add((*us).into()),
            Handshake::Retransmitted { us, .. } => self.retransmitted.add((*us).into()),
            Handshake::Unmeasured(cause) => self.unmeasured[*cause as usize] += 1,
        }
    }

    /// Adds the counters of another row or interval.
    #[expect(clippy::too_many_lines, reason = "it is a list")]
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self {
            attempts,
            discarded,
            established,
            adopted,
            closes,
            clean,
            retransmitted,
            unmeasured,
            time_wait_entered,
            time_wait_overflowed,
            lifetime,
            idle,
            idle_abnormal,
            reset_after_fin,
            reset_early,
            cancelled_late,
            idle_cut,
            rtt,
            segments,
            retransmitting,
            accept_depth,
            accept_wait,
            accept_wait_at_least,
            accept_wait_at_most,
            syn_queue,
            listener_drops,
            accept_overflows,
            syn_drops,
            cookies_sent,
            cookies_returned,
            synack_retransmits,
            resets,
            closed_first,
            bytes_sent,
            bytes_received,
        } = self;
        *attempts += other.attempts;
        *discarded += other.discarded;
        *established += other.established;
        *adopted += other.adopted;
        closes.merge(&other.closes);
        clean.merge(&other.clean);
        retransmitted.merge(&other.retransmitted);
        for (sum, count) in unmeasured.iter_mut().zip(other.unmeasured) {
            *sum += count;
        }
        *time_wait_entered += other.time_wait_entered;
        *time_wait_overflowed += other.time_wait_overflowed;
        lifetime.merge(&other.lifetime);
        idle.merge(&other.idle);
        idle_abnormal.merge(&other.idle_abnormal);
        *reset_after_fin += other.reset_after_fin;
        *reset_early += other.reset_early;
        *cancelled_late += other.cancelled_late;
        idle_cut.merge(&other.idle_cut);
        rtt.merge(&other.rtt);
        *segments += other.segments;
        *retransmitting += other.retransmitting;
        accept_depth.merge(&other.accept_depth);
        accept_wait.merge(&other.accept_wait);
        accept_wait_at_least.merge(&other.accept_wait_at_least);
        accept_wait_at_most.merge(&other.accept_wait_at_most);
        for (sum, count) in syn_queue.iter_mut().zip(other.syn_queue) {
            *sum = sum.saturating_add(count);
        }
        *listener_drops += other.listener_drops;
        for (sum, count) in [
            (accept_overflows, other.accept_overflows),
            (syn_drops, other.syn_drops),
            (cookies_sent, other.cookies_sent),
            (cookies_returned, other.cookies_returned),
        ] {
            *sum = sum.saturating_add(count);
        }
        *synack_retransmits = synack_retransmits.saturating_add(other.synack_retransmits);
        for (sum, count) in resets.iter_mut().zip(other.resets) {
            *sum = sum.saturating_add(count);
        }
        for (sum, count) in closed_first.iter_mut().zip(other.closed_first) {
            *sum += count;
        }
        *bytes_sent = bytes_sent.saturating_add(other.bytes_sent);
        *bytes_received = bytes_received.saturating_add(other.bytes_received);
    }
}

/// The side that sent the first FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedFirst {
    /// This host.
    Us,
    /// The peer.
    Peer,
    /// Both, each before it received the other FIN.
    Both,
}

impl ClosedFirst {
    /// All sides.
    pub const ALL: [Self; 3] = [Self::Us, Self::Peer, Self::Both];

    /// The names of all sides.
    pub const NAMES: Enumeration =
        Enumeration { name: "side", all: || Self::ALL.map(Self::name).into() };

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Peer => "peer",
            Self::Both => "both",
        }
    }

    /// Derived from the state before CLOSE; `None` if no FIN was sent.
    const fn by_state(state: TcpState) -> Option<Self> {
        match state {
            TcpState::FinWait1 | TcpState::FinWait2 => Some(Self::Us),
            TcpState::CloseWait | TcpState::LastAck => Some(Self::Peer),
            TcpState::Closing => Some(Self::Both),
            _ => None,
        }
    }
}
