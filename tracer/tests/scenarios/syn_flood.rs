//! SYN floods: what listeners drop or answer by SYN cookies without a record, and the findings.

use synfin::{
    findings::{Finding, diagnose},
    tcp::role::Role,
    trace::{
        accept_queue::AcceptQueue,
        counters::{KERNEL_COUNTERS, KernelCounters, NetnsCounters, PortCount},
        event::Input,
        filter::Filter,
        scan::ScannedSocket,
        session::Session,
    },
    tracker::{Counters, RowStats},
};
use synfin_common::{port_count::PortEvent, state::TcpState::*};
use synfin_testkit::{ELSEWHERE, HERE, Socket, TracedKernel};

const PORT: u16 = 80;
const LIMIT: u32 = 128;

/// The kernel's counters as they change.
#[derive(Default)]
struct Counted([u64; KERNEL_COUNTERS.len()]);

impl Counted {
    fn add(&mut self, name: &str, count: u64) -> &mut Self {
        let index = KERNEL_COUNTERS.iter().position(|known| *known == name);
        self.0[index.expect("a counter of the kernel")] += count;
        self
    }

    fn at(&self, kernel: &TracedKernel) -> KernelCounters {
        KernelCounters { time: kernel.now, counts: self.0 }
    }

    /// Reads them without a scan.
    fn read(&self, kernel: &mut TracedKernel) {
        let counters = self.at(kernel);
        kernel.report(Input::KernelCounters(NetnsCounters { netns: HERE, counters }));
    }
}

/// A listener with this `sk_drops` and accept queue.
fn listener(drops: u32, depth: u32) -> ScannedSocket {
    let accept_queue = AcceptQueue { depth, limit: LIMIT };
    ScannedSocket { drops, accept_queue, ..Socket::listener(1, PORT).scanned(Listen) }
}

/// A connection to the listener, from this port.
fn child(id: u64, remote_port: u16) -> Socket {
    let socket = Socket::child(id, PORT);
    Socket { remote: (socket.remote.ip(), remote_port).into(), ..socket }
}

/// This number of handshakes in the SYN queue.
fn half_open(count: u64) -> impl Iterator<Item = ScannedSocket> {
    (0..count).map(|id| {
        let port = 40_000 + id as u16;
        child(1_000 + id, port).scanned(NewSynRecv)
    })
}

/// Scans the namespace, and reads these counters after that.
fn scan(
    kernel: &mut TracedKernel,
    found: impl IntoIterator<Item = ScannedSocket>,
    counted: &Counted,
) {
    kernel.scan_begins(HERE);
    for socket in found {
        let time = kernel.now;
        kernel.report(Input::ScannedSocket(ScannedSocket { time, ..socket }));
    }
    let counters = counted.at(kernel);
    kernel.scan_ends_with(HERE, |end| end.counters = Some(counters));
    kernel.wait(1);
}

/// A kernel with a listener, whose counters are known.
fn listening() -> (TracedKernel, Counted) {
    let mut kernel = TracedKernel::traced();
    let counted = Counted::default();
    scan(&mut kernel, [listener(0, 0)], &counted);
    (kernel, counted)
}

fn causes(stats: &RowStats) -> [u64; 4] {
    let Counters { accept_overflows, syn_drops, cookies_sent, cookies_returned, .. } =
        stats.counters;
    [accept_overflows, syn_drops, cookies_sent, cookies_returned]
}

fn findings(kernel: &mut TracedKernel) -> Vec<Finding> {
    diagnose(&Session::default(), &kernel.tracker.take_snapshot())
}

fn ids(findings: &[Finding]) -> Vec<(&'static str, Option<u16>)> {
    findings.iter().map(|finding| (finding.rule.id, finding.port)).collect()
}

fn synacks(count: u64) -> PortCount {
    let counted = PortEvent::SynackRetransmit.number();
    PortCount { netns: HERE, port: PORT, counted, count }
}

#[test]
fn growth_of_the_kernels_counters_makes_a_scan_worthwhile() {
    let (mut kernel, mut counted) = listening();
    assert!(!kernel.tracker.wants_scan(HERE));
    assert!(kernel.tracker.wants_counters(HERE));
    counted.read(&mut kernel);
    assert!(!kernel.tracker.wants_scan(HERE), "nothing has grown");
    counted.add("ListenDrops", 3).read(&mut kernel);
    assert!(kernel.tracker.wants_scan(HERE));
    // The interval has them although no scan found anything.
    assert_eq!(kernel.tracker.take_snapshot().kernel_counts[KernelCounters::LISTEN_DROPS], 3);
    scan(&mut kernel, [listener(3, 0)], &counted);
    assert!(!kernel.tracker.wants_scan(HERE));
    let snapshot = kernel.tracker.take_snapshot();
    assert_eq!(snapshot.kernel_counts, [0; KERNEL_COUNTERS.len()], "they are not counted twice");
}

#[test]
fn a_flood_is_no_reason_to_ask_who_holds_the_sockets() {
    let (mut kernel, mut counted) = listening();
    let wants = |kernel: &TracedKernel| {
        (kernel.tracker.wants_scan(HERE), kernel.tracker.wants_holders(HERE))
    };
    assert_eq!(wants(&kernel), (false, false));
    counted.add("ListenDrops", 3).read(&mut kernel);
    assert_eq!(wants(&kernel), (true, false));
    // The SYN queue can empty itself without an event.
    scan(&mut kernel, half_open(3).chain([listener(3, 0)]), &counted);
    assert_eq!(wants(&kernel), (true, false));
    kernel.tick_with(&[synacks(3)]);
    assert_eq!(wants(&kernel), (true, false));
    kernel.connection(child(1, 50_000), &[SynRecv]);
    assert_eq!(wants(&kernel), (true, true));
    // Who holds the sockets of a namespace that was never scanned is not known either.
    assert!(kernel.tracker.wants_holders(ELSEWHERE));
}

#[test]
fn only_namespaces_with_listeners_are_read() {
    let mut kernel = TracedKernel::traced();
    assert!(!kernel.tracker.wants_counters(HERE), "it is to be scanned");
    scan(&mut kernel, [], &Counted::default());
    assert!(!kernel.tracker.wants_counters(HERE));
    scan(&mut kernel, [listener(0, 0)], &Counted::default());
    assert!(kernel.tracker.wants_counters(HERE));
    let filter = Filter { namespaces: vec![ELSEWHERE], ..Filter::default() };
    let mut kernel = TracedKernel::filtered(filter);
    scan(&mut kernel, [listener(0, 0)], &Counted::default());
    assert!(!kernel.tracker.wants_counters(HERE), "a filter excludes it");
}

#[test]
fn events_that_change_no_state_are_changes() {
    let (mut kernel, _) = listening();
    kernel.tick();
    assert!(!kernel.tracker.wants_scan(HERE));
    kernel.tick_with(&[synacks(1)]);
    assert!(kernel.tracker.wants_scan(HERE));
    // Half-open handshakes can end without an event, so they are scanned until they are gone.
    scan(&mut kernel, [listener(0, 0)].into_iter().chain(half_open(2)), &Counted::default());
    assert!(kernel.tracker.wants_scan(HERE));
    scan(&mut kernel, [listener(0, 0)], &Counted::default());
    assert!(!kernel.tracker.wants_scan(HERE));
    assert_eq!(kernel.row(Role::Server, PORT).stats.half_open_peak, 2);
    assert_eq!(kernel.row(Role::Server, PORT).stats.half_open_peak, 0);
}

#[test]
fn a_flood_without_cookies_is_named() {
    let (mut kernel, mut counted) = listening();
    counted.add("ListenDrops", 40_000).read(&mut kernel);
    counted.add("ListenDrops", 591);
    let found = [listener(40_591, 0)].into_iter().chain(half_open(96));
    scan(&mut kernel, found, &counted);
    let found = findings(&mut kernel);
    assert_eq!(ids(&found), [("syn_flood", Some(PORT))]);
    for part in ["40591 SYNs were dropped", "no SYN cookies", "up to 96 handshakes", "0 completed"]
    {
        assert!(found[0].seen.contains(part), "{}", found[0].seen);
    }
    assert!(found[0].advice.contains("net.ipv4.tcp_syncookies to 1"), "{}", found[0].advice);
}

#[test]
fn a_flood_with_cookies_is_named() {
    let (mut kernel, mut counted) = listening();
    counted.add("SyncookiesSent", 900).add("SyncookiesRecv", 4);
    scan(&mut kernel, [listener(0, 0)].into_iter().chain(half_open(128)), &counted);
    let found = findings(&mut kernel);
    assert_eq!(ids(&found), [("syn_flood", Some(PORT))]);
    assert!(found[0].seen.contains("900 SYNs were answered by SYN cookies, of which 4 came back"));
    assert!(found[0].advice.contains("SYN cookies hold"), "{}", found[0].advice);
    // Clients that return their cookies are a load, not a flood.
    counted.add("SyncookiesSent", 900).add("SyncookiesRecv", 880);
    scan(&mut kernel, [listener(0, 0)].into_iter().chain(half_open(128)), &counted);
    assert_eq!(causes(&kernel.row(Role::Server, PORT).stats), [0, 0, 900, 880]);
    counted.add("SyncookiesSent", 900).add("SyncookiesRecv", 880);
    scan(&mut kernel, [listener(0, 0)].into_iter().chain(half_open(128)), &counted);
    assert_eq!(ids(&findings(&mut kernel)), []);
}

#[test]
fn a_burst_of_clients_that_complete_is_an_overflow_but_no_flood() {
    let (mut kernel, mut counted) = listening();
    for id in 0..50 {
        kernel.connection(child(10_000 + id, 50_000 + id as u16), &[SynRecv, Established]);
    }
    counted.add("ListenDrops", 9);
    scan(&mut kernel, [listener(9, 0)].into_iter().chain(half_open(96)), &counted);
    let found = findings(&mut kernel);
    assert_eq!(ids(&found), [("syn_queue_overflow", Some(PORT))]);
    assert!(found[0].seen.contains("9 SYNs were dropped"), "{}", found[0].seen);
}

#[test]
fn an_overflow_of_the_accept_queue_rests_on_the_kernels_counter() {
    let (mut kernel, mut counted) = listening();
    // Resets of half-open handshakes count as drops of the listener, too.
    counted.add("EmbryonicRsts", 20);
    scan(&mut kernel, [listener(20, LIMIT + 1)], &counted);
    let stats = kernel.row(Role::Server, PORT).stats;
    assert_eq!((stats.counters.listener_drops, causes(&stats)), (20, [0; 4]));
    counted.add("EmbryonicRsts", 20);
    scan(&mut kernel, [listener(40, LIMIT)], &counted);
    assert_eq!(ids(&findings(&mut kernel)), [("accept_queue_fills", Some(PORT))]);
    // An ACK that finds the queue full is counted twice in sk_drops.
    counted.add("ListenOverflows", 7).add("ListenDrops", 7);
    scan(&mut kernel, [listener(54, LIMIT + 1)], &counted);
    let found = findings(&mut kernel);
    assert_eq!(ids(&found), [("accept_queue_overflow", Some(PORT))]);
    assert!(found[0].seen.starts_with("7 segments"), "{}", found[0].seen);
}

#[test]
fn drops_before_a_listener_closes_are_explained_by_the_next_scan() {
    let (mut kernel, mut counted) = listening();
    kernel.stops_listening(Socket::listener(1, PORT), 30);
    counted.add("ListenDrops", 30);
    scan(&mut kernel, [], &counted);
    assert_eq!(causes(&kernel.row(Role::Server, PORT).stats), [0, 30, 0, 0]);
}

#[test]
fn lost_syn_acks_are_named_as_what_they_are() {
    let (mut kernel, counted) = listening();
    kernel.tick_with(&[synacks(75)]);
    scan(&mut kernel, [listener(0, 0)].into_iter().chain(half_open(15)), &counted);
    let found = findings(&mut kernel);
    assert_eq!(ids(&found), [("half_open_unanswered", Some(PORT))]);
    for part in ["up to 15 handshakes", "75 SYN-ACKs were sent again", "0 handshakes completed"] {
        assert!(found[0].seen.contains(part), "{}", found[0].seen);
    }
}

#[test]
fn a_busy_listener_that_sometimes_retransmits_has_no_finding() {
    let (mut kernel, counted) = listening();
    for id in 0..200 {
        kernel.connection(child(10_000 + id, 50_000 + id as u16), &[SynRecv, Established]);
    }
    kernel.tick_with(&[synacks(12)]);
    scan(&mut kernel, [listener(0, 0)].into_iter().chain(half_open(40)), &counted);
    let found = findings(&mut kernel);
    assert_eq!(ids(&found), []);
}
