//! What adds up over time in a row.

use synfin_common::{
    port_count::{Counted, SynQueue},
    reset::ResetReason,
    state::TcpState,
};

use super::histogram::LatencyHistogram;
use crate::tcp::{
    close_reason::{CloseReason, Phase},
    handshake::{Handshake, Unmeasured},
    labels::Enumeration,
};

/// What adds up over time.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Lives that began here, connects or children of a listener; an adopted SYN_SENT included.
    pub attempts: u64,
    /// Children that the kernel itself took back.
    pub discarded: u64,
    /// Handshakes that were seen to get through.
    pub established: u64,
    /// Connections first seen when they were established already.
    pub adopted: u64,
    ends: [u64; CloseReason::ALL.len()],
    /// Handshakes with nothing sent twice.
    pub clean: LatencyHistogram,
    /// Handshakes whose SYN or SYN-ACK was sent again.
    pub retransmitted: LatencyHistogram,
    unmeasured: [u64; Unmeasured::ALL.len()],
    /// Entries into TIME_WAIT.
    pub time_wait_entered: u64,
    /// Entries that the kernel's full table prevented.
    pub time_wait_overflowed: u64,
    /// From birth to end, of connections whose birth was seen.
    pub lifetime: LatencyHistogram,
    /// From the last received segment to the end.
    pub idle: LatencyHistogram,
    /// The same of those that ended abnormally.
    pub idle_abnormal: LatencyHistogram,
    /// Connections waiting for accept() that each new one found on its listener.
    pub accept_depth: LatencyHistogram,
    /// How long connections waited for accept(), microseconds.
    pub accept_wait: LatencyHistogram,
    syn_queue: [u64; SynQueue::ALL.len()],
    /// What listeners dropped, for whatever reason.
    pub listener_drops: u64,
    /// SYN-ACKs that were sent again.
    pub synack_retransmits: u64,
    resets: [u64; ResetReason::COUNT],
    closed_first: [u64; ClosedFirst::ALL.len()],
    /// Bytes that the peer acknowledged, of connections that have ended.
    pub bytes_sent: u64,
    /// Bytes received, of connections that have ended.
    pub bytes_received: u64,
}

impl Counters {
    /// How many ended for this reason.
    pub fn ended(&self, reason: CloseReason) -> u64 {
        self.ends[reason.index()]
    }

    /// How many ended before they were established.
    pub fn failed(&self) -> u64 {
        self.sum(|reason| reason.phase() == Phase::Handshake)
    }

    /// How many ended after they were established.
    pub fn closed(&self) -> u64 {
        self.sum(|reason| reason.phase() == Phase::Established)
    }

    /// The sum over the reasons that `which` picks.
    pub fn sum(&self, which: impl Fn(CloseReason) -> bool) -> u64 {
        CloseReason::ALL
            .iter()
            .filter(|&&reason| which(reason))
            .map(|&reason| self.ended(reason))
            .sum()
    }

    /// Handshakes without a time, for this cause.
    pub fn unmeasured(&self, cause: Unmeasured) -> u64 {
        self.unmeasured[cause as usize]
    }

    /// Handshakes without a time.
    pub fn unmeasured_total(&self) -> u64 {
        self.unmeasured.iter().sum()
    }

    /// Resets that were sent with no connection behind them, for this reason.
    pub fn resets(&self, reason: ResetReason) -> u64 {
        self.resets[reason as usize]
    }

    /// All of them.
    pub fn resets_total(&self) -> u64 {
        self.resets.iter().copied().fold(0, u64::saturating_add)
    }

    /// How often this befell a handshake in a listener's SYN queue, as far as the kernel shows it.
    pub fn syn_queue(&self, what: SynQueue) -> u64 {
        self.syn_queue[what as usize]
    }

    /// How many were closed first by this side.
    pub fn closed_first(&self, side: ClosedFirst) -> u64 {
        self.closed_first[side as usize]
    }

    /// A connection ended, in this state.
    pub(super) fn end(&mut self, reason: CloseReason, state: TcpState) {
        self.ends[reason.index()] += 1;
        if let Some(side) = ClosedFirst::by_state(state) {
            self.closed_first[side as usize] += 1;
        }
    }

    pub(super) fn count_at_port(&mut self, counted: Counted, count: u64) {
        let sum = match counted {
            Counted::SynackRetransmit => &mut self.synack_retransmits,
            Counted::Reset(reason) => &mut self.resets[reason as usize],
            Counted::SynQueue(what) => &mut self.syn_queue[what as usize],
        };
        *sum = sum.saturating_add(count);
    }

    pub(super) fn handshake(&mut self, handshake: &Handshake) {
        match handshake {
            Handshake::Clean { us } => self.clean.add((*us).into()),
            Handshake::Retransmitted { us, .. } => self.retransmitted.add((*us).into()),
            Handshake::Unmeasured(cause) => self.unmeasured[*cause as usize] += 1,
        }
    }

    /// Adds all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self {
            attempts,
            discarded,
            established,
            adopted,
            ends,
            clean,
            retransmitted,
            unmeasured,
            time_wait_entered,
            time_wait_overflowed,
            lifetime,
            idle,
            idle_abnormal,
            accept_depth,
            accept_wait,
            syn_queue,
            listener_drops,
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
        for (sum, count) in ends.iter_mut().zip(other.ends) {
            *sum += count;
        }
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
        accept_depth.merge(&other.accept_depth);
        accept_wait.merge(&other.accept_wait);
        for (sum, count) in syn_queue.iter_mut().zip(other.syn_queue) {
            *sum = sum.saturating_add(count);
        }
        *listener_drops += other.listener_drops;
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

/// Who sent the first FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedFirst {
    /// We did.
    Us,
    /// The peer did.
    Peer,
    /// Both, before either saw the other's.
    Both,
}

impl ClosedFirst {
    /// All.
    pub const ALL: [Self; 3] = [Self::Us, Self::Peer, Self::Both];

    /// Their names.
    pub const WORDS: Enumeration =
        Enumeration { name: "side", all: || Self::ALL.map(Self::name).into() };

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Peer => "peer",
            Self::Both => "both",
        }
    }

    /// A connection's last state tells.
    const fn by_state(state: TcpState) -> Option<Self> {
        match state {
            TcpState::FinWait1 | TcpState::FinWait2 => Some(Self::Us),
            TcpState::CloseWait | TcpState::LastAck => Some(Self::Peer),
            TcpState::Closing => Some(Self::Both),
            _ => None,
        }
    }
}
