//! Gaps of a server that is restarted.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use super::{check_within, column, micros, time, timed, watch};
use crate::lab::{self, Namespace};

#[test]
fn a_restarted_listener_leaves_a_gap() {
    // A process that another test forks holds our listeners open until its exec().
    let _lab = lab::enter_alone();
    let [restarted, steady, down] =
        [9231, 9232, 9233].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let namespace = Namespace::new();
    // A listener older than the trace.
    let first = namespace.listen(down);
    let synfin = watch(&[&namespace], &[]);

    let (listener, _) = timed(|| namespace.listen(restarted));
    let kept = namespace.listen(steady);
    let ((), first_closed) = timed(|| drop(first));
    let ((), closed) = timed(|| drop(listener));
    thread::sleep(Duration::from_millis(300));
    let (again, opened) = timed(|| namespace.listen(restarted));
    // Overlapping listeners leave no gap.
    let (second, reopened) = timed(|| {
        namespace
            .within(|| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket
                    .bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), steady.port())).into())?;
                socket.listen(1)?;
                Ok::<_, std::io::Error>(socket)
            })
            .expect("a listener on another address")
    });
    drop(kept);
    let report = synfin.finish().report();
    report.check_nothing_lost();

    let server = |at: SocketAddr, name: &str| column(&report, "server", at.port(), name);
    check_within("the opening", time(&server(restarted, "listener.opened_at")), opened);
    check_within("the closing", time(&server(restarted, "listener.closed_at")), closed);
    let gap = micros(&server(restarted, "listener.gap_us"));
    let between =
        |from, to: std::time::SystemTime| to.duration_since(from).expect("ascending times");
    let (least, most) = (between(closed.1, opened.0), between(closed.0, opened.1));
    assert!((least..=most).contains(&gap), "{gap:?}, not {least:?} to {most:?}");

    check_within("the second opening", time(&server(steady, "listener.opened_at")), reopened);
    assert!(server(steady, "listener.closed_at").is_null());
    assert!(server(steady, "listener.gap_us").is_null());

    assert!(server(down, "listener.opened_at").is_null(), "it was open before");
    let closed_at = time(&server(down, "listener.closed_at"));
    check_within("the end of the first one", closed_at, first_closed);
    let end = time(&report.interval()["end"]);
    let gap = micros(&server(down, "listener.gap_us"));
    check_within("the gap's beginning", end - gap, first_closed);
    drop((again, second));
}
