//! Handshakes whose last ACK is overdue.

use std::net::SocketAddr;

use super::{column, watch};
use crate::lab::{self, Namespace, Wire, eventually_equal};

/// The packets of a filter's `counter`.
fn filtered(namespace: &Namespace, name: &str) -> u64 {
    let table = namespace.run(&format!("nft list table inet {name}"));
    let (_, counter) = table.split_once("counter packets ").expect("a counter");
    let (count, _) = counter.split_once(' ').expect("a number");
    count.parse().expect("a number")
}

#[test]
fn retransmitted_synacks_are_counted() {
    const ATTEMPTS: usize = 3;
    let _lab = lab::enter();
    let (report, (seen, [v4, v6], _listeners)) = lab::conclusive(|| {
        let wire = Wire::new();
        wire.far.set("ipv4/tcp_synack_retries", 1);
        let ends = [(Wire::FAR4, 9211), (Wire::FAR6, 9212)].map(SocketAddr::from);
        let listeners = ends.map(|end| wire.far.listen(end));
        for end in ends {
            let rule = format!(
                "tcp sport {} tcp flags & (syn | ack) == (syn | ack) counter drop",
                end.port()
            );
            wire.near.filter(&format!("synacks_{}", end.port()), &rule);
        }
        let synfin = watch(&[&wire.far], &[]);
        let attempts: Vec<_> = ends
            .into_iter()
            .flat_map(|end| (0..ATTEMPTS).map(move |_| end))
            .map(|end| wire.near.begin_connect(end))
            .collect();
        // Until the kernel gives up. By then the clients have retransmitted their SYNs as well.
        for end in ends {
            wire.near.wait_for_filtered(&format!("synacks_{}", end.port()), 2 * ATTEMPTS as u64);
        }
        drop(attempts);
        eventually_equal("half-open handshakes", 0, || {
            wire.far.sockets().iter().filter(|socket| socket.state == "SYN-RECV").count()
        });
        let seen = ends.map(|end| filtered(&wire.near, &format!("synacks_{}", end.port())));
        (synfin.finish().report(), (seen, ends, (wire, listeners)))
    });
    for (end, seen) in [v4, v6].into_iter().zip(seen) {
        let reported = column(&report, "server", end.port(), "synack_retransmits");
        // The first of each is not a retransmission.
        assert_eq!(reported.as_u64(), Some(seen - ATTEMPTS as u64), "{end}: {seen} were seen");
        assert_eq!(column(&report, "server", end.port(), "established"), 0);
    }
}
