//! The queue of a listener whose server does not accept.

use std::net::{SocketAddr, TcpListener, TcpStream};

use super::{column, watch};
use crate::lab::{self, Namespace, Wire, eventually, eventually_equal};

/// The length of the accept queue, and its limit.
fn queue(namespace: &Namespace, port: u16) -> (u64, u64) {
    let sockets = namespace.sockets();
    let listener =
        sockets.iter().find(|socket| socket.state == "LISTEN" && socket.local_port == port);
    listener.expect("the listener").queue
}

/// Fills the accept queue of a listener one by one.
fn fill(wire: &Wire, at: SocketAddr, limit: u16) -> (TcpListener, Vec<TcpStream>) {
    let listener = wire.far.listen_up_to(at, limit.into());
    // The kernel accepts one more than the limit.
    let clients = (1..=u64::from(limit) + 1).map(|number| {
        let client = wire.near.connect(at).expect("a connection");
        eventually_equal("the queue", (number, limit.into()), || queue(&wire.far, at.port()));
        client
    });
    let clients = clients.collect();
    (listener, clients)
}

#[test]
fn new_connections_show_the_length_of_the_accept_queue() {
    const LIMIT: u16 = 5;
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9201));
    let other = SocketAddr::from((Wire::FAR6, 9202));
    let (report, (waiting, _sockets)) = lab::conclusive(|| {
        let wire = Wire::new();
        let synfin = watch(&[&wire.far], &[]);
        let (listener, clients) = fill(&wire, at, LIMIT);
        // Another listener accepts at once, so its queue is always empty.
        let prompt = wire.far.listen(other);
        wire.pairs(&prompt, other, 3).for_each(lab::Pair::close_by_client);
        let waiting = queue(&wire.far, at.port());
        (synfin.finish().report(), (waiting, (wire, listener, clients, prompt)))
    });
    assert_eq!(waiting, (6, 5));
    let server = |port: SocketAddr, name| column(&report, "server", port.port(), name);
    let columns = ["p50", "p99", "peak", "now", "limit"].map(|name| format!("accept_queue.{name}"));
    let found = columns.each_ref().map(|name| server(at, name).as_u64());
    assert_eq!(found, [2, 5, 6, 6, 5].map(Some));
    let found = columns.each_ref().map(|name| server(other, name).as_u64());
    assert_eq!(found, [0, 0, 0, 0, 1024].map(Some));
}

#[test]
fn listener_drops_agree_with_the_kernels_count() {
    let _lab = lab::enter();
    let [old, open, closed] = [9203, 9204, 9205].map(|port| SocketAddr::from((Wire::FAR4, port)));
    let (report, (counted, _wire)) = lab::conclusive(|| {
        let wire = Wire::new();
        let drops = || wire.far.counters().get("ListenDrops");
        // A listener that has dropped SYNs before.
        let mut full = vec![fill(&wire, old, 2)];
        overflow(&wire, old);
        let before = drops();
        assert!(before >= 4, "{before}");
        let synfin = watch(&[&wire.far], &[]);
        full.extend([open, closed].map(|at| fill(&wire, at, 1)));
        let count = |at| {
            let before = drops();
            overflow(&wire, at);
            drops() - before
        };
        let counted = [old, open, closed].map(count);
        assert_eq!(drops() - before, counted.iter().sum::<u64>());
        let (last, clients) = full.remove(2);
        drop(last);
        drop(clients);
        wire.far.wait_until_quiet();
        (synfin.finish().report(), (counted, (wire, full)))
    });
    let reported =
        [old, open, closed].map(|at| column(&report, "server", at.port(), "listener.drops"));
    assert_eq!(reported.map(|drops| drops.as_u64()), counted.map(Some));
    assert!(counted.iter().all(|&drops| drops >= 4), "{counted:?}");
}

/// Connects until SYNs are dropped.
fn overflow(wire: &Wire, at: SocketAddr) {
    let drops = || wire.far.counters().get("ListenDrops");
    let before = drops();
    let hoping: Vec<_> = (0..4).map(|_| wire.near.begin_connect(at)).collect();
    eventually("SYNs are dropped", || (drops() >= before + 4).then_some(()));
    drop(hoping);
}
