//! Subflows of MPTCP connections: their owners, roles and handshakes. `close_reasons.rs` has their
//! ends.

use nix::errno::Errno;
use synfin::{
    tcp::{
        close_reason::CloseReason,
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    trace::{
        event::{Closing, Input, Opening},
        filter::Filter,
        ids::MptcpId,
        scan::{ScannedSocket, SocketHolder},
    },
    tracker::Connection,
};
use synfin_common::{event::Flags, state::TcpState::*};
use synfin_testkit::{HERE, ROUND_TRIP_US, Socket, TracedKernel, closing};

/// The process that holds the MPTCP sockets, and one that does not.
const PID: u32 = 800;
const OTHER_PID: u32 = 900;

fn id(number: u64) -> Option<MptcpId> {
    MptcpId::new(number)
}

/// A subflow opens: `pid` calls connect(), or a thread of the kernel opens it.
fn connects(kernel: &mut TracedKernel, socket: Socket, mptcp: u64, pid: Option<u32>) {
    kernel.moves_with(socket.unbound(), (Close, SynSent), |first| {
        first.flags = Flags::MPTCP;
        first.pid = pid;
        first.mptcp = id(mptcp);
        let comm = pid.map_or_else(Default::default, |_| (&b"app"[..]).into());
        first.opening = Some(Opening { comm, ..Opening::default() });
    });
    establishes(kernel, socket, mptcp, ROUND_TRIP_US);
}

/// A listener's child is established.
fn arrives(kernel: &mut TracedKernel, socket: Socket, mptcp: u64, rtt_us: u32) {
    kernel.opens(socket, (Listen, SynRecv), None);
    establishes(kernel, socket, mptcp, rtt_us);
}

fn establishes(kernel: &mut TracedKernel, socket: Socket, mptcp: u64, rtt_us: u32) {
    let old = if socket.role == Role::Client { SynSent } else { SynRecv };
    kernel.moves_with(socket, (old, Established), |transition| {
        transition.flags = Flags::MPTCP;
        transition.rtt_us = rtt_us;
        transition.mptcp = id(mptcp);
    });
}

/// A scan's result for a subflow or a listener.
fn found(socket: Socket, mptcp: u64, port_by_connect: bool) -> ScannedSocket {
    let state = if socket.remote.port() == 0 { Listen } else { Established };
    let scanned = socket.scanned(state);
    ScannedSocket {
        flags: Flags::MPTCP,
        mptcp: id(mptcp),
        port_by_connect: Some(port_by_connect),
        ..scanned
    }
}

/// A scan of open files finds that `PID` holds this socket.
fn holds(kernel: &mut TracedKernel, sock: u64) {
    let holder = SocketHolder {
        time: kernel.now,
        sock,
        started: 1,
        pid: PID,
        parent: 1,
        comm: (&b"app"[..]).into(),
        cgroup: 0,
    };
    kernel.report(Input::SocketHolders([holder].into_iter().collect()));
}

fn connection(kernel: &TracedKernel, socket: Socket) -> &Connection {
    let (_, connection) =
        kernel.tracker.open().find(|(sock, _)| *sock == socket.id).expect("an open connection");
    connection
}

fn pid(kernel: &TracedKernel, socket: Socket) -> Option<u32> {
    connection(kernel, socket).owner.as_ref().and_then(|owner| owner.pid)
}

#[test]
fn a_client_that_joins_is_owned_by_the_process_that_connected() {
    let [first, second, third] = [1, 2, 3].map(|n| Socket::client(n, 40_000 + n as u16));
    let mut kernel = TracedKernel::scanned();
    connects(&mut kernel, first, 0x100, Some(PID));
    connects(&mut kernel, second, 0x100, None);
    // A process that configures MPTCP can open a subflow, too.
    connects(&mut kernel, third, 0x100, Some(OTHER_PID));
    for socket in [first, second, third] {
        let connection = connection(&kernel, socket);
        assert!(connection.is_subflow() && connection.mptcp() == id(0x100));
        assert_eq!(pid(&kernel, socket), Some(PID));
        assert_eq!(connection.handshake, Some(Handshake::Clean { us: ROUND_TRIP_US }));
    }
    // They are in one row: that of the process.
    assert_eq!(kernel.only_row().stats.gauges.open, 3);
}

#[test]
fn the_next_connection_at_an_address_has_its_own_owner() {
    let [first, second] = [1, 2].map(|n| Socket::client(n, 40_000 + n as u16));
    let mut kernel = TracedKernel::scanned();
    connects(&mut kernel, first, 0x100, Some(PID));
    kernel.closes(first, Established, Flags::MPTCP, 104);
    connects(&mut kernel, second, 0x100, Some(OTHER_PID));
    assert_eq!(pid(&kernel, second), Some(OTHER_PID));
}

#[test]
fn a_server_takes_no_time_of_a_handshake_that_joins() {
    let listener = Socket::listener(9, 80);
    let [first, second, other] = [1, 2, 3].map(|n| Socket {
        remote: ([198, 51, 100, n as u8], 50_000).into(),
        ..Socket::child(n, 80)
    });
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "web");
    arrives(&mut kernel, first, 0x100, 1_500);
    arrives(&mut kernel, second, 0x100, 1_000);
    arrives(&mut kernel, other, 0x200, 1_000);
    let handshake = |socket| connection(&kernel, socket).handshake;
    assert_eq!(handshake(first), Some(Handshake::Clean { us: 1_500 }));
    assert_eq!(handshake(second), Some(Handshake::Unmeasured(Unmeasured::MpJoin)));
    assert_eq!(handshake(other), Some(Handshake::Clean { us: 1_000 }));
}

/// The application resets the MPTCP connection, and the peer's kernel resets the second subflow before
/// this one does.
#[test]
fn the_peer_resets_further_subflows_for_the_application() {
    let (first, second) = (Socket::client(1, 40_000), Socket::client(2, 40_001));
    let mut kernel = TracedKernel::scanned();
    connects(&mut kernel, first, 7, Some(PID));
    connects(&mut kernel, second, 7, None);
    kernel.closes_with(first, Established, |end| {
        (end.pid, end.flags) = (Some(PID), Flags::MPTCP);
        end.closing = Some(Closing { unread: 5, ..closing(1, 6) });
    });
    kernel.closes_with(second, Established, |end| {
        end.err = Errno::ECONNRESET as u8;
        end.flags = Flags::MPTCP;
    });
    assert_eq!(kernel.reasons(), [CloseReason::ResetByUsUnreadData; 2]);
}

/// The peer resets the MPTCP connection on its first subflow (MP_FASTCLOSE), and a worker of the
/// kernel resets the other one.
#[test]
fn the_kernel_resets_further_subflows_for_the_peer() {
    let (first, second) = (Socket::client(1, 40_000), Socket::client(2, 40_001));
    let resets = |kernel: &mut TracedKernel, seconds: u64| {
        connects(kernel, first, 7, Some(PID));
        connects(kernel, second, 7, None);
        kernel.closes_with(first, Established, |end| {
            end.err = Errno::ECONNRESET as u8;
            end.flags = Flags::MPTCP;
        });
        kernel.wait(seconds);
        kernel.closes_with(second, Established, |end| {
            (end.pid, end.flags) = (None, Flags::MPTCP.with(Flags::HAS_SOCKET));
        });
        kernel.reasons()
    };
    let reasons = [0, 2].map(|seconds| resets(&mut TracedKernel::scanned(), seconds));
    let [by_peer, by_mptcp] = [CloseReason::ResetByPeer, CloseReason::ResetByUsMptcp];
    assert_eq!(reasons, [[by_peer; 2], [by_peer, by_mptcp]]);
}

#[test]
fn a_process_that_removes_a_subflow_does_not_own_it() {
    let child = Socket::child(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(Socket::listener(9, 80), "web");
    arrives(&mut kernel, child, 0x100, 1_500);
    kernel.moves_with(child, (Established, FinWait1), |last| last.pid = Some(OTHER_PID));
    assert_eq!(pid(&kernel, child), Some(700));
}

/// A scan finds subflows in any order, and connect() chose the port of the first one only.
#[test]
fn all_subflows_of_an_older_connection_have_one_role_and_owner() {
    let [first, joined] = [1, 2].map(|n| Socket::client(n, 40_000 + n as u16));
    let sockets = [found(first, 0x100, true), found(joined, 0x100, false)];
    for order in [[0, 1], [1, 0]] {
        let mut kernel = TracedKernel::traced();
        holds(&mut kernel, 0x100);
        kernel.scan(HERE, &order.map(|index| sockets[index].clone()));
        for socket in [first, joined] {
            let connection = connection(&kernel, socket);
            assert_eq!(connection.role, Role::Client);
            assert_eq!(pid(&kernel, socket), Some(PID));
        }
        assert_eq!(kernel.only_row().stats.gauges.open, 2);
    }
}

#[test]
fn subflows_learn_their_owner_from_a_later_scan_of_open_files() {
    let client = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &[found(client, 0x100, true)]);
    assert_eq!(pid(&kernel, client), None);
    holds(&mut kernel, 0x100);
    assert_eq!(pid(&kernel, client), Some(PID));
}

#[test]
fn an_older_listener_is_owned_by_the_process_that_holds_its_mptcp_socket() {
    let listener = Socket::listener(9, 80);
    let (child, plain) = (Socket::child(1, 80), Socket::child(2, 80));
    let listed = found(listener, 0x900, false);
    for holds_first in [true, false] {
        let mut kernel = TracedKernel::traced();
        if holds_first {
            holds(&mut kernel, 0x900);
        }
        kernel.scan(HERE, std::slice::from_ref(&listed));
        if !holds_first {
            holds(&mut kernel, 0x900);
        }
        arrives(&mut kernel, child, 0x100, 1_500);
        kernel.connection(plain, &[SynRecv, Established]);
        assert_eq!([child, plain].map(|socket| pid(&kernel, socket)), [Some(PID); 2]);
        assert!(!connection(&kernel, plain).is_subflow());
    }
}

#[test]
fn a_filter_of_processes_admits_the_subflows_of_their_connections() {
    for (wanted, count) in [(PID, 2), (OTHER_PID, 0)] {
        let filter = Filter { pids: vec![wanted], ..Filter::default() };
        let mut kernel = TracedKernel::filtered(filter);
        connects(&mut kernel, Socket::client(1, 40_001), 0x100, Some(PID));
        connects(&mut kernel, Socket::client(2, 40_002), 0x100, None);
        assert_eq!(kernel.tracker.open().count(), count);
    }
}
