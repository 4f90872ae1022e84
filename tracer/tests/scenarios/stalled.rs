//! Stalled connections, and the connections that are in a state for longest.

use synfin::{
    tcp::{group_by::By, role::Role},
    trace::{filter::Filter, scan::ScannedSocket},
    tracker::{LINGERING_STATES, Oldest},
};
use synfin_common::state::TcpState::{self, *};
use synfin_testkit::{ELSEWHERE, HERE, Socket, TracedKernel, address};

/// A scan's result for a connection whose segments are not acknowledged.
fn unanswered(sock: Socket, state: TcpState) -> ScannedSocket {
    ScannedSocket { retransmits: 3, ..sock.scanned(state) }
}

fn stalled(kernel: &mut TracedKernel) -> u64 {
    kernel.rows().iter().map(|row| row.stats.scanned.stalled).sum()
}

#[test]
fn a_connection_is_stalled_while_it_retransmits_unanswered() {
    for known in [true, false] {
        let sock = Socket::client(1, 40_000);
        let mut kernel = if known { TracedKernel::scanned() } else { TracedKernel::traced() };
        if known {
            kernel.connection(sock, &[SynSent, Established]);
            kernel.wait(2);
        }
        kernel.scan(HERE, &[unanswered(sock, Established)]);
        assert_eq!(stalled(&mut kernel), 1, "known: {known}");
        assert!(kernel.tracker.wants_scan(HERE), "it may recover");
        kernel.scan(HERE, &[unanswered(sock, Established)]);
        assert_eq!(stalled(&mut kernel), 1, "it is still stalled, and not counted twice");
        kernel.scan(HERE, &[sock.scanned(Established)]);
        assert_eq!(stalled(&mut kernel), 0, "known: {known}");
        assert!(!kernel.tracker.wants_scan(HERE));
    }
}

#[test]
fn an_unfinished_handshake_is_not_stalled() {
    let mut kernel = TracedKernel::traced();
    let half_open = unanswered(Socket::child(2, 80), NewSynRecv);
    kernel.scan(HERE, &[unanswered(Socket::client(1, 40_000), SynSent), half_open]);
    assert_eq!(stalled(&mut kernel), 0);
}

#[test]
fn an_unacknowledged_fin_is_stalled() {
    let mut kernel = TracedKernel::traced();
    let socks = [FinWait1, LastAck, TcpState::Closing, CloseWait];
    let found: Vec<_> = (1..)
        .zip(socks)
        .map(|(id, state)| unanswered(Socket::client(id, 40_000 + id as u16), state))
        .collect();
    kernel.scan(HERE, &found);
    assert_eq!(stalled(&mut kernel), 4);
}

#[test]
fn filtered_and_closed_connections_are_not_stalled() {
    let sock = Socket::client(1, 40_000);
    let filter = Filter { service_ports: vec!["80".parse().unwrap()], ..Filter::default() };
    let mut kernel = TracedKernel::filtered(filter);
    kernel.scan(HERE, &[unanswered(sock, Established)]);
    assert_eq!(stalled(&mut kernel), 0);

    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent, Established]);
    kernel.scan_begins(HERE);
    let found = ScannedSocket { time: kernel.now, ..unanswered(sock, Established) };
    kernel.moves(sock, (Established, Close));
    kernel.report(synfin::trace::event::Input::ScannedSocket(found));
    kernel.scan_ends(HERE);
    assert_eq!(stalled(&mut kernel), 0);
}

#[test]
fn namespaces_with_connections_are_scanned_periodically() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &[sock.scanned(Established)]);
    kernel.scan(ELSEWHERE, &[Socket::listener(2, 80).scanned(Listen)]);
    kernel.wait(4);
    assert!(!kernel.tracker.wants_scan(HERE));
    kernel.wait(2);
    assert!(kernel.tracker.wants_scan(HERE), "one may have stalled");
    assert!(!kernel.tracker.wants_scan(ELSEWHERE), "it has no connection");
    kernel.scan(HERE, &[sock.scanned(Established)]);
    assert!(!kernel.tracker.wants_scan(HERE));
    kernel.moves(sock, (Established, Close));
    kernel.scan(HERE, &[]);
    kernel.wait(60);
    assert!(!kernel.tracker.wants_scan(HERE), "the last connection is closed");
}

fn oldest(kernel: &mut TracedKernel, state: TcpState) -> Option<Oldest> {
    let index = LINGERING_STATES.iter().position(|&other| other == state).expect("such a state");
    let rows = kernel.rows();
    let found: Vec<_> = rows.iter().filter_map(|row| row.stats.oldest[index].clone()).collect();
    assert!(found.len() <= 1, "{found:?}");
    found.into_iter().next()
}

#[test]
fn the_oldest_connection_of_each_state_is_known() {
    let paths: [(TcpState, &[TcpState]); 4] = [
        (CloseWait, &[SynSent, Established, CloseWait]),
        (FinWait2, &[SynSent, Established, FinWait1, FinWait2]),
        (LastAck, &[SynSent, Established, CloseWait, LastAck]),
        (SynSent, &[SynSent]),
    ];
    for (state, path) in paths {
        let mut kernel = TracedKernel::scanned();
        let (first, second) = (Socket::client(1, 40_000), Socket::client(2, 40_001));
        kernel.wait(10);
        kernel.connection(first, path);
        // The last transition counts, not the first record.
        let since = kernel.now - 1_000;
        kernel.wait(30);
        kernel.connection(second, path);
        let found = oldest(&mut kernel, state).expect("one");
        assert_eq!((found.since, found.at_least), (since, false), "{state:?}");
        for other in LINGERING_STATES.into_iter().filter(|&other| other != state) {
            assert_eq!(oldest(&mut kernel, other), None, "{state:?}");
        }
        kernel.moves(first, (state, Close));
        kernel.finish();
        let found = oldest(&mut kernel, state).expect("the other one");
        assert!(found.since > since, "{state:?}");
        kernel.moves(second, (state, Close));
        kernel.finish();
        assert_eq!(oldest(&mut kernel, state), None, "{state:?}");
    }
}

#[test]
fn the_oldest_connection_has_its_owner() {
    let mut kernel = TracedKernel::scanned();
    kernel.listens(Socket::listener(1, 80), "leaky");
    kernel.connection(Socket::child(2, 80), &[SynRecv, Established, CloseWait]);
    let owner = oldest(&mut kernel, CloseWait).and_then(|oldest| oldest.owner).expect("an owner");
    assert_eq!((owner.pid, &*owner.label.name), (Some(700), "leaky"));
}

#[test]
fn the_age_of_a_connection_older_than_the_trace_is_a_lower_bound() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    let first_scan = kernel.now + 1_000;
    kernel.scan(HERE, &[sock.scanned(CloseWait)]);
    kernel.wait(60);
    let found = oldest(&mut kernel, CloseWait).expect("one");
    assert_eq!((found.since, found.at_least), (first_scan, true));
    // Its next transition is observed, so the age is then exact.
    let since = kernel.now;
    kernel.moves(sock, (CloseWait, LastAck));
    let found = oldest(&mut kernel, LastAck).expect("one");
    assert_eq!((found.since, found.at_least), (since, false));
}

#[test]
fn the_age_of_a_state_found_by_a_scan_is_a_lower_bound() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent, Established]);
    // The record of the peer's FIN is lost.
    kernel.wait(60);
    kernel.scan(HERE, &[sock.scanned(CloseWait)]);
    assert!(oldest(&mut kernel, CloseWait).expect("one").at_least);
}

#[test]
fn the_oldest_of_several_rows_is_shown() {
    let mut kernel = TracedKernel::scanned();
    let since = kernel.now + 2_000;
    kernel.connection(
        Socket { remote: address("192.0.2.81:443"), ..Socket::client(1, 40_000) },
        &[SynSent, Established, CloseWait],
    );
    kernel.wait(5);
    for (id, remote) in [(2, "192.0.2.80:443"), (3, "192.0.2.82:443")] {
        kernel.connection(
            Socket { remote: address(remote), ..Socket::client(id, 40_000) },
            &[SynSent, Established, CloseWait],
        );
    }
    assert_eq!(oldest(&mut kernel, CloseWait).map(|oldest| oldest.since), Some(since));
    let rows = kernel.tracker.take_snapshot().rows(By::Remote);
    let rows = rows.iter().filter(|row| row.identity.role == Role::Client);
    let ages: Vec<_> =
        rows.map(|row| row.stats.oldest[0].as_ref().map(|oldest| oldest.since)).collect();
    assert_eq!(ages.iter().filter(|&&age| age == Some(since)).count(), 1, "{ages:?}");
    assert_eq!(ages.len(), 3);
}
