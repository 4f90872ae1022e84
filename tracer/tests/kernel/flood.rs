//! SYN floods: SYNs from addresses that never answer the SYN-ACK. No record reports them.

use std::{net::Ipv4Addr, thread, time::Duration};

use etherparse::PacketBuilder;
use serde_json::Value;

use crate::lab::{self, Namespace, Report, Synfin, Tun};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);

/// A namespace, and the network behind it, from which a flood comes.
pub(crate) struct Target {
    pub(crate) namespace: Namespace,
    tun: Tun,
    sent: u32,
    /// The most handshakes that were half-open after a flood.
    half_open: usize,
}

impl Target {
    /// `cookies`: the value of `net.ipv4.tcp_syncookies`.
    pub(crate) fn new(cookies: u32) -> Self {
        let namespace = Namespace::new();
        let tun = Tun::open(&namespace, "flood");
        namespace.run(&format!("ip address add {HOST}/16 dev flood"));
        namespace.set("ipv4/tcp_syncookies", cookies);
        namespace.set("ipv4/tcp_max_syn_backlog", 128);
        Self { namespace, tun, sent: 0, half_open: 0 }
    }

    /// Sends this number of SYNs, each from another address. The kernel has handled them when this
    /// returns.
    pub(crate) fn flood(&mut self, port: u16, count: u32) {
        for _ in 0..count {
            self.sent += 1;
            let [.., high, low] = (self.sent % 60_000 + 256).to_be_bytes();
            let mut packet = Vec::new();
            PacketBuilder::ipv4([10, 79, high, low], HOST.octets(), 64)
                .tcp(1024 + (self.sent % 50_000) as u16, port, self.sent, 1024)
                .syn()
                .write(&mut packet, &[])
                .expect("a packet");
            self.tun.send(&packet);
        }
    }

    /// Notes the handshakes that are half-open. While the queue is full, the kernel ends those early
    /// whose SYN-ACK was sent again.
    fn note_half_open(&mut self) {
        let half_open = self.namespace.run("ss -Htn state syn-recv").lines().count();
        self.half_open = self.half_open.max(half_open);
    }

    fn counted(&self, name: &str) -> u64 {
        self.namespace.counters().get(name)
    }

    fn id(&self) -> String {
        lab::ids([&self.namespace])
    }
}

/// The counters that the reports must have as the kernel has them.
const COUNTERS: [&str; 7] = [
    "ListenOverflows",
    "ListenDrops",
    "SyncookiesSent",
    "EmbryonicRsts",
    "TCPTimeWaitOverflow",
    "SyncookiesRecv",
    "SyncookiesFailed",
];

fn counters(target: &Target) -> [u64; 7] {
    let counters = target.namespace.counters();
    COUNTERS.map(|name| counters.get(name))
}

fn reported(report: &Value) -> [u64; 7] {
    COUNTERS.map(|name| report["host"]["counters"][name].as_u64().unwrap_or(0))
}

fn minus<const N: usize>(now: [u64; N], before: [u64; N]) -> [u64; N] {
    std::array::from_fn(|index| now[index] - before[index])
}

/// Floods the port within each of several intervals, and checks each report. A round of scans
/// completes each interval; it may be expensive here, because all namespaces and open files of a
/// host that runs many tests are part of it. Returns the findings of the whole run.
fn check_every_report(target: &mut Target, port: u16) -> Vec<Value> {
    let (_folder, recording) = lab::recording_file();
    let before = counters(target);
    let (interval, id) = (lab::slowed(Duration::from_secs(1)).as_secs().to_string(), target.id());
    let report = ["report", &interval, "-o", "json", "-N", &id, "--scan-always"];
    let synfin = Synfin::watch(report.into_iter().chain(["--record", &recording]));
    let mut known = before;
    let mut grown = Vec::new();
    let mut flood = |target: &mut Target, number: u32| {
        target.flood(port, 200 + 10 * number);
        target.note_half_open();
        let now = counters(target);
        let new = minus(now, std::mem::replace(&mut known, now));
        grown.push(new);
    };
    for number in 0..5 {
        synfin.wait_for_printed("a report", |_| true);
        flood(target, number);
    }
    synfin.wait_for_printed("a report", |_| true);
    // The last interval ends at once.
    flood(target, 5);
    let finished = synfin.finish();

    let reports = finished.json_lines();
    let host: Vec<_> = reports.iter().map(reported).collect();
    assert_eq!(host[0], [0; 7], "before the flood");
    assert_eq!(host[1..], grown[..], "{host:?}");
    let drops: Vec<_> = reports
        .iter()
        .map(|report| Report::new(report.clone()).row("server", port).count("listener.drops"))
        .collect();
    let expected: Vec<_> = host.iter().map(|counters| counters[1]).collect();
    assert_eq!(drops, expected, "of the port");

    let replayed = ["report", &interval, "-o", "json", "--from", &recording];
    let replayed = Synfin::run(replayed).json_lines();
    assert_eq!(replayed.iter().map(reported).collect::<Vec<_>>(), host, "replayed");
    Synfin::run(["diagnose", "-o", "json", "--from", &recording]).findings()
}

#[track_caller]
fn only<'a>(findings: &'a [Value], id: &str, port: u16) -> &'a Value {
    let [finding] = findings else { panic!("expected {id}, found {findings:#?}") };
    assert_eq!((&finding["id"], &finding["port"]), (&id.into(), &port.into()), "{finding:#}");
    finding
}

#[track_caller]
fn says(finding: &Value, parts: &[&str]) {
    for part in parts {
        let printed = [&finding["seen"], &finding["knob"]].map(Value::to_string).join(" ");
        assert!(printed.contains(part), "no {part:?} in {printed}");
    }
}

#[test]
fn a_flood_without_cookies_is_counted_as_it_happens() {
    const PORT: u16 = 9801;
    let _lab = lab::enter();
    let mut target = Target::new(0);
    let _listener = target.namespace.listen_up_to((HOST, PORT), 1024);
    let findings = check_every_report(&mut target, PORT);
    let drops = target.counted("ListenDrops");
    // The kernel keeps a quarter of the queue free for clients that it knows.
    let queued = target.half_open;
    assert!((96..=98).contains(&queued), "{queued}");
    assert_eq!(u64::from(target.sent) - drops, queued as u64);
    let finding = only(&findings, "syn_flood", PORT);
    let drops = format!(
        "{drops} SYNs were dropped because the SYN queue was full and no SYN cookies were sent"
    );
    let half_open = format!("up to {queued} handshakes were half-open at once, 0 completed");
    says(finding, &[&drops, &half_open, "net.ipv4.tcp_syncookies to 1", "tcp_max_syn_backlog"]);
}

#[test]
fn a_flood_with_cookies_is_counted_as_it_happens() {
    const PORT: u16 = 9802;
    let _lab = lab::enter();
    let mut target = Target::new(1);
    let _listener = target.namespace.listen_up_to((HOST, PORT), 64);
    let findings = check_every_report(&mut target, PORT);
    let cookies = target.counted("SyncookiesSent");
    // Older kernels queue one handshake less.
    let queued = target.half_open;
    assert!((64..=65).contains(&queued), "{queued}");
    assert_eq!(target.counted("ListenDrops"), 0);
    let finding = only(&findings, "syn_flood", PORT);
    let cookies = format!("{cookies} SYNs were answered by SYN cookies, of which 0 came back");
    let half_open = format!("up to {queued} handshakes were half-open at once, 0 completed");
    says(finding, &[&cookies, &half_open, "SYN cookies hold", "tcp_max_syn_backlog"]);
}

#[test]
fn the_report_of_a_command_has_all_of_a_flood() {
    const PORT: u16 = 9803;
    let _lab = lab::enter();
    let mut target = Target::new(0);
    let _listener = target.namespace.listen_up_to((HOST, PORT), 1024);
    let id = target.id();
    let before = counters(&target);
    let synfin = Synfin::watch(["report", "-o", "json", "-N", &id, "--for", "2s"]);
    target.flood(PORT, 500);
    let report = synfin.end().report();
    let grown = minus(counters(&target), before);
    assert!(grown[1] >= 400, "{grown:?}");
    assert_eq!(COUNTERS.map(|name| report.host()["counters"][name].as_u64().unwrap_or(0)), grown);
    assert_eq!(report.row("server", PORT).count("listener.drops"), grown[1]);
}

#[test]
fn handshakes_that_nobody_completes_are_found_before_the_queue_is_full() {
    const PORT: u16 = 9804;
    let _lab = lab::enter();
    let mut target = Target::new(1);
    let _listener = target.namespace.listen_up_to((HOST, PORT), 1024);
    let synfin = Synfin::watch(["diagnose", "-o", "json", "-N", &target.id(), "--for", "1h"]);
    target.flood(PORT, 15);
    // SYN-ACKs are sent again after 1, 2 and 4 s, which the kernel counts for the namespace.
    let again = lab::eventually("SYN-ACKs are sent again", || {
        let again = target.counted("TCPSynRetrans");
        (again >= 30).then_some(again)
    });
    let findings = synfin.finish().findings();
    let finding = only(&findings, "half_open_unanswered", PORT);
    let again = format!("{again} SYN-ACKs were sent again");
    says(
        finding,
        &["up to 15 handshakes were half-open at once", &again, "0 handshakes completed"],
    );
}

#[test]
fn resets_of_half_open_handshakes_are_no_overflow_of_the_accept_queue() {
    const PORT: u16 = 9805;
    const LIMIT: i32 = 4;
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let synfin = Synfin::watch(["diagnose", "-o", "json", "-N", &lab::ids([&namespace])]);
    let at = (Ipv4Addr::LOCALHOST, PORT);
    let _listener = namespace.listen_up_to((Ipv4Addr::UNSPECIFIED, PORT), LIMIT);
    // The queue is at its limit, and has room for one more.
    let waiting: Vec<_> = (0..LIMIT).map(|_| namespace.connect(at).expect("it waits")).collect();
    let peer = lab::Peer::new(&namespace, 81);
    for _ in 0..10 {
        let mut check = peer.client(PORT);
        check.syn();
        check.expect_syn_ack();
        check.rst();
    }
    let counters = namespace.counters();
    assert_eq!((counters.get("EmbryonicRsts"), counters.get("ListenOverflows")), (10, 0));
    thread::sleep(Duration::from_millis(10));
    let findings = synfin.finish().findings();
    assert!(findings.iter().all(|it| it["id"] != "accept_queue_overflow"), "{findings:#?}");
    drop(waiting);
}
