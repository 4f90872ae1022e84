//! Connections that the kernel aborts for lack of memory. The limits apply to the whole host,
//! so this runs only on a machine that only runs the tests.

use std::{fs, io::Write as _, net::SocketAddr};

use crate::lab::{self, Pair, Synfin, Wire, eventually_equal, pause};

/// The host's limit of orphaned sockets.
const MAX_ORPHANS: &str = "/proc/sys/net/ipv4/tcp_max_orphans";

/// A changed setting of the whole host, which is restored on drop.
struct Changed {
    file: &'static str,
    before: String,
}

impl Changed {
    fn to(file: &'static str, value: &str) -> Self {
        let before = fs::read_to_string(file).expect("a setting");
        fs::write(file, value).expect("a setting is changed");
        Self { file, before }
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        fs::write(self.file, self.before.trim()).expect("a setting is put back");
    }
}

#[test]
fn orphans_beyond_the_limit_are_reset() {
    const GIVEN_UP: usize = 3;
    let _lab = lab::enter_alone();
    if !lab::has_own_machine() {
        return;
    }
    let at = SocketAddr::from((Wire::FAR4, 9301));
    let (report, (counters, _wire)) = lab::conclusive(|| {
        let wire = Wire::new();
        let listener = wire.far.listen(at);
        let synfin = Synfin::watch(["report", "-o", "json"]);
        // An orphan whose FIN is not acknowledged.
        let mut pairs: Vec<_> = wire.pairs(&listener, at, GIVEN_UP + 1).collect();
        wire.far.filter("silence", &format!("tcp dport {} counter drop", at.port()));
        let Pair { client, server } = pairs.remove(0);
        drop(client);
        // The kernel updates its count of orphans every 100 ms.
        pause(500);
        let limit = Changed::to(MAX_ORPHANS, "0");
        let mut servers = vec![server];
        for Pair { mut client, server } in pairs {
            client.write_all(b"unacknowledged data").expect("the data is sent");
            drop(client);
            servers.push(server);
        }
        let aborted = || wire.near.counters().get("TCPAbortOnMemory");
        eventually_equal("orphans that were given up", GIVEN_UP as u64, aborted);
        drop(limit);
        (synfin.finish().report(), (wire.near.counters(), (wire, servers)))
    });
    report.check_nothing_lost();
    assert_eq!(counters.get("TCPAbortOnMemory"), GIVEN_UP as u64);
    let clients = report.row("client", at.port());
    assert_eq!(clients.count("closes.reset_by_us_memory"), GIVEN_UP as u64);
    assert_eq!(clients.count("states.fin_wait1"), 1);
}
