//! Waits for accept() that are inferred from the lengths of accept queues.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use proptest::{collection::vec, prelude::*};
use synfin::{
    output::{column::to_object, port_columns::COLUMNS, port_row::PortRow},
    tcp::{coverage::Coverage, role::Role},
    trace::{
        accept_queue::AcceptQueue,
        event::{Input, Transition},
        filter::Filter,
        ids::{MptcpId, SockId},
        scan::ScannedSocket,
        time::{ClockAnchor, Nanos},
    },
    tracker::{Counters, InferredAccept},
};
use synfin_common::{
    event::{Flags, Kind},
    state::TcpState::{self, *},
};
use synfin_testkit::{HERE, MILLISECOND, Socket, TracedKernel, address};

const PORT: u16 = 80;
const LISTENER: SockId = 1;

/// A listener, with the truth about the connections in its accept queue.
struct Server {
    kernel: TracedKernel,
    listener: Socket,
    queue: VecDeque<Socket>,
    /// When each connection was accepted.
    accepted: BTreeMap<SockId, Nanos>,
    next: SockId,
}

impl Server {
    fn new() -> Self {
        Self::of(TracedKernel::scanned())
    }

    fn of(mut kernel: TracedKernel) -> Self {
        let listener = Socket::listener(LISTENER, PORT);
        kernel.listens(listener, "server");
        let (queue, accepted) = (VecDeque::new(), BTreeMap::new());
        Self { kernel, listener, queue, accepted, next: 100 }
    }

    fn next_child(&mut self) -> Socket {
        self.next += 1;
        let remote = (address("198.51.100.7:0").ip(), self.next as u16).into();
        Socket { remote, ..Socket::child(self.next, PORT) }
    }

    /// A connection arrives and enters the queue.
    fn arrives(&mut self) -> Socket {
        let child = self.next_child();
        self.kernel.accept_queue = AcceptQueue { depth: self.queue.len() as u32, limit: 128 };
        self.kernel.connection(child, &[SynRecv, Established]);
        self.queue.push_back(child);
        child
    }

    /// The server accepts an MPTCP connection of this number, whose first subflow arrives.
    fn mptcp_arrives(&mut self, number: u64) -> Socket {
        let child = self.new_subflow(number);
        self.queue.push_back(child);
        child
    }

    /// A subflow is established. The kernel puts none that joins into the queue.
    fn new_subflow(&mut self, number: u64) -> Socket {
        let child = self.next_child();
        self.kernel.accept_queue = AcceptQueue { depth: self.queue.len() as u32, limit: 128 };
        self.kernel.opens(child, (Listen, SynRecv), None);
        self.kernel.moves_with(child, (SynRecv, Established), |transition| {
            transition.flags = Flags::MPTCP;
            transition.mptcp = MptcpId::new(number);
        });
        child
    }

    /// The server accepts the next connection.
    fn accepts(&mut self) -> Option<Socket> {
        let child = self.queue.pop_front()?;
        self.accepted.insert(child.id, self.kernel.now);
        self.kernel.now += self.kernel.step;
        Some(child)
    }

    fn waits_ms(&mut self, ms: u64) {
        self.kernel.now += ms * MILLISECOND;
    }

    /// The process closes an accepted connection.
    fn closes(&mut self, child: Socket) {
        self.kernel.moves_with(child, (Established, FinWait1), by_owner);
    }

    fn scanned(&mut self) {
        self.kernel.now += 3 * MILLISECOND;
        let accept_queue = AcceptQueue { depth: self.queue.len() as u32, limit: 128 };
        self.kernel.scan_begins(HERE);
        let found =
            ScannedSocket { accept_queue, time: self.kernel.now, ..self.listener.scanned(Listen) };
        self.kernel.report(Input::ScannedSocket(found));
        for (sock, state, local, remote) in self.open() {
            let child = Socket { local, remote, ..Socket::child(sock, PORT) };
            self.kernel.scan_finds(child, state);
        }
        self.kernel.scan_ends(HERE);
    }

    fn open(&self) -> Vec<(SockId, TcpState, SocketAddr, SocketAddr)> {
        let open = self.kernel.tracker.open();
        open.map(|(sock, it)| (sock, it.state, it.local(), it.remote())).collect()
    }

    /// The inferred accepts, after checking that each truth is within its bounds.
    fn inferred(&self) -> &[InferredAccept] {
        for &InferredAccept { sock, after, by, .. } in &self.kernel.accepted {
            let truth = self.accepted.get(&sock);
            let truth = *truth.unwrap_or_else(|| panic!("{sock:x} was not accepted by {by}"));
            assert!(after <= truth && truth <= by, "{sock}: {truth} is not in {after}..={by}");
        }
        &self.kernel.accepted
    }

    fn inferred_socks(&self) -> Vec<SockId> {
        self.inferred().iter().map(|accept| accept.sock).collect()
    }

    /// The columns of the port's row.
    fn columns(&mut self) -> serde_json::Value {
        serde_json::Value::Object(to_object(COLUMNS, &self.row()))["accept_queue"].clone()
    }

    fn row(&mut self) -> PortRow {
        let interval = synfin::output::port_row::Interval {
            has_rates: true,
            end: self.kernel.now,
            seconds: 1.0,
            clock: ClockAnchor::default(),
            coverage: Coverage::default(),
        };
        PortRow::of(self.kernel.row(Role::Server, PORT), interval)
    }

    fn counters(&mut self) -> Counters {
        self.kernel.row(Role::Server, PORT).stats.counters
    }
}

fn by_owner(transition: &mut Transition) {
    transition.pid = Some(700);
    transition.flags = transition.flags.with(Flags::BY_OWNER).with(Flags::HAS_SOCKET);
}

#[test]
fn the_time_in_which_nothing_is_accepted_is_known() {
    let mut server = Server::new();
    let unaccepted = |server: &mut Server| {
        server.scanned();
        server.kernel.row(Role::Server, PORT).stats.unaccepted
    };
    let begun = server.kernel.now;
    server.arrives();
    server.waits_ms(1_000);
    server.arrives();
    server.waits_ms(1_000);
    let time = unaccepted(&mut server).expect("two wait");
    assert!(time.since >= begun && time.length() >= 2_000 * MILLISECOND, "{time:?}");
    server.accepts();
    server.waits_ms(500);
    let time = unaccepted(&mut server).expect("one waits");
    assert_eq!(time.length(), 0, "accept() has just taken one");
    server.waits_ms(500);
    let time = unaccepted(&mut server).expect("one waits");
    assert!((500 * MILLISECOND..600 * MILLISECOND).contains(&time.length()), "{time:?}");
    server.accepts();
    assert_eq!(unaccepted(&mut server), None);
}

#[test]
fn a_wait_ends_between_two_new_connections() {
    let mut server = Server::new();
    for _ in 0..3 {
        server.arrives();
        server.waits_ms(10);
    }
    assert_eq!(server.inferred(), [], "all are still waiting");
    let first = server.accepts().unwrap();
    server.waits_ms(10);
    let last = server.arrives();
    let &[InferredAccept { sock, born, after, by, .. }] = server.inferred() else { panic!() };
    assert_eq!(sock, first.id);
    // It is known to wait when the third arrives, and not any more when the fourth arrives.
    assert!((17..=20).contains(&((after - born) / MILLISECOND)), "{born} {after} {by}");
    assert!((39..=41).contains(&((by - born) / MILLISECOND)), "{born} {after} {by}");
    assert_ne!(last.id, sock);
    let counters = server.counters();
    assert_eq!(counters.accept_waits(), 1);
}

#[test]
fn under_load_quantiles_are_close_to_the_truth() {
    // Steadily, or in bursts of 20, of which most are accepted when the burst is over.
    under_load(&|turn| turn % 5 == 0, &|turn| turn % 4 == 3 && turn % 400 > 60);
    under_load(&|turn| turn % 100 < 20, &|turn| turn % 4 == 0);
}

fn under_load(arrives: &dyn Fn(u64) -> bool, accepts: &dyn Fn(u64) -> bool) {
    let mut server = Server::new();
    let (mut begun, mut truths) = (BTreeMap::new(), Vec::new());
    let start = server.kernel.now;
    for turn in 0..20_000_u64 {
        if arrives(turn) {
            begun.insert(server.next + 1, server.kernel.now);
            server.arrives();
        }
        // Not at the same time.
        server.kernel.now += MILLISECOND / 3;
        if accepts(turn)
            && let Some(child) = server.accepts()
        {
            truths.push((server.accepted[&child.id] - begun[&child.id]) / 1000);
        }
        server.kernel.now = start + (turn + 1) * MILLISECOND;
    }
    assert!(server.inferred().len() > 3_500, "{}", server.inferred().len());
    truths.sort_unstable();
    let columns = server.columns();
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let truth = truths[(truths.len() as f64 * quantile).ceil() as usize - 1] as f64;
        let found = columns[format!("wait_{name}_us")].as_f64().unwrap_or_default();
        assert!((0.95..=1.05).contains(&(found / truth)), "{name}: {found}, {truth}: {columns:#}");
        let bound = |which| columns[format!("wait_{name}_{which}_us")].as_f64().unwrap();
        assert!(bound("at_least") <= truth && truth <= bound("at_most") * 1.016, "{columns:#}");
    }
    assert_eq!(columns["wait_accuracy"], "inferred");
}

#[test]
fn an_idle_listener_shows_upper_bounds_only() {
    let mut server = Server::new();
    for _ in 0..3 {
        server.arrives();
        server.accepts();
        server.waits_ms(10_000);
    }
    assert_eq!(server.inferred().len(), 2, "nothing shows when the last was accepted");
    let columns = server.columns();
    assert_eq!(columns["wait_p99_us"], serde_json::Value::Null, "{columns:#}");
    assert_eq!(columns["wait_p99_at_least_us"], 0);
    assert_eq!(columns["wait_p99_at_most_us"].as_u64().map(|us| us / 1_000_000), Some(10));
    server.arrives();
    let row = server.row();
    let shown = COLUMNS.iter().find(|column| column.info.title == "WAIT99").unwrap();
    assert_eq!(shown.value(&row).to_plain(), "≤10.0s");
}

#[test]
fn an_act_of_the_server_bounds_the_wait() {
    let mut server = Server::new();
    server.arrives();
    server.waits_ms(3);
    let child = server.arrives();
    server.accepts();
    server.accepts();
    server.waits_ms(2);
    server.closes(child);
    let found = server.inferred();
    assert_eq!(found.len(), 2, "the one before it was accepted too: {found:?}");
    assert!(found.iter().all(|accept| accept.by - accept.born < 6 * MILLISECOND), "{found:?}");
    // An abort of the process is such an act.
    let child = server.arrives();
    server.accepts();
    server.kernel.closes_with(child, Established, by_owner);
    assert_eq!(server.inferred_socks().last(), Some(&child.id));
}

#[test]
fn the_end_of_a_listener_is_no_accept() {
    let mut server = Server::new();
    let child = server.arrives();
    server.arrives();
    server.waits_ms(50);
    // The kernel aborts the connections in the queue. This is no act on their sockets.
    server.kernel.stops_listening(server.listener, 0);
    server.kernel.closes_with(child, Established, |last| {
        last.pid = Some(700);
        last.flags = Flags::BY_OWNER;
    });
    assert_eq!(server.inferred(), []);
    server.queue.clear();
    server.kernel.listens(server.listener, "server");
    server.arrives();
    server.arrives();
    assert_eq!(server.inferred(), [], "the queue of a new listener has none of the old ones");
}

#[test]
fn connections_that_close_in_the_queue_keep_their_place() {
    let mut server = Server::new();
    let [reset, closed, open] = [(); 3].map(|()| server.arrives());
    server.kernel.receives_reset(reset);
    server.kernel.closes(reset, Established, Flags::default(), 104);
    server.kernel.moves(closed, (Established, CloseWait));
    server.waits_ms(20);
    server.arrives();
    assert_eq!(server.inferred(), []);
    server.accepts();
    server.accepts();
    server.waits_ms(20);
    server.arrives();
    assert_eq!(server.inferred_socks(), [reset.id, closed.id]);
    assert_ne!(open.id, closed.id);
}

#[test]
fn a_discarded_child_was_never_in_the_queue() {
    let mut server = Server::new();
    let first = server.arrives();
    // It finds its place in the hash table taken.
    let lost = server.next_child();
    server.kernel.accept_queue.depth = 1;
    server.kernel.connection(lost, &[SynRecv]);
    server.kernel.closes(lost, SynRecv, Flags::default(), 0);
    server.kernel.wait_ms(100);
    for _ in 0..3 {
        server.waits_ms(10);
        server.arrives();
    }
    assert_eq!(server.inferred(), [], "with the discarded one, the first would be too many");
    server.accepts();
    server.waits_ms(10);
    server.arrives();
    assert_eq!(server.inferred_socks(), [first.id]);
}

#[test]
fn a_subflow_that_joins_is_not_in_the_queue() {
    let mut server = Server::new();
    let [first, second] = [0x100, 0x200].map(|number| server.mptcp_arrives(number));
    for _ in 0..3 {
        server.waits_ms(10);
        server.new_subflow(0x100);
    }
    server.waits_ms(10);
    let third = server.arrives();
    assert_eq!(server.inferred(), [], "no joined subflow stands for one that waits");
    server.accepts();
    server.waits_ms(10);
    let joined = server.new_subflow(0x200);
    assert_eq!(server.inferred_socks(), [first.id], "but what it finds in the queue is true");
    // Its process can close it, which is no sign that those before it were accepted.
    server.closes(joined);
    assert_eq!(server.inferred_socks(), [first.id]);
    server.accepts();
    server.accepts();
    server.waits_ms(10);
    server.arrives();
    assert_eq!(server.inferred_socks(), [first.id, second.id, third.id]);
}

#[test]
fn scans_bound_the_waits_of_idle_listeners() {
    let mut server = Server::new();
    let [first, second] = [(); 2].map(|()| server.arrives());
    server.waits_ms(30);
    server.scanned();
    assert_eq!(server.inferred(), []);
    server.accepts();
    server.waits_ms(30);
    server.scanned();
    let &[InferredAccept { sock, born, after, .. }] = server.inferred() else { panic!() };
    assert_eq!(sock, first.id);
    assert!(after - born >= 28 * MILLISECOND, "the first scan found it waiting");
    server.accepts();
    server.waits_ms(1_000);
    server.scanned();
    assert_eq!(server.inferred_socks(), [first.id, second.id]);
}

#[test]
fn a_scan_older_than_the_last_connection_says_nothing() {
    let mut server = Server::new();
    server.arrives();
    server.accepts();
    server.waits_ms(3);
    server.kernel.scan_begins(HERE);
    let found = ScannedSocket { time: server.kernel.now, ..server.listener.scanned(Listen) };
    server.waits_ms(3);
    server.arrives();
    server.kernel.report(Input::ScannedSocket(found));
    server.kernel.scan_ends(HERE);
    assert_eq!(server.inferred().len(), 1, "the one that the second has shown");
}

#[test]
fn connections_older_than_the_trace_count_in_the_queue() {
    let mut kernel = TracedKernel::traced();
    let listener = Socket::listener(LISTENER, PORT);
    kernel.scan(HERE, &[listener.scanned(Listen)]);
    let mut server =
        Server { kernel, listener, queue: VecDeque::new(), accepted: BTreeMap::new(), next: 100 };
    let old: Vec<_> = (0..5).map(|_| server.next_child()).collect();
    server.queue.extend(&old);
    let new = server.arrives();
    for _ in 0..5 {
        server.accepts();
        server.waits_ms(5);
        server.arrives();
        assert_eq!(server.inferred(), []);
    }
    server.accepts();
    server.waits_ms(5);
    server.arrives();
    assert_eq!(server.inferred_socks(), [new.id]);
}

#[test]
fn a_lost_beginning_makes_waiting_connections_unknown() {
    // Another record of the connection shows the loss.
    let mut server = Server::new();
    let [first, _] = [(); 2].map(|()| server.arrives());
    server.kernel.skips_next(true);
    server.arrives();
    server.accepts();
    server.waits_ms(10);
    server.arrives();
    assert_ne!(server.inferred_socks(), [first.id], "it is no longer known");
    while server.accepts().is_some() {}
    let new = server.arrives();
    server.accepts();
    server.waits_ms(3);
    server.arrives();
    assert_eq!(server.inferred_socks().last(), Some(&new.id), "new ones are known again");
}

#[test]
fn losses_in_the_ring_make_waiting_connections_unknown() {
    let mut server = Server::new();
    server.arrives();
    server.kernel.loses_next(2);
    server.arrives();
    server.kernel.tick();
    for _ in 0..2 {
        server.accepts();
        server.waits_ms(3);
    }
    server.arrives();
    assert_eq!(server.inferred(), []);
    server.accepts();
    server.waits_ms(3);
    server.arrives();
    assert_eq!(server.inferred().len(), 1);
    // The same if the loss is shown by a longer queue than the known connections can make.
    let mut server = Server::new();
    server.arrives();
    server.kernel.loses_next(6);
    for _ in 0..3 {
        server.arrives();
    }
    server.waits_ms(3);
    server.arrives();
    server.accepts();
    server.waits_ms(3);
    server.arrives();
    assert_eq!(server.inferred(), []);
}

#[test]
fn records_of_other_kinds_may_be_lost() {
    let mut server = Server::new();
    server.arrives();
    server.kernel.loses(Kind::Step);
    server.kernel.tick();
    server.accepts();
    server.waits_ms(3);
    server.arrives();
    assert_eq!(server.inferred().len(), 1);
}

#[test]
fn connections_of_two_cpus_can_find_the_same_length() {
    let mut server = Server::new();
    server.waits_ms(3);
    // Each is added to the queue after the other's first record.
    let children = [(); 2].map(|()| server.next_child());
    server.kernel.accept_queue.depth = 0;
    for child in children {
        server.kernel.connection(child, &[SynRecv]);
    }
    for child in children {
        server.kernel.moves(child, (SynRecv, Established));
        server.queue.push_back(child);
    }
    assert_eq!(server.inferred(), [], "the first is not known to be accepted");
    server.waits_ms(10);
    server.arrives();
    assert_eq!(server.inferred(), []);
    server.accepts();
    server.waits_ms(10);
    server.arrives();
    let &[InferredAccept { sock, born, after, .. }] = server.inferred() else { panic!() };
    assert_eq!((sock, (after - born) / MILLISECOND), (children[0].id, 8));
}

#[test]
fn several_listeners_on_a_port_are_unknown_until_one_is_left() {
    let mut server = Server::new();
    server.arrives();
    let second = Socket::listener(2, PORT);
    server.kernel.listens(second, "server");
    server.accepts();
    for _ in 0..3 {
        server.waits_ms(10);
        server.arrives();
        server.accepts();
    }
    assert_eq!(server.inferred(), []);
    let columns = server.columns();
    assert_eq!(columns["wait_accuracy"], "unknown");
    assert_eq!(columns["wait_p99_at_most_us"], serde_json::Value::Null);
    server.kernel.stops_listening(second, 0);
    let child = server.arrives();
    server.accepts();
    server.waits_ms(10);
    server.arrives();
    assert_eq!(server.inferred_socks(), [child.id]);
}

#[test]
fn listeners_of_both_families_on_a_port_are_told_apart() {
    let mut server = Server::new();
    let other = Socket { local: address("[::]:80"), ..Socket::listener(2, PORT) };
    server.kernel.listens(other, "server");
    // IPv6 connections that are never accepted have a queue of their own.
    for id in 0..4 {
        let local = address("[2001:db8::1]:80");
        let remote = address(&format!("[2001:db8::2]:{}", 50_000 + id));
        let child = Socket { local, remote, ..Socket::child(50 + id, PORT) };
        server.kernel.accept_queue.depth = id as u32;
        server.kernel.shows_children = true;
        server.kernel.connection(child, &[SynRecv, Established]);
        server.waits_ms(3);
        server.arrives();
        server.accepts();
        server.waits_ms(3);
    }
    assert_eq!(server.inferred().len(), 3, "all but the last");
}

#[test]
fn a_filter_must_keep_whole_queues() {
    let filter = |text: &str| {
        Server::of(TracedKernel::filtered(serde_json::from_str::<Filter>(text).unwrap()))
    };
    for (conditions, found) in [
        (r#"{"service_ports": [{"first": 80, "last": 80}]}"#, 1),
        (r#"{"namespaces": [1]}"#, 1),
        (r#"{"remote": ["0.0.0.0/0"]}"#, 0),
        (r#"{"family": "v4"}"#, 0),
    ] {
        let mut server = filter(conditions);
        server.arrives();
        server.accepts();
        server.waits_ms(3);
        server.arrives();
        assert_eq!(server.inferred().len(), found, "{conditions}");
    }
}

#[test]
fn a_queue_beyond_its_limit_is_forgotten() {
    let mut server = Server::new();
    for _ in 0..=(1 << 16) {
        server.arrives();
    }
    for _ in 0..(1 << 16) {
        server.accepts();
    }
    server.waits_ms(3);
    server.arrives();
    assert_eq!(server.inferred(), []);
}

#[derive(Clone, Debug)]
enum Event {
    Arrives,
    Accepts,
    Waits(u64),
    Closes,
    Resets,
    Scans,
    Discards,
    Joins,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Arrives),
        8 => Just(Event::Accepts),
        6 => (0..6_000_000_u64).prop_map(Event::Waits),
        2 => Just(Event::Closes),
        1 => Just(Event::Resets),
        1 => Just(Event::Scans),
        1 => Just(Event::Discards),
        1 => Just(Event::Joins),
    ]
}

proptest! {
    #[test]
    fn every_truth_is_within_its_bounds(events in vec(event(), 0..300)) {
        let mut server = Server::new();
        let (mut held, mut reset) = (VecDeque::<Socket>::new(), Vec::new());
        for event in events {
            match event {
                Event::Arrives => {
                    server.arrives();
                }
                Event::Accepts => held.extend(server.accepts()),
                Event::Waits(ns) => server.kernel.now += ns,
                Event::Closes => {
                    if let Some(child) = held.pop_front()
                        && !reset.contains(&child.id)
                    {
                        server.closes(child);
                    }
                }
                Event::Resets => {
                    if let Some(&child) = server.queue.back()
                        && !reset.contains(&child.id)
                    {
                        reset.push(child.id);
                        server.kernel.closes(child, Established, Flags::default(), 104);
                    }
                }
                Event::Scans => server.scanned(),
                Event::Joins => {
                    let is_first = server.kernel.tracker.open().all(|(_, it)| it.mptcp().is_none());
                    if is_first {
                        server.mptcp_arrives(0x100);
                    } else {
                        server.new_subflow(0x100);
                    }
                }
                Event::Discards => {
                    let child = server.next_child();
                    server.kernel.accept_queue.depth = server.queue.len() as u32;
                    server.kernel.connection(child, &[SynRecv]);
                    server.kernel.closes(child, SynRecv, Flags::default(), 0);
                    server.kernel.wait_ms(100);
                }
            }
            server.inferred();
        }
        // All that were accepted are known in the end.
        while server.accepts().is_some() {}
        server.kernel.now += 3 * MILLISECOND;
        server.arrives();
        prop_assert_eq!(server.inferred().len(), server.accepted.len());
    }
}
