//! One row for each way in which a connection fails, closes or completes its handshake: the kernel's
//! reports, and the close reason, TIME_WAIT and handshake that the tracker derives from them. The
//! rows follow the observed behavior of kernels 5.10 to 7.x.

use std::collections::BTreeSet;

use nix::errno::Errno;
use synfin::{
    tcp::{
        close_reason::{
            CloseReason::{self, *},
            Phase,
        },
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    trace::{
        accept_queue::AcceptQueue,
        event::{Closing, Opening},
        ids::Comm,
    },
};
use synfin_common::{
    event::Flags,
    reset::ResetReason::{self, *},
    state::TcpState::{self, *},
};
use synfin_testkit::{
    HERE, MILLISECOND, ORPHAN, ROUND_TRIP_US, SECOND, SHUT, Socket, TracedKernel, closing,
};

/// A socket that a process holds.
const HELD: Flags = Flags::HAS_SOCKET;
const NONE: Flags = Flags(0);

#[test]
fn failed_attempts_have_their_reason() {
    check(failures());
}

#[test]
fn closed_connections_have_their_reason() {
    check(closes());
}

#[test]
fn ends_of_subflows_have_the_reason_that_the_application_caused() {
    check(ends_of_subflows());
}

#[test]
fn handshakes_are_measured_or_say_why_not() {
    check(handshakes());
}

#[test]
fn every_close_reason_and_unmeasured_cause_has_a_row() {
    let rows = [failures(), closes(), ends_of_subflows(), handshakes()].concat();
    let decided: BTreeSet<_> = rows.iter().filter_map(|row| row.expected.reason).collect();
    let without = |reason: &CloseReason| !decided.contains(reason);
    let missing: Vec<_> = CloseReason::ALL.iter().copied().filter(without).collect();
    assert_eq!(missing, []);
    let unmeasured: Vec<_> = rows
        .iter()
        .filter_map(|row| match row.expected.handshake {
            Some(Handshake::Unmeasured(cause)) => Some(cause),
            _ => None,
        })
        .collect();
    // A subflow joins another one, see `mptcp.rs`.
    let mut causes = Unmeasured::ALL.iter().filter(|&&cause| cause != Unmeasured::MpJoin);
    assert!(causes.all(|cause| unmeasured.contains(cause)), "{unmeasured:?}");
}

/// Attempts that fail before they are established.
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
        row(
            "closed while connecting, SYN retransmitted",
            client().retransmitted(1).flags(HELD.with(SHUT)),
            ends_by(ConnectAbandoned),
        ),
        row("killed while connecting", client().flags(ORPHAN), ends_by(ConnectCancelled)),
        row("no local port left", client().flags(HELD), ends_by(ConnectLocalFailure)),
        row("ss -K while connecting", client().err(Errno::ECONNABORTED), ends_by(ConnectDestroyed)),
        row("an error of another kind", client().err(Errno::EACCES), ends_by(ConnectUnknown)),
        row("missing from scans while connecting", client().vanishes(), ends_by(ConnectLostSight)),
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

/// Connections that are established and then close.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn closes() -> Vec<Row> {
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
            ends_by(ClosedByUs).and(TimeWait::Unconfirmed),
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
        row("missing from scans", open(&[]).vanishes(), ends_by(LostSight)),
        row("missing from scans while closing", child(&[CloseWait]).vanishes(), ends_by(LostSight)),
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
            "orphan, out of memory while its FIN was retransmitted",
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

/// Handshakes that succeed. Each of these connections is then closed by the peer.
#[expect(clippy::too_many_lines, reason = "it is a table")]
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
            "client, SYN retransmitted: from the first SYN on",
            client().takes_ms(1_051).round_trip(30_000).retransmitted(1),
            retransmitted(1_051_000, 1),
        ),
        row(
            "client, SYN retransmitted, no timestamps",
            client().takes_ms(1_051).round_trip(0).retransmitted(1),
            retransmitted(1_051_000, 1),
        ),
        row(
            "client, Fast Open SYN retransmitted: the time of the first is unknown",
            client().takes_ms(1_051).round_trip(0).retransmitted(1).at_handshake(Flags::FAST_OPEN),
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
            "server, SYN-ACK retransmitted: from the first SYN-ACK on",
            server().round_trip(1_056_113).retransmitted(1).at_handshake(Flags::SINCE_FIRST_SYNACK),
            retransmitted(1_056_113, 1),
        ),
        row(
            "server, SYN-ACK retransmitted, a kernel that reports only the last attempt",
            server().round_trip(30_000).retransmitted(1),
            unmeasured(Unmeasured::EvidenceLost),
        ),
        row(
            "server, SYN cookie without timestamps",
            server().at_first(Flags::COOKIES_SENT).round_trip(0),
            unmeasured(Unmeasured::SynCookie),
        ),
        row(
            "server, SYN cookie with timestamps: whole milliseconds",
            server().at_first(Flags::COOKIES_SENT).round_trip(55_000),
            unmeasured(Unmeasured::SynCookie),
        ),
        row(
            "server, whole milliseconds, of a listener that may have sent cookies (SO_REUSEPORT)",
            server().at_first(Flags::REUSEPORT).round_trip(55_000),
            unmeasured(Unmeasured::SynCookie),
        ),
        row(
            "server, whole milliseconds, of a listener that has sent no SYN cookie",
            server().round_trip(55_000),
            clean(55_000),
        ),
        row(
            "server, of a listener that has sent SYN cookies, but not to this client",
            server().at_first(Flags::COOKIES_SENT).round_trip(187),
            clean(187),
        ),
        row("server, no sample", server().round_trip(0), unmeasured(Unmeasured::EvidenceLost)),
        row(
            "server, TCP_DEFER_ACCEPT",
            server().at_first(Flags::DEFER_ACCEPT).round_trip(200_656),
            unmeasured(Unmeasured::DeferredAccept),
        ),
        row(
            "checkpoint restored (TCP_REPAIR)",
            client().round_trip(0).at_handshake(Flags::REPAIR),
            unmeasured(Unmeasured::Repair),
        ),
        row("client, no sample", client().round_trip(0), unmeasured(Unmeasured::EvidenceLost)),
        row(
            "client, older than the trace, SYN retransmitted",
            client().first_record_lost().takes_ms(1_051).retransmitted(1),
            unmeasured(Unmeasured::EvidenceLost),
        ),
        row(
            "client, older than the trace, connecting still",
            client().first_record_lost().round_trip(30_338),
            clean(30_338),
        ),
    ]
}

/// Subflows of MPTCP connections, which MPTCP ends without a socket that is marked as dead.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn ends_of_subflows() -> Vec<Row> {
    let subflow = |end: Script| end.goes(&[Established]).at_handshake(Flags::MPTCP);
    let [open, child] = [client, server].map(|end| move || subflow(end()));
    let linger = SHUT.with(Flags::LINGER0).with(Flags::MPTCP);
    vec![
        row(
            "close with unread data",
            open().resets_before(AbortOnClose).flags(Flags::MPTCP).by_system_call(),
            ends_by(ResetByUsUnreadData),
        ),
        row(
            "close of an accepted subflow with unread data",
            child().resets_before(AbortOnClose).flags(Flags::MPTCP).by_system_call(),
            ends_by(ResetByUsUnreadData),
        ),
        row(
            "linger 0",
            open()
                .resets_before(AbortOnClose)
                .flags(Flags::MPTCP.with(Flags::LINGER0))
                .by_system_call(),
            ends_by(ResetByUsLinger0),
        ),
        row(
            "linger 0 or unread data: before 6.18, MPTCP sets SO_LINGER 0 for both",
            child().flags(linger).by_system_call().resets_after(State, false),
            ends_by(ResetByUsMptcp),
        ),
        row(
            "data that the subflow still holds",
            child().unread(7).flags(linger).by_system_call().resets_after(State, false),
            ends_by(ResetByUsUnreadData),
        ),
        row(
            "net.mptcp.close_timeout, or a last close in a thread of the kernel",
            child().resets_before(AbortOnClose).flags(Flags::MPTCP),
            ends_by(ResetByUsMptcp),
        ),
        row(
            "connect(AF_UNSPEC)",
            open().resets_before(AbortOnClose).flags(HELD.with(Flags::MPTCP)).by_system_call(),
            ends_by(ResetByUsDisconnect),
        ),
        row(
            "the peer resets the MPTCP connection through another subflow",
            open().resets_before(AbortOnClose).flags(HELD.with(Flags::MPTCP)),
            ends_by(ResetByUsMptcp),
        ),
        row(
            "the peer breaks the protocol, while any process runs",
            child().resets_before(Other).flags(HELD.with(Flags::MPTCP)).by_system_call(),
            ends_by(ResetByUsMptcp),
        ),
        row(
            "the peer's data has a wrong checksum",
            child().flags(HELD.with(Flags::MPTCP)).err(Errno::EBADMSG),
            ends_by(ResetByUsMptcp),
        ),
        row(
            "listener closed, subflow queued",
            child().resets_before(AbortOnClose).by_system_call(),
            ends_by(ResetByUsListenerClosed),
        ),
        row(
            "listener closed, subflow queued, before 6.4",
            child().flags(Flags::MPTCP).by_system_call().resets_after(State, false),
            ends_by(ResetByUsListenerClosed),
        ),
        row(
            "RST",
            open().flags(HELD.with(Flags::MPTCP)).reset_received().err(Errno::ECONNRESET),
            ends_by(ResetByPeer),
        ),
        row(
            "clean close by the kernel's thread",
            open()
                .goes(&[Established, FinWait1, FinWait2])
                .flags(ORPHAN.with(Flags::MPTCP).with(Flags::FIN_RECEIVED)),
            ends_by(ClosedByUs).and(TimeWait::Entered),
        ),
        row(
            "clean close by the peer",
            child()
                .goes(&[Established, CloseWait, LastAck])
                .flags(Flags::MPTCP.with(Flags::FIN_RECEIVED).with(Flags::SHUT_READ)),
            ends_by(ClosedByPeer),
        ),
        row(
            "a client without MPTCP, accepted from a listener with it",
            server()
                .at_first(Flags::MPTCP)
                .goes(&[Established])
                .unread(1)
                .flags(HELD.with(SHUT))
                .by_system_call(),
            ends_by(ResetByUsUnreadData),
        ),
    ]
}

/// The events of a connection, and the expected outcome.
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

/// The outcome of a connection after it has closed.
#[derive(Clone, Debug, PartialEq)]
struct Ending {
    /// `None`: it never counted as a connection.
    reason: Option<CloseReason>,
    time_wait: TimeWait,
    handshake: Option<Handshake>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TimeWait {
    None,
    Entered,
    /// Decided later by the kernel's counter.
    Unconfirmed,
}

/// An end without a TIME_WAIT, after the default handshake of a [`Script`] if it was established.
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

/// The events of a connection, as the kernel reports them.
#[derive(Clone)]
struct Script {
    role: Role,
    states: Vec<TcpState>,
    first_record_seen: bool,
    first_flags: Flags,
    takes_ms: u64,
    round_trip_us: u32,
    retransmits: u32,
    handshake_flags: Flags,
    reset_received: bool,
    /// Time, reason, and whether it answers a segment.
    reset_sent: Option<(Side, ResetReason, bool)>,
    last_record_seen: bool,
    last_flags: Flags,
    by_system_call: bool,
    err: u8,
    unread: u32,
    probes: u8,
}

/// A connection from connect() on.
fn client() -> Script {
    Script {
        role: Role::Client,
        states: Vec::new(),
        first_record_seen: true,
        first_flags: HELD,
        takes_ms: 1,
        round_trip_us: ROUND_TRIP_US,
        retransmits: 0,
        handshake_flags: NONE,
        reset_received: false,
        reset_sent: None,
        last_record_seen: true,
        last_flags: NONE,
        by_system_call: false,
        err: 0,
        unread: 0,
        probes: 0,
    }
}

/// A connection from a listener.
fn server() -> Script {
    Script { role: Role::Server, first_flags: NONE, ..client() }
}

/// Before or after the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl Script {
    /// The states between the first record and the last.
    fn goes(self, states: &[TcpState]) -> Self {
        Self { states: states.to_vec(), ..self }
    }

    fn first_record_lost(self) -> Self {
        Self { first_record_seen: false, ..self }
    }

    fn at_first(self, flags: Flags) -> Self {
        Self { first_flags: self.first_flags.with(flags), ..self }
    }

    /// The time from the first record to the next.
    fn takes_ms(self, takes_ms: u64) -> Self {
        Self { takes_ms, ..self }
    }

    fn round_trip(self, round_trip_us: u32) -> Self {
        Self { round_trip_us, ..self }
    }

    fn retransmitted(self, retransmits: u32) -> Self {
        Self { retransmits, ..self }
    }

    fn at_handshake(self, flags: Flags) -> Self {
        Self { handshake_flags: flags, ..self }
    }

    fn reset_received(self) -> Self {
        Self { reset_received: true, ..self }
    }

    /// We send a reset just before the last record, not in answer to a segment.
    fn resets_before(self, reason: ResetReason) -> Self {
        Self { reset_sent: Some((Side::Before, reason, false)), ..self }
    }

    /// We send a reset just after the last record.
    fn resets_after(self, reason: ResetReason, answer: bool) -> Self {
        Self { reset_sent: Some((Side::After, reason, answer)), ..self }
    }

    /// The last record is lost: one scan finds the connection, the next two do not.
    fn vanishes(self) -> Self {
        Self { last_record_seen: false, ..self }
    }

    /// Sets the flags of the last record.
    fn flags(self, last_flags: Flags) -> Self {
        Self { last_flags, ..self }
    }

    /// A process makes the last transition.
    fn by_system_call(self) -> Self {
        Self { by_system_call: true, ..self }
    }

    /// Sets the error of the last record.
    fn err(self, err: Errno) -> Self {
        Self { err: err as u8, ..self }
    }

    fn unread(self, unread: u32) -> Self {
        Self { unread, ..self }
    }

    fn probes(self, probes: u8) -> Self {
        Self { probes, ..self }
    }

    /// Plays the events on a traced kernel.
    fn play(&self) -> Ending {
        let mut kernel = TracedKernel::traced();
        self.play_on(&mut kernel);
        kernel.finish();
        assert_eq!(kernel.tracker.open().count(), 0);
        let rows = kernel.rows();
        let sum = |count: fn(&synfin::tracker::Counters) -> u64| -> u64 {
            rows.iter().map(|row| count(&row.stats.counters)).sum()
        };
        let [closed] = &kernel.closed[..] else {
            assert!(kernel.closed.is_empty(), "one connection closed twice");
            assert_eq!(sum(|counters| counters.discarded), 1);
            return never_was();
        };
        let socket = self.socket();
        assert_eq!(
            (closed.role, closed.local, closed.remote),
            (socket.role, socket.local, socket.remote)
        );
        let time_wait = match closed.time_wait {
            Some(true) => TimeWait::Entered,
            Some(false) => TimeWait::None,
            None => TimeWait::Unconfirmed,
        };
        let entered = sum(|counters| counters.time_wait_entered);
        assert_eq!(entered, u64::from(time_wait == TimeWait::Entered));
        Ending { reason: Some(closed.reason), time_wait, handshake: closed.handshake }
    }

    fn socket(&self) -> Socket {
        match self.role {
            Role::Client | Role::Unknown => Socket::client(1, 40_000),
            Role::Server => Socket::child(1, 80),
        }
    }

    fn play_on(&self, kernel: &mut TracedKernel) {
        let socket = self.socket();
        // The microsecond of each step is subtracted, so that each record has its exact time.
        kernel.step = 0;
        let (before, mut old) = match self.role {
            Role::Client | Role::Unknown => (Close, SynSent),
            Role::Server => (Listen, SynRecv),
        };
        if self.first_record_seen {
            kernel.moves_with(socket.unbound(), (before, old), |first| {
                let (accept_queue, comm) = (AcceptQueue::default(), Comm::default());
                first.opening = Some(Opening { accept_queue, comm, ..Opening::default() });
                first.flags = self.first_flags;
            });
        }
        kernel.now += self.takes_ms * MILLISECOND;
        for &new in &self.states {
            kernel.moves_with(socket, (old, new), |transition| {
                if new == Established {
                    transition.flags = self.handshake_flags;
                    transition.rtt_us = self.round_trip_us;
                    transition.total_retransmits = self.retransmits;
                }
            });
            kernel.now += MILLISECOND;
            old = new;
        }
        if self.reset_received {
            kernel.receives_reset(socket);
        }
        if !self.last_record_seen {
            for found in [&[socket.scanned(old)][..], &[], &[]] {
                kernel.now += SECOND;
                kernel.scan(HERE, found);
            }
            return;
        }
        let send_reset = |kernel: &mut TracedKernel, sent: Side| {
            if let Some((side, reason, answer)) = self.reset_sent
                && side == sent
            {
                kernel.sends_reset(socket, reason, answer);
            }
        };
        send_reset(kernel, Side::Before);
        kernel.closes_with(socket, old, |last| {
            (last.flags, last.err, last.probes) = (self.last_flags, self.err, self.probes);
            last.pid = self.by_system_call.then_some(700);
            if old == SynSent {
                last.total_retransmits = self.retransmits;
            }
            last.closing = Some(Closing { unread: self.unread, ..closing(0, 0) });
        });
        send_reset(kernel, Side::After);
    }
}
