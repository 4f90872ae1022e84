//! The length of the accept queue, as new connections find it, and the time until accept().

use synfin::{
    tcp::role::Role,
    trace::{accept_queue::AcceptQueue, scan::ScannedSocket},
};
use synfin_common::state::TcpState::*;
use synfin_testkit::{HERE, Socket, TracedKernel, address};

/// A child is established while the accept queue has this length and this limit.
fn child_finds(kernel: &mut TracedKernel, id: u64, (depth, limit): (u32, u32)) {
    kernel.accept_queue = AcceptQueue { depth, limit };
    kernel.connection(Socket::child(id, 80), &[SynRecv, Established]);
}

/// A scan finds a listener with this accept queue.
fn found(listener: Socket, depth: u32, limit: u32) -> ScannedSocket {
    ScannedSocket { accept_queue: AcceptQueue { depth, limit }, ..listener.scanned(Listen) }
}

#[test]
fn accept_depth_is_what_new_connections_find() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    for depth in 0..6 {
        child_finds(&mut kernel, 10 + u64::from(depth), (depth, 20));
    }
    kernel.scan(HERE, &[found(listener, 6, 20)]);
    let row = kernel.row(Role::Server, 80);
    let depth = &row.stats.counters.accept_depth;
    assert_eq!(depth.count(), 6);
    assert_eq!([depth.quantile(0.5), depth.quantile(0.99)], [Some(2), Some(5)]);
    assert_eq!(
        (row.stats.accept_peak, row.stats.scanned.accept_queue, row.stats.scanned.accept_limit),
        (6, 6, 20)
    );
}

#[test]
fn a_burst_between_scans_is_in_the_peak() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    child_finds(&mut kernel, 2, (17, 20));
    kernel.scan(HERE, &[found(listener, 0, 20)]);
    assert_eq!(kernel.row(Role::Server, 80).stats.accept_peak, 17);
    // The peak belongs to its interval.
    let row = kernel.row(Role::Server, 80);
    assert_eq!((row.stats.accept_peak, row.stats.counters.accept_depth.count()), (0, 0));
}

#[test]
fn the_accept_limit_is_the_smallest_of_several_listeners() {
    let [one, other, idle] = [1, 2, 3].map(|id| Socket::listener(id, 80));
    let mut kernel = TracedKernel::scanned();
    kernel.scan(HERE, &[found(one, 3, 128), found(other, 2, 20), found(idle, 0, 4096)]);
    let row = kernel.row(Role::Server, 80);
    assert_eq!((row.stats.scanned.accept_queue, row.stats.scanned.accept_limit), (5, 20));
    assert_eq!(row.stats.accept_peak, 3, "the peak of one listener");
}

#[test]
fn children_show_the_accept_limit_before_any_scan() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    child_finds(&mut kernel, 2, (0, 128));
    child_finds(&mut kernel, 3, (1, 20));
    assert_eq!(kernel.row(Role::Server, 80).stats.scanned.accept_limit, 20);
    // The limit belongs to its interval.
    assert_eq!(kernel.row(Role::Server, 80).stats.scanned.accept_limit, 0);
}

/// Number of connections that waited for accept(), and the longest wait.
fn waits(kernel: &mut TracedKernel) -> (u64, Option<u64>) {
    let waits = &kernel.row(Role::Server, 80).stats.counters.accept_wait;
    (waits.count(), waits.max())
}

#[test]
fn accept_wait_is_from_the_first_record_to_accept() {
    let child = Socket::child(2, 80);
    let mut kernel = TracedKernel::scanned().with_all_hooks();
    kernel.listens(Socket::listener(1, 80), "server");
    child_finds(&mut kernel, 2, (0, 20));
    kernel.wait_ms(250);
    kernel.accepts(child);
    // Three reports, a microsecond each.
    assert_eq!(waits(&mut kernel), (1, Some(250_003)));
    kernel.accepts(child);
    assert_eq!(waits(&mut kernel), (0, None), "it is accepted only once");
    // A connection that its peer closed before accept() waits as well.
    let second = Socket { remote: address("198.51.100.7:50001"), ..Socket::child(3, 80) };
    kernel.connection(second, &[SynRecv, Established, CloseWait]);
    kernel.accepts(second);
    assert_eq!(waits(&mut kernel), (1, Some(3)));
}

#[test]
fn accept_wait_of_older_connections_is_unknown() {
    let (old, lost) = (Socket::child(2, 80), Socket::child(3, 80));
    let mut kernel = TracedKernel::traced().with_all_hooks();
    kernel.scan(HERE, &[Socket::listener(1, 80).scanned(Listen), old.scanned(Established)]);
    kernel.accepts(old);
    // The first record of this one was lost.
    kernel.moves(lost, (Established, CloseWait));
    kernel.accepts(lost);
    // This one is already closed.
    kernel.accepts(Socket::child(4, 80));
    assert_eq!(waits(&mut kernel), (0, None));
}

#[test]
fn without_the_accept_hook_no_wait_is_counted() {
    let mut kernel = TracedKernel::scanned();
    child_finds(&mut kernel, 2, (0, 20));
    kernel.accepts(Socket::child(2, 80));
    assert_eq!(waits(&mut kernel), (0, None));
}
