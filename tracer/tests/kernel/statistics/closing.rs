//! Which side closes first, and the TIME_WAIT that results.

use std::{net::SocketAddr, thread, time::Duration};

use serde_json::json;

use super::{column, watch};
use crate::lab::{self, Pair, Wire, accept, connect_to};

#[test]
fn the_side_that_closes_first_is_counted_on_both_sides() {
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9291));
    let (report, _wire) = lab::conclusive(|| {
        let wire = Wire::new();
        let synfin = watch(&wire.both(), &[]);
        let listener = wire.far.listen(at);
        wire.pairs(&listener, at, 3).for_each(Pair::close_by_client);
        wire.pairs(&listener, at, 2).for_each(Pair::close_by_server);
        for Pair { client, server } in wire.pairs(&listener, at, 4) {
            lab::reset(client);
            lab::wait_for_end(server);
        }
        wire.wait_until_quiet();
        (synfin.finish().report(), (wire, listener))
    });
    let reported = |role| column(&report, role, at.port(), "closed_first");
    assert_eq!(reported("client"), json!({ "us": 3, "peer": 2, "both": 0 }));
    assert_eq!(reported("server"), json!({ "us": 2, "peer": 3, "both": 0 }));
    assert_eq!(column(&report, "client", at.port(), "closed"), 9);
}

#[test]
fn a_connection_with_the_addresses_of_a_time_wait_replaces_it() {
    const TIMES: u16 = 6;
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9292));
    let (report, (left, _wire)) = lab::conclusive(|| {
        let wire = Wire::new();
        let listener = wire.far.listen(at);
        let synfin = watch(&[&wire.far], &[]);
        // Faster than scans, so that only the hooks can detect it.
        for _ in 0..TIMES {
            let socket = wire.near.bound_socket((Wire::NEAR4, 41_000));
            let client = connect_to(socket, at).expect("a connection");
            Pair { client, server: accept(&listener) }.close_by_server();
            wire.far.wait_until_quiet();
            // The next connection's timestamp has to be later.
            thread::sleep(Duration::from_millis(5));
        }
        let sockets = wire.far.sockets();
        let left = sockets.iter().filter(|socket| socket.state == "TIME-WAIT").count();
        (synfin.finish().report(), (left, (wire, listener)))
    });
    assert_eq!(left, 1);
    let reported = ["entered", "now", "peak"]
        .map(|name| column(&report, "server", at.port(), &format!("time_wait.{name}")));
    assert_eq!(reported, [json!(TIMES), json!(1), json!(1)]);
}
