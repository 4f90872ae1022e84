//! Lives as the kernel reports them, and what the tracker makes of each: one row per way to open,
//! to shake hands and to end. The rows are what kernels 5.10 to 7.x were seen to do.

use std::{collections::BTreeSet, net::SocketAddr};

use nix::errno::Errno;
use synfin::{
    tcp::{
        close_reason::{
            CloseReason::{self, *},
            Phase,
        },
        group_by::By,
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    trace::{
        event,
        event::{Input, Reset, ResetDirection, Transition},
        ids,
        scan::{ScanBegin, ScanEnd, ScannedSocket},
    },
    tracker::{Change, ChangeKinds, Limits, Tracker},
};
use synfin_common::{
    event::Flags,
    reset::ResetReason::{self, *},
    state::TcpState::{self, *},
};

/// What close() and shutdown(SHUT_RDWR) leave.
const SHUT: Flags = Flags::SHUT_READ.with(Flags::SHUT_WRITE);
/// A socket that no process holds any more.
const ORPHAN: Flags = SHUT.with(Flags::DEAD);
/// A socket that a process holds.
const HELD: Flags = Flags::HAS_SOCKET;
const NONE: Flags = Flags(0);

#[test]
fn attempts_fail() {
    check(failures());
}

#[test]
fn connections_end() {
    check(ends());
}

#[test]
fn handshakes_are_timed_or_not() {
    check(handshakes());
}

#[test]
fn every_reason_has_a_row() {
    let rows = [failures(), ends(), handshakes()].concat();
    let decided: BTreeSet<_> = rows.iter().filter_map(|row| row.expected.reason).collect();
    let without = |reason: &CloseReason| !decided.contains(reason);
    let missing: Vec<_> = CloseReason::ALL.iter().copied().filter(without).collect();
    assert_eq!(missing, []);
}

/// Attempts that never become a connection.
fn failures() -> Vec<Row> {
    vec![
        row(
            "RST for the SYN",
            client().reset_received().err(Errno::ECONNREFUSED),
            ends_by(ConnectRefusedRst),
        ),
        row(
            "ICMP port unreachable",
            client().err(Errno::ECONNREFUSED),
            ends_by(ConnectRefusedIcmp),
        ),
        row(
            "ICMP protocol unreachable",
            client().err(Errno::ENOPROTOOPT),
            ends_by(ConnectRefusedIcmp),
        ),
        row(
            "ICMP host unreachable",
            client().err(Errno::EHOSTUNREACH),
            ends_by(ConnectUnreachableHost),
        ),
        row("ICMP host isolated", client().err(Errno::ENONET), ends_by(ConnectUnreachableHost)),
        row("ICMP host unknown", client().err(Errno::EHOSTDOWN), ends_by(ConnectUnreachableHost)),
        row(
            "ICMP network unreachable",
            client().err(Errno::ENETUNREACH),
            ends_by(ConnectUnreachableNet),
        ),
        row("no answer to any SYN", client().err(Errno::ETIMEDOUT), ends_by(ConnectTimeout)),
        row("closed while connecting", client().flags(HELD.with(SHUT)), ends_by(ConnectCancelled)),
        row("killed while connecting", client().flags(ORPHAN), ends_by(ConnectCancelled)),
        row("no local port left", client().flags(HELD), ends_by(ConnectLocalFailure)),
        row("ss -K while connecting", client().err(Errno::ECONNABORTED), ends_by(ConnectDestroyed)),
        row("an error of another kind", client().err(Errno::EACCES), ends_by(ConnectUnknown)),
        row("gone at a walk while connecting", client().vanishes(), ends_by(ConnectLostSight)),
        row("child lost the hash race", server().flags(Flags::DEAD), never_was()),
        row(
            "simultaneous open, reset",
            client().goes(&[SynRecv]).reset_received().err(Errno::ECONNRESET),
            ends_by(HandshakeAborted),
        ),
        row(
            "simultaneous open, timed out",
            client().goes(&[SynRecv]).err(Errno::ETIMEDOUT),
            ends_by(HandshakeAborted),
        ),
        row(
            "Fast Open child, never accepted, reset with its listener",
            server().resets_after(State, false),
            ends_by(HandshakeAborted),
        ),
        row("Fast Open child, reset", server().err(Errno::ECONNRESET), ends_by(HandshakeAborted)),
        row(
            "Fast Open child, timed out",
            server().err(Errno::ETIMEDOUT),
            ends_by(HandshakeAborted),
        ),
        row(
            "Fast Open child, closed with unread data",
            server().unread(7).flags(HELD.with(SHUT)),
            ends_by(HandshakeAborted),
        ),
    ]
}

/// Connections that were established, and end.
fn ends() -> Vec<Row> {
    let open = |states: &[TcpState]| client().goes(&[&[Established], states].concat());
    let child = |states: &[TcpState]| server().goes(&[&[Established], states].concat());
    vec![
        row("passive close", open(&[CloseWait, LastAck]).flags(ORPHAN), ends_by(ClosedByPeer)),
        row(
            "passive close of a child",
            child(&[CloseWait, LastAck]).flags(ORPHAN),
            ends_by(ClosedByPeer),
        ),
        row(
            "active close, FIN later",
            open(&[FinWait1, FinWait2]).flags(ORPHAN),
            ends_by(ClosedByUs).and(TimeWait::Entered),
        ),
        row(
            "active close, FIN with the ACK",
            child(&[FinWait1, FinWait2]).flags(ORPHAN.with(Flags::FIN_RECEIVED)),
            ends_by(ClosedByUs).and(TimeWait::Entered),
        ),
        row(
            "half close, FIN while the socket is held",
            open(&[FinWait1, FinWait2]).flags(HELD.with(SHUT).with(Flags::FIN_RECEIVED)),
            ends_by(ClosedByUs).and(TimeWait::Entered),
        ),
        row(
            "simultaneous close",
            open(&[FinWait1, TcpState::Closing]).flags(ORPHAN),
            ends_by(ClosedByBoth).and(TimeWait::Entered),
        ),
        row(
            "active close, TIME_WAIT table full",
            open(&[FinWait1, FinWait2]).flags(ORPHAN.with(Flags::TIME_WAIT_FULL)),
            ends_by(ClosedByUs).and(TimeWait::Doubtful),
        ),
        row(
            "passive close, TIME_WAIT table full",
            open(&[CloseWait, LastAck]).flags(ORPHAN.with(Flags::TIME_WAIT_FULL)),
            ends_by(ClosedByPeer),
        ),
        row(
            "negative TCP_LINGER2",
            open(&[FinWait1, FinWait2]).flags(ORPHAN.with(Flags::LINGER2_NEGATIVE)),
            ends_by(ResetByUsLinger2),
        ),
        row(
            "negative TCP_LINGER2, closed in FIN_WAIT2",
            open(&[FinWait1, FinWait2])
                .flags(ORPHAN.with(Flags::LINGER2_NEGATIVE))
                .resets_after(AbortOnLinger, false),
            ends_by(ResetByUsLinger2),
        ),
        row(
            "data with the ACK of our FIN",
            open(&[FinWait1, FinWait2]).flags(ORPHAN).resets_after(AbortOnData, true),
            ends_by(ResetByUsDataAfterClose),
        ),
        row(
            "data with the ACK of our FIN, kernel without reasons",
            open(&[FinWait1, FinWait2]).flags(ORPHAN).resets_after(NotGiven, true),
            ends_by(ResetByUsDataAfterClose),
        ),
        row(
            "data after close",
            open(&[FinWait1])
                .flags(ORPHAN)
                .reset_received()
                .err(Errno::ECONNRESET)
                .resets_after(AbortOnData, true),
            ends_by(ResetByUsDataAfterClose),
        ),
        row(
            "data after both closed",
            open(&[FinWait1, TcpState::Closing])
                .flags(ORPHAN)
                .reset_received()
                .err(Errno::ECONNRESET)
                .resets_after(NotGiven, true),
            ends_by(ResetByUsDataAfterClose),
        ),
        row(
            "the peer's FIN never comes (tcp_fin_timeout)",
            open(&[FinWait1, FinWait2]).flags(ORPHAN).resets_before(State),
            ends_by(TimeoutOrphan),
        ),
        row("RST", open(&[]).flags(HELD).err(Errno::ECONNRESET), ends_by(ResetByPeer)),
        row(
            "RST in CLOSE_WAIT",
            child(&[CloseWait]).flags(HELD).err(Errno::EPIPE),
            ends_by(ResetByPeer),
        ),
        row(
            "RST in FIN_WAIT1",
            open(&[FinWait1]).flags(ORPHAN).err(Errno::ECONNRESET),
            ends_by(ResetByPeerClosing),
        ),
        row(
            "RST in FIN_WAIT2",
            open(&[FinWait1, FinWait2]).flags(ORPHAN).err(Errno::ECONNRESET),
            ends_by(ResetByPeerClosing),
        ),
        row(
            "RST in CLOSING",
            open(&[FinWait1, TcpState::Closing]).flags(ORPHAN).err(Errno::ECONNRESET),
            ends_by(ResetByPeerClosing),
        ),
        row(
            "RST in LAST_ACK",
            child(&[CloseWait, LastAck]).flags(ORPHAN).err(Errno::ECONNRESET),
            ends_by(ResetByPeerClosing),
        ),
        row(
            "close with unread data",
            child(&[]).unread(1).flags(HELD.with(SHUT)),
            ends_by(ResetByUsUnreadData),
        ),
        row(
            "close with unread data after the peer's FIN",
            child(&[CloseWait]).unread(1).flags(HELD.with(SHUT)),
            ends_by(ResetByUsUnreadData),
        ),
        row(
            "linger 0 and unread data",
            open(&[]).unread(1).flags(HELD.with(SHUT).with(Flags::LINGER0)),
            ends_by(ResetByUsUnreadData),
        ),
        row(
            "linger 0",
            open(&[]).flags(HELD.with(SHUT).with(Flags::LINGER0)),
            ends_by(ResetByUsLinger0),
        ),
        row(
            "linger 0 after the peer's FIN",
            open(&[CloseWait]).flags(HELD.with(SHUT).with(Flags::LINGER0)),
            ends_by(ResetByUsLinger0),
        ),
        row("connect(AF_UNSPEC)", open(&[]).flags(HELD), ends_by(ResetByUsDisconnect)),
        row(
            "half closed, then linger 0",
            open(&[FinWait1, FinWait2]).flags(HELD.with(SHUT).with(Flags::LINGER0)),
            ends_by(ResetByUsLinger0),
        ),
        row(
            "half closed, then close with unread data",
            open(&[FinWait1, FinWait2]).unread(1).flags(HELD.with(SHUT)),
            ends_by(ResetByUsUnreadData),
        ),
        row(
            "half closed, then connect(AF_UNSPEC)",
            open(&[FinWait1, FinWait2]).flags(HELD.with(Flags::SHUT_WRITE)),
            ends_by(ResetByUsDisconnect),
        ),
        row(
            "half closed after the peer's FIN, then linger 0",
            child(&[CloseWait, LastAck])
                .flags(HELD.with(SHUT).with(Flags::LINGER0).with(Flags::UNACKNOWLEDGED)),
            ends_by(ResetByUsLinger0),
        ),
        row("listener closed, child queued", child(&[]), ends_by(ResetByUsListenerClosed)),
        row(
            "listener closed, child queued after the peer's FIN",
            child(&[CloseWait]).flags(Flags::FIN_RECEIVED.with(Flags::SHUT_READ)),
            ends_by(ResetByUsListenerClosed),
        ),
        row(
            "data not acknowledged",
            open(&[]).flags(HELD.with(Flags::UNACKNOWLEDGED)).err(Errno::ETIMEDOUT),
            ends_by(TimeoutRetransmission),
        ),
        row(
            "data not acknowledged, under the name of an ICMP error",
            open(&[]).flags(HELD.with(Flags::UNACKNOWLEDGED)).err(Errno::EHOSTUNREACH),
            ends_by(TimeoutRetransmission),
        ),
        row(
            "keepalive not answered",
            open(&[]).probes(9).flags(HELD).err(Errno::ETIMEDOUT).resets_before(KeepaliveTimeout),
            ends_by(TimeoutKeepalive),
        ),
        row(
            "keepalive not answered, kernel without reasons",
            open(&[]).probes(9).flags(HELD).err(Errno::ETIMEDOUT).resets_before(NotGiven),
            ends_by(TimeoutKeepalive),
        ),
        row(
            "keepalive not answered, no hook on resets",
            open(&[]).probes(9).flags(HELD).err(Errno::ETIMEDOUT),
            ends_by(TimeoutKeepalive),
        ),
        row(
            "keepalive not answered for TCP_USER_TIMEOUT",
            open(&[])
                .probes(3)
                .flags(HELD.with(Flags::USER_TIMEOUT))
                .err(Errno::ETIMEDOUT)
                .resets_before(KeepaliveTimeout),
            ends_by(TimeoutUser),
        ),
        row(
            "data not acknowledged for TCP_USER_TIMEOUT",
            open(&[])
                .flags(HELD.with(Flags::UNACKNOWLEDGED).with(Flags::USER_TIMEOUT))
                .err(Errno::ETIMEDOUT),
            ends_by(TimeoutUser),
        ),
        row(
            "window probes not answered",
            open(&[]).probes(9).flags(HELD.with(Flags::UNSENT)).err(Errno::ETIMEDOUT),
            ends_by(TimeoutZeroWindow),
        ),
        row(
            "window closed over data that was sent",
            open(&[])
                .flags(HELD.with(Flags::UNACKNOWLEDGED).with(Flags::ZERO_WINDOW))
                .err(Errno::ETIMEDOUT),
            ends_by(TimeoutZeroWindow),
        ),
        row(
            "FIN not acknowledged",
            open(&[FinWait1]).flags(ORPHAN.with(Flags::UNACKNOWLEDGED)).err(Errno::ETIMEDOUT),
            ends_by(TimeoutOrphan),
        ),
        row(
            "last FIN not acknowledged",
            child(&[CloseWait, LastAck])
                .flags(ORPHAN.with(Flags::UNACKNOWLEDGED))
                .err(Errno::ETIMEDOUT),
            ends_by(TimeoutOrphan),
        ),
        row("ss -K", open(&[]).flags(HELD).err(Errno::ECONNABORTED), ends_by(DestroyedByAdmin)),
        row(
            "ss -K in FIN_WAIT2",
            open(&[FinWait1, FinWait2]).flags(ORPHAN).err(Errno::ECONNABORTED),
            ends_by(DestroyedByAdmin),
        ),
        row(
            "checkpointed (TCP_REPAIR)",
            open(&[]).flags(HELD.with(SHUT).with(Flags::REPAIR)),
            ends_by(DestroyedByAdmin),
        ),
        row(
            "Fast Open child, closed before its handshake was through",
            server().goes(&[FinWait1, FinWait2]).flags(ORPHAN),
            ends_by(ClosedByUs)
                .and(TimeWait::Entered)
                .after(Handshake::Unmeasured(Unmeasured::EvidenceLost)),
        ),
        row("gone at a walk", open(&[]).vanishes(), ends_by(LostSight)),
        row("gone at a walk while closing", child(&[CloseWait]).vanishes(), ends_by(LostSight)),
        row(
            "orphan, too many of them",
            open(&[FinWait1]).flags(ORPHAN).resets_after(AbortOnMemory, false),
            ends_by(ResetByUsMemory),
        ),
        row(
            "orphan, too many of them, kernel without reasons",
            open(&[FinWait1]).flags(ORPHAN).resets_after(NotGiven, false),
            ends_by(ResetByUsMemory),
        ),
        row(
            "orphan, out of memory while its FIN was sent again",
            child(&[CloseWait, LastAck])
                .flags(ORPHAN.with(Flags::UNACKNOWLEDGED))
                .resets_before(AbortOnMemory),
            ends_by(ResetByUsMemory),
        ),
        row(
            "namespace removed, and nothing was sent",
            open(&[FinWait1]).flags(ORPHAN),
            ends_by(NamespaceGone),
        ),
        row(
            "aborted, and nothing shows why",
            open(&[]).flags(HELD.with(SHUT)),
            ends_by(CloseReason::Unknown),
        ),
    ]
}

/// Handshakes that get through. Each of these connections is then closed by the peer.
fn handshakes() -> Vec<Row> {
    let closed_after = |handshake| ends_by(ClosedByPeer).after(handshake);
    let through = [Established, CloseWait, LastAck];
    let client = || client().goes(&through);
    let server = || server().goes(&through);
    let clean = |us| closed_after(Handshake::Clean { us });
    let retransmitted = |us, times| closed_after(Handshake::Retransmitted { us, times });
    let unmeasured = |cause| closed_after(Handshake::Unmeasured(cause));
    vec![
        row("client", client().round_trip(30_338), clean(30_338)),
        row("server", server().round_trip(50_288), clean(50_288)),
        row("client, a whole millisecond", client().round_trip(1_000), clean(1_000)),
        row(
            "client, SYN sent twice: from the first SYN on",
            client().takes_ms(1_051).round_trip(30_000).resent(1),
            retransmitted(1_051_000, 1),
        ),
        row(
            "client, SYN sent twice, no timestamps",
            client().takes_ms(1_051).round_trip(0).resent(1),
            retransmitted(1_051_000, 1),
        ),
        row(
            "client, SYN with Fast Open sent twice: when the first left is not known",
            client().takes_ms(1_051).round_trip(0).resent(1).at_handshake(Flags::FAST_OPEN),
            unmeasured(Unmeasured::FastOpen),
        ),
        row(
            "client, SYN only sent with the first data (Fast Open)",
            client().takes_ms(51).round_trip(187),
            clean(187),
        ),
        row(
            "client, simultaneous open",
            client().goes(&[SynRecv, Established, CloseWait, LastAck]).round_trip(900),
            clean(900),
        ),
        row(
            "server, SYN-ACK sent twice: from the first SYN-ACK on",
            server().round_trip(1_056_113).resent(1).at_handshake(Flags::SINCE_FIRST_SYNACK),
            retransmitted(1_056_113, 1),
        ),
        row(
            "server, SYN-ACK sent twice, a kernel that shows only the last try",
            server().round_trip(30_000).resent(1),
            unmeasured(Unmeasured::EvidenceLost),
        ),
        row(
            "server, SYN cookie without timestamps",
            server().round_trip(0),
            unmeasured(Unmeasured::SynCookie),
        ),
        row(
            "server, SYN cookie with timestamps: whole milliseconds",
            server().round_trip(55_000),
            unmeasured(Unmeasured::SynCookie),
        ),
        row(
            "server, TCP_DEFER_ACCEPT",
            server().at_birth(Flags::DEFER_ACCEPT).round_trip(200_656),
            unmeasured(Unmeasured::DeferredAccept),
        ),
        row(
            "checkpoint restored (TCP_REPAIR)",
            client().round_trip(0).at_handshake(Flags::REPAIR),
            unmeasured(Unmeasured::Repair),
        ),
        row("client, no sample", client().round_trip(0), unmeasured(Unmeasured::EvidenceLost)),
        row(
            "client, older than the trace, SYN sent twice",
            client().unseen_birth().takes_ms(1_051).resent(1),
            unmeasured(Unmeasured::EvidenceLost),
        ),
        row(
            "client, older than the trace, connecting still",
            client().unseen_birth().round_trip(30_338),
            clean(30_338),
        ),
    ]
}

/// A connection, and what is to be said of it.
#[derive(Clone)]
struct Row {
    name: &'static str,
    script: Script,
    expected: Ending,
}

fn row(name: &'static str, script: Script, expected: Ending) -> Row {
    Row { name, script, expected }
}

fn check(rows: Vec<Row>) {
    let wrong: Vec<_> = rows
        .iter()
        .map(|row| (row, row.script.play()))
        .filter(|(row, ending)| *ending != row.expected)
        .map(|(row, ending)| format!("{}:\n  {ending:?}, not\n  {:?}", row.name, row.expected))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is said of a connection after its end.
#[derive(Clone, Debug, PartialEq)]
struct Ending {
    /// `None`: it never was a connection.
    reason: Option<CloseReason>,
    time_wait: TimeWait,
    handshake: Option<Handshake>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TimeWait {
    None,
    Entered,
    /// Only the kernel knows, which says it later.
    Doubtful,
}

/// Without a TIME_WAIT; if it was established, after the handshake that [`Script`]s have.
fn ends_by(reason: CloseReason) -> Ending {
    let handshake =
        (reason.phase() == Phase::Established).then_some(Handshake::Clean { us: ROUND_TRIP_US });
    Ending { reason: Some(reason), time_wait: TimeWait::None, handshake }
}

fn never_was() -> Ending {
    Ending { reason: None, time_wait: TimeWait::None, handshake: None }
}

impl Ending {
    fn and(self, time_wait: TimeWait) -> Self {
        Self { time_wait, ..self }
    }

    fn after(self, handshake: Handshake) -> Self {
        Self { handshake: Some(handshake), ..self }
    }
}

const ROUND_TRIP_US: u32 = 187;

/// How a connection goes, as the kernel reports it.
#[derive(Clone)]
struct Script {
    role: Role,
    states: Vec<TcpState>,
    birth_seen: bool,
    birth_flags: Flags,
    takes_ms: u64,
    round_trip_us: u32,
    resent: u32,
    handshake_flags: Flags,
    reset_received: bool,
    /// When, why, and whether in answer to a segment.
    reset_sent: Option<(Side, ResetReason, bool)>,
    end_seen: bool,
    end_flags: Flags,
    err: u8,
    unread: u32,
    probes: u8,
}

/// A connection from connect() on.
fn client() -> Script {
    Script {
        role: Role::Client,
        states: Vec::new(),
        birth_seen: true,
        birth_flags: HELD,
        takes_ms: 1,
        round_trip_us: ROUND_TRIP_US,
        resent: 0,
        handshake_flags: NONE,
        reset_received: false,
        reset_sent: None,
        end_seen: true,
        end_flags: NONE,
        err: 0,
        unread: 0,
        probes: 0,
    }
}

/// A connection from a listener on.
fn server() -> Script {
    Script { role: Role::Server, birth_flags: NONE, ..client() }
}

/// On which side of the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl Script {
    /// The states between birth and end.
    fn goes(self, states: &[TcpState]) -> Self {
        Self { states: states.to_vec(), ..self }
    }

    fn unseen_birth(self) -> Self {
        Self { birth_seen: false, ..self }
    }

    fn at_birth(self, flags: Flags) -> Self {
        Self { birth_flags: self.birth_flags.with(flags), ..self }
    }

    /// From the birth to the next record.
    fn takes_ms(self, takes_ms: u64) -> Self {
        Self { takes_ms, ..self }
    }

    fn round_trip(self, round_trip_us: u32) -> Self {
        Self { round_trip_us, ..self }
    }

    fn resent(self, resent: u32) -> Self {
        Self { resent, ..self }
    }

    fn at_handshake(self, flags: Flags) -> Self {
        Self { handshake_flags: flags, ..self }
    }

    fn reset_received(self) -> Self {
        Self { reset_received: true, ..self }
    }

    /// We send a reset just before the last record, of our own accord.
    fn resets_before(self, reason: ResetReason) -> Self {
        Self { reset_sent: Some((Side::Before, reason, false)), ..self }
    }

    /// We send a reset just after the last record.
    fn resets_after(self, reason: ResetReason, answer: bool) -> Self {
        Self { reset_sent: Some((Side::After, reason, answer)), ..self }
    }

    /// No record tells of its end: a scan meets it, and two more do not.
    fn vanishes(self) -> Self {
        Self { end_seen: false, ..self }
    }

    /// Of the last record.
    fn flags(self, end_flags: Flags) -> Self {
        Self { end_flags, ..self }
    }

    /// Of the last record.
    fn err(self, err: Errno) -> Self {
        Self { err: err as u8, ..self }
    }

    fn unread(self, unread: u32) -> Self {
        Self { unread, ..self }
    }

    fn probes(self, probes: u8) -> Self {
        Self { probes, ..self }
    }

    /// Tells it to a tracker.
    fn play(&self) -> Ending {
        let mut tracker = Tracker::new(Limits::default(), 0).with_changes(ChangeKinds::CLOSED);
        for input in self.inputs() {
            tracker.apply(&input);
        }
        tracker.finish();
        let mut ended = tracker.drain_changes();
        let closed = ended.next();
        assert!(ended.next().is_none(), "one connection has ended twice");
        drop(ended);
        assert_eq!(tracker.open().count(), 0);
        let cut = tracker.take_snapshot().rows(By::Port);
        let sum = |count: fn(&synfin::tracker::Counters) -> u64| -> u64 {
            cut.iter().map(|row| count(&row.stats.counters)).sum()
        };
        let Some(Change::Closed(closed)) = closed else {
            assert_eq!(sum(|counters| counters.discarded), 1);
            return never_was();
        };
        assert_eq!(closed.role, self.role);
        assert_eq!((closed.local, closed.remote), self.ends());
        let time_wait = match closed.time_wait {
            Some(true) => TimeWait::Entered,
            Some(false) => TimeWait::None,
            None => TimeWait::Doubtful,
        };
        let entered = sum(|counters| counters.time_wait_entered);
        assert_eq!(entered, u64::from(time_wait == TimeWait::Entered));
        Ending { reason: Some(closed.reason), time_wait, handshake: closed.handshake }
    }

    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let (ours, theirs) = match self.role {
            Role::Client => ("192.0.2.1:40000", "192.0.2.2:80"),
            Role::Server => ("192.0.2.1:80", "192.0.2.2:40000"),
        };
        (ours.parse().unwrap(), theirs.parse().unwrap())
    }

    fn inputs(&self) -> Vec<Input> {
        let (birth_old, birth_new) = match self.role {
            Role::Client => (Close, SynSent),
            Role::Server => (Listen, SynRecv),
        };
        let mut time = SECOND;
        let mut inputs = Vec::new();
        if self.birth_seen {
            inputs.push(Input::Transition(self.birth(time, birth_old, birth_new)));
        }
        time += self.takes_ms * 1_000_000;
        let mut old = birth_new;
        for &new in &self.states {
            let mut transition = self.transition(time, old, new);
            if new == Established {
                transition.flags = self.handshake_flags;
                transition.rtt_us = self.round_trip_us;
                transition.total_retransmits = self.resent;
            }
            inputs.push(Input::Transition(transition));
            time += 1_000_000;
            old = new;
        }
        if self.reset_received {
            inputs.push(Input::Reset(Reset {
                time,
                sock: SOCK,
                direction: ResetDirection::Received,
            }));
        }
        if !self.end_seen {
            inputs.extend(scan(time + SECOND, Some(self.met(time + SECOND, old))));
            inputs.extend(scan(time + 2 * SECOND, None));
            inputs.extend(scan(time + 3 * SECOND, None));
            return inputs;
        }
        let reset_sent = |sent: Side| {
            let (side, reason, answer) = self.reset_sent?;
            let way = ResetDirection::Sent { reason, answer };
            (side == sent).then_some(Input::Reset(Reset { time, sock: SOCK, direction: way }))
        };
        inputs.extend(reset_sent(Side::Before));
        inputs.push(Input::Transition(Transition {
            flags: self.end_flags,
            err: self.err,
            probes: self.probes,
            closing: Some(event::Closing {
                bytes_acked: 0,
                bytes_received: 0,
                unread: self.unread,
                idle_ms: None,
            }),
            ..self.transition(time, old, Close)
        }));
        inputs.extend(reset_sent(Side::After));
        inputs
    }

    /// A client has no port yet, a child shows its listener's ends: so it is up to 6.14.
    fn birth(&self, time: u64, old: TcpState, new: TcpState) -> Transition {
        let mut birth = self.transition(time, old, new);
        match self.role {
            Role::Client => birth.local.set_port(0),
            Role::Server => {
                birth.local = SocketAddr::new([0, 0, 0, 0].into(), birth.local.port());
                birth.remote = SocketAddr::new([0, 0, 0, 0].into(), 0);
            }
        }
        let opening =
            event::Opening { cgroup: 0, accept_queue: (0, 0), comm: ids::Comm::default() };
        Transition { flags: self.birth_flags, opening: Some(opening), ..birth }
    }

    /// By a scan.
    fn met(&self, time: u64, state: TcpState) -> Input {
        let (local, remote) = self.ends();
        Input::ScannedSocket(ScannedSocket {
            time,
            sock: SOCK,
            state,
            local,
            remote,
            flags: HELD,
            port_by_connect: None,
            retransmits: 0,
            rtt_us: 0,
            accept_queue: (0, 0),
            drops: 0,
            idle_ms: None,
            cgroup: 0,
        })
    }

    fn transition(&self, time: u64, old: TcpState, new: TcpState) -> Transition {
        let (local, remote) = self.ends();
        Transition {
            time,
            sock: SOCK,
            netns: NETNS,
            old,
            new,
            local,
            remote,
            flags: NONE,
            err: 0,
            err_soft: 0,
            pid: None,
            rtt_us: 0,
            retransmits: 0,
            probes: 0,
            total_retransmits: 0,
            opening: None,
            closing: None,
        }
    }
}

/// A scan over all sockets, and the only one that it met.
fn scan(time: u64, met: Option<Input>) -> Vec<Input> {
    let begin = Input::ScanBegin(ScanBegin { netns: NETNS, time });
    let end = ScanEnd {
        netns: NETNS,
        begun: time,
        ended: time,
        error: None,
        ephemeral_ports: None,
        counters: None,
    };
    [begin].into_iter().chain(met).chain([Input::ScanEnd(end)]).collect()
}

const SECOND: u64 = 1_000_000_000;
const NETNS: u32 = 1;
const SOCK: u64 = 0xffff_8880_0000_1000;
