//! The statistics of the optional hooks on kernel functions: the SYN queue, and the time that
//! connections wait for accept(). Without the hooks, the former is unknown and the latter inferred.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{column, micros, watch};
use crate::lab::{self, Report, Wire, accept, eventually_equal};

/// Whether coverage is exact. If not, the columns are null, and the test is declared as
/// skipped on this kernel.
fn is_exact(report: &Report, of: &str, port: u16, columns: &[&str]) -> bool {
    let known = &report.host()["knowledge"][of];
    if known == "exact" {
        return true;
    }
    assert_eq!(known, "unknown");
    for name in columns {
        assert_eq!(column(report, "server", port, name), Value::Null, "{name}");
    }
    lab::skip("the kernel allows no programs on its own functions (fentry)");
    false
}

/// The number of handshakes that wait for their last ACK, by `ss`.
fn half_open(wire: &Wire) -> usize {
    wire.far.sockets().iter().filter(|socket| socket.state == "SYN-RECV").count()
}

#[test]
fn handshakes_in_the_syn_queue_are_counted_by_outcome() {
    const PORT: u16 = 9281;
    const COMPLETED: usize = 4;
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, PORT));
    let (report, (counted, _wire)) = lab::conclusive(|| {
        let wire = Wire::new();
        wire.far.set("ipv4/tcp_synack_retries", 1);
        let listener = wire.far.listen(at);
        let synfin = watch(&[&wire.far], &[]);
        wire.pairs(&listener, at, COMPLETED).for_each(lab::Pair::close_by_client);
        let is_synack = "tcp flags & (syn | ack) == (syn | ack) counter drop";
        let begin = |count: usize| {
            wire.near.filter("synacks", is_synack);
            let clients: Vec<_> = (0..count).map(|_| wire.near.begin_connect(at)).collect();
            eventually_equal("half-open handshakes", count, || half_open(&wire));
            drop(clients);
        };
        let over = || eventually_equal("half-open handshakes", 0, || half_open(&wire));
        // The SYN-ACKs are not answered.
        begin(3);
        over();
        wire.near.unfilter("synacks");
        // The retransmitted ones reach a closed port, which answers with a RST.
        begin(2);
        wire.near.unfilter("synacks");
        over();
        // The listener closes, which the timer of its handshake notices.
        begin(1);
        drop(listener);
        over();
        (synfin.finish().report(), (wire.far.counters(), wire))
    });
    let names = ["entered", "completed", "dropped", "expired"].map(|it| format!("syn_queue.{it}"));
    let names = names.each_ref().map(String::as_str);
    if is_exact(&report, "syn_queue", PORT, &[&names[..], &["attempts"]].concat()) {
        let shown = names.map(|name| column(&report, "server", PORT, name).as_u64());
        let [entered, completed, dropped, expired] = shown.map(|count| count.expect("a count"));
        assert_eq!(completed, COMPLETED as u64, "{shown:?}");
        assert_eq!(completed, counted.get("PassiveOpens"));
        // A client that closes late retransmits its SYN, which starts another handshake.
        assert!(entered >= 10 && dropped >= 1 && expired >= 3, "{shown:?}");
        assert_eq!(entered, completed + dropped + expired, "{shown:?}");
        assert!(
            dropped > counted.get("EmbryonicRsts"),
            "including those of the listener: {shown:?}"
        );
        assert_eq!(column(&report, "server", PORT, "attempts"), entered);
        assert_eq!(column(&report, "server", PORT, "half_open"), 0);
    }
}

#[test]
fn waits_for_accept_are_measured() {
    const PORT: u16 = 9282;
    const PROMPTLY: u16 = 9283;
    const WAIT: Duration = Duration::from_millis(300);
    let _lab = lab::enter();
    let [slow, prompt] = [PORT, PROMPTLY].map(|port| SocketAddr::from((Wire::FAR4, port)));
    let (report, (waited, _wire)) = lab::conclusive(|| {
        let wire = Wire::new();
        let synfin = watch(&[&wire.far], &[]);
        let listener = wire.far.listen(slow);
        let begun = Instant::now();
        let clients: Vec<_> =
            (0..3).map(|_| wire.near.connect(slow).expect("a connection")).collect();
        thread::sleep(WAIT);
        let servers: Vec<_> = clients.iter().map(|_| accept(&listener)).collect();
        let waited = begun.elapsed();
        // A connection that is never accepted has no waiting time.
        let left = wire.near.connect(slow).expect("a connection");
        let quick = wire.far.listen(prompt);
        wire.pairs(&quick, prompt, 3).for_each(lab::Pair::close_by_client);
        drop((servers, left));
        (synfin.finish().report(), (waited, (wire, listener, quick, clients)))
    });
    let names = ["p50", "p99", "max"].map(|it| format!("accept_queue.wait_{it}_us"));
    let names = names.each_ref().map(String::as_str);
    if report.host()["knowledge"]["accept_wait"] == "inferred" {
        let bound = |which| {
            let name = format!("accept_queue.wait_p50_{which}_us");
            micros(&column(&report, "server", PORT, &name))
        };
        assert!(bound("at_least") <= waited.mul_f64(1.02) && WAIT <= bound("at_most"));
        lab::skip("the kernel allows no programs on its own functions (fentry)");
    } else if is_exact(&report, "accept_wait", PORT, &names) {
        for name in names {
            let shown = micros(&column(&report, "server", PORT, name));
            // A percentile is too high by up to 1.6 %.
            assert!(
                (WAIT..=waited.mul_f64(1.02)).contains(&shown),
                "{name}: {shown:?}, {waited:?}"
            );
            let shown = micros(&column(&report, "server", PROMPTLY, name));
            assert!(shown < WAIT, "{name}: {shown:?}");
        }
    }
}
