//! Who closed first, and for how long nothing had come before the end.

use synfin::{
    tcp::close_reason::CloseReason,
    trace::event::{Closing, Input, Transition},
    tracker::ClosedFirst,
};
use synfin_common::{
    event::Flags,
    state::TcpState::{self, *},
};

use crate::story::{Sock, Story};

#[test]
fn who_sends_the_first_fin_has_closed_first() {
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
        let sock = Sock::client(1, 40_000);
        let mut story = Story::after_walks();
        story.connection(sock, &[SynSent, Established]);
        let mut old = Established;
        for &state in path.iter().chain([&Close]) {
            if old != state {
                story.goes(sock, (old, state));
            }
            old = state;
        }
        story.finish();
        let row = story.only_row();
        let counted = ClosedFirst::ALL.map(|side| row.stats.counters.closed_first(side));
        let expected = ClosedFirst::ALL.map(|side| u64::from(first == Some(side)));
        assert_eq!(counted, expected, "{path:?}");
    }
}

#[test]
fn an_attempt_that_fails_was_closed_by_nobody() {
    let mut story = Story::after_walks();
    story.connection(Sock::client(1, 40_000), &[SynSent, Close]);
    story.finish();
    let row = story.only_row();
    assert_eq!(row.stats.counters.failed(), 1);
    assert_eq!(ClosedFirst::ALL.map(|side| row.stats.counters.closed_first(side)), [0; 3]);
}

/// A connection that ends after it had received nothing for so long.
fn ends_idle(story: &mut Story, id: u64, err: u8, idle_ms: Option<u32>) {
    let sock = Sock::client(id, 40_000 + id as u16);
    story.connection(sock, &[SynSent, Established]);
    let closing = Closing { bytes_acked: 1, bytes_received: 0, unread: 0, idle_ms };
    let end = story.transition(sock, (Established, Close));
    let flags =
        Flags::HAS_SOCKET.with(Flags::LINGER0).with(Flags::SHUT_READ).with(Flags::SHUT_WRITE);
    story.tell(Input::Transition(Transition { flags, err, closing: Some(closing), ..end }));
}

#[test]
fn what_ends_abnormally_is_idle_apart() {
    const ECONNRESET: u8 = 104;
    let mut story = Story::after_walks();
    for id in 1..=5 {
        ends_idle(&mut story, id, 0, Some(10));
    }
    for id in 6..=8 {
        ends_idle(&mut story, id, ECONNRESET, Some(350_000));
    }
    ends_idle(&mut story, 9, ECONNRESET, None);
    assert_eq!(story.reasons()[0], CloseReason::ResetByUsLinger0);
    assert_eq!(story.reasons()[5..], [CloseReason::ResetByPeer; 4]);
    let row = story.only_row();
    assert_eq!((row.stats.counters.idle.count(), row.stats.counters.idle_abnormal.count()), (8, 3));
    let (all, abnormal) = (&row.stats.counters.idle, &row.stats.counters.idle_abnormal);
    assert!((10_000..10_200).contains(&all.quantile(0.5).expect("some")));
    assert_eq!(abnormal.quantile(0.5), Some(350_000_000));
    assert_eq!(story.closed[5].idle_us, Some(350_000_000));
    assert_eq!(story.closed[8].idle_us, None);
}
