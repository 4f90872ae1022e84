//! Which side closed first, and how long a connection was idle before its end.

use synfin::{
    tcp::close_reason::CloseReason,
    trace::event::{Closing, Input, Transition},
    tracker::ClosedFirst,
};
use synfin_common::{
    event::Flags,
    state::TcpState::{self, *},
};
use synfin_testkit::{Socket, TracedKernel};

#[test]
fn the_side_that_sends_the_first_fin_closed_first() {
    use ClosedFirst::{Both, Peer, Us};
    let paths: [(&[TcpState], _); 7] = [
        (&[FinWait1, FinWait2], Some(Us)),
        (&[FinWait1], Some(Us)),
        (&[CloseWait, LastAck], Some(Peer)),
        (&[CloseWait], Some(Peer)),
        (&[FinWait1, TcpState::Closing], Some(Both)),
        (&[], None),
        (&[FinWait1, FinWait2, Close], Some(Us)),
    ];
    for (path, first) in paths {
        let sock = Socket::client(1, 40_000);
        let mut kernel = TracedKernel::scanned();
        kernel.connection(sock, &[SynSent, Established]);
        let mut old = Established;
        for &state in path.iter().chain([&Close]) {
            if old != state {
                kernel.moves(sock, (old, state));
            }
            old = state;
        }
        kernel.finish();
        let row = kernel.only_row();
        let counted = ClosedFirst::ALL.map(|side| row.stats.counters.closed_first(side));
        let expected = ClosedFirst::ALL.map(|side| u64::from(first == Some(side)));
        assert_eq!(counted, expected, "{path:?}");
    }
}

#[test]
fn a_failed_attempt_counts_as_closed_first_by_nobody() {
    let mut kernel = TracedKernel::scanned();
    kernel.connection(Socket::client(1, 40_000), &[SynSent, Close]);
    kernel.finish();
    let row = kernel.only_row();
    assert_eq!(row.stats.counters.failed(), 1);
    assert_eq!(ClosedFirst::ALL.map(|side| row.stats.counters.closed_first(side)), [0; 3]);
}

/// A connection that ends after having received nothing for this time.
fn ends_idle(kernel: &mut TracedKernel, id: u64, err: u8, idle_ms: Option<u32>) {
    let sock = Socket::client(id, 40_000 + id as u16);
    kernel.connection(sock, &[SynSent, Established]);
    let closing = Closing { bytes_acked: 1, idle_ms, ..Closing::default() };
    let end = sock.transition(kernel.now, (Established, Close));
    let flags =
        Flags::HAS_SOCKET.with(Flags::LINGER0).with(Flags::SHUT_READ).with(Flags::SHUT_WRITE);
    kernel.report(Input::Transition(Transition { flags, err, closing: Some(closing), ..end }));
}

#[test]
fn idle_times_of_abnormal_closes_are_counted_separately() {
    const ECONNRESET: u8 = 104;
    let mut kernel = TracedKernel::scanned();
    for id in 1..=5 {
        ends_idle(&mut kernel, id, 0, Some(10));
    }
    for id in 6..=8 {
        ends_idle(&mut kernel, id, ECONNRESET, Some(350_000));
    }
    ends_idle(&mut kernel, 9, ECONNRESET, None);
    assert_eq!(kernel.reasons()[0], CloseReason::ResetByUsLinger0);
    assert_eq!(kernel.reasons()[5..], [CloseReason::ResetByPeer; 4]);
    let row = kernel.only_row();
    assert_eq!((row.stats.counters.idle.count(), row.stats.counters.idle_abnormal.count()), (8, 3));
    let (all, abnormal) = (&row.stats.counters.idle, &row.stats.counters.idle_abnormal);
    assert!((10_000..10_200).contains(&all.quantile(0.5).expect("some")));
    assert_eq!(abnormal.quantile(0.5), Some(350_000_000));
    assert_eq!(kernel.closed[5].idle_us, Some(350_000_000));
    assert_eq!(kernel.closed[8].idle_us, None);
}

/// What was retransmitted had not been answered: the connection was busy when its path died.
#[test]
fn the_time_of_retransmissions_is_not_idle() {
    const ETIMEDOUT: u8 = 110;
    // The kernel gives up 924.6 s after it sent a segment first (tcp_retries2 = 15).
    for (retransmits, idle_ms, expected_ms) in
        [(0, 22_000, 22_000), (6, 22_000, 0), (15, 924_600, 0), (15, 1_274_600, 350_000)]
    {
        let mut kernel = TracedKernel::scanned();
        let sock = Socket::client(1, 40_000);
        kernel.connection(sock, &[SynSent, Established]);
        let closing = Closing { idle_ms: Some(idle_ms), ..Closing::default() };
        let end = sock.transition(kernel.now, (Established, Close));
        let flags = Flags::HAS_SOCKET.with(Flags::UNACKNOWLEDGED);
        let (err, closing, rtt_us) = (ETIMEDOUT, Some(closing), 0);
        kernel.report(Input::Transition(Transition {
            flags,
            err,
            retransmits,
            rtt_us,
            closing,
            ..end
        }));
        assert_eq!(kernel.reasons(), [CloseReason::TimeoutRetransmission]);
        let row = kernel.only_row();
        let idle_us = row.stats.counters.idle_abnormal.quantile(0.5).expect("one");
        assert!(idle_us.abs_diff(1_000 * expected_ms) <= 30 * expected_ms, "{idle_us}");
    }
}
