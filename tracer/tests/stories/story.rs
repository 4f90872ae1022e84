//! A tracker that is told a story, thing by thing.

use std::net::SocketAddr;

use synfin::{
    tcp::{
        close_reason::CloseReason,
        coverage::{Coverage, OptionalHook},
        group_by::By,
        role::Role,
    },
    trace::{
        counters::{Counters, PortCount, Tick},
        event::{
            Accepted, Input, Opening, TimeWaitChange, TimeWaitEntry, TimeWaitKind, Transition,
        },
        filter::Filter,
        ids::{NetnsId, SockId},
        scan::{EphemeralPorts, ScanBegin, ScanEnd, ScannedSocket, ScannedTimeWait},
        time::Nanos,
    },
    tracker::{Change, ChangeKinds, Closed, Common, Connection, Limits, RowSnapshot, Tracker},
};
use synfin_common::{
    event::{Flags, Kind},
    state::TcpState::{self, *},
};

pub(crate) const SECOND: Nanos = 1_000_000_000;
pub(crate) const HERE: NetnsId = 1;
pub(crate) const ELSEWHERE: NetnsId = 2;

/// When every story begins.
const START: Nanos = 1_000 * SECOND;

/// A socket of the stories.
#[derive(Clone, Copy)]
pub(crate) struct Sock {
    pub(crate) id: SockId,
    pub(crate) netns: NetnsId,
    pub(crate) role: Role,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Sock {
    pub(crate) fn client(id: SockId, port: u16) -> Self {
        let local = SocketAddr::from(([192, 0, 2, 1], port));
        Self { id, netns: HERE, role: Role::Client, local, remote: at("192.0.2.80:443") }
    }

    pub(crate) fn child(id: SockId, port: u16) -> Self {
        let remote = at("198.51.100.7:50000");
        Self { role: Role::Server, remote, ..Self::client(id, port) }
    }

    pub(crate) fn listener(id: SockId, port: u16) -> Self {
        let local = SocketAddr::from(([0, 0, 0, 0], port));
        Self { local, remote: at("0.0.0.0:0"), ..Self::child(id, port) }
    }

    pub(crate) fn met_in(self, state: TcpState) -> ScannedSocket {
        ScannedSocket {
            time: 0,
            sock: self.id,
            state,
            local: self.local,
            remote: self.remote,
            flags: Flags::default(),
            port_by_connect: None,
            retransmits: 0,
            rtt_us: 0,
            accept_queue: (0, 128),
            drops: 0,
            idle_ms: None,
            cgroup: 0,
        }
    }
}

/// A tracker that is told a story; each thing a microsecond after the one before.
pub(crate) struct Story {
    pub(crate) tracker: Tracker,
    pub(crate) closed: Vec<Closed>,
    pub(crate) now: Nanos,
    counters: Counters,
    /// How the namespaces give out ports, as the scans find it.
    pub(crate) ephemeral_ports: Option<EphemeralPorts>,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::of(Tracker::new(limits, START))
    }

    /// Of which only this is to be told.
    pub(crate) fn filtered(filter: Filter) -> Self {
        Self::of(Tracker::new(Limits::default(), START).with_filters(vec![filter]))
    }

    /// The kernel shows all that any does.
    pub(crate) fn exact(self) -> Self {
        let coverage = Coverage::of(&OptionalHook::ALL.map(OptionalHook::name));
        Self { tracker: self.tracker.with_coverage(coverage), ..self }
    }

    fn of(tracker: Tracker) -> Self {
        let now = START;
        let counters = Counters::default();
        let tracker = tracker.with_changes(ChangeKinds::CLOSED);
        Self { tracker, closed: Vec::new(), now, counters, ephemeral_ports: None }
    }

    /// In which every namespace was scanned, and nothing was there.
    pub(crate) fn after_walks() -> Self {
        let mut story = Self::new();
        story.scan(HERE, &[]);
        story.scan(ELSEWHERE, &[]);
        story
    }

    pub(crate) fn tell(&mut self, input: Input) {
        self.tracker.apply(&input);
        self.take_changes();
        self.now = self.now.saturating_add(1_000);
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        self.counts(&[]);
    }

    /// As [`Self::wait`], to the millisecond.
    pub(crate) fn wait_ms(&mut self, ms: u64) {
        self.now += ms * 1_000_000;
        self.counts(&[]);
    }

    /// The kernel side has counted this per port.
    pub(crate) fn counts(&mut self, ports: &[PortCount]) {
        let counters = self.counters.clone();
        self.tell(Input::Tick(Tick { time: self.now, counters, ports: ports.to_vec() }));
    }

    /// The kernel side has made so many records by now, of which some may be on their way.
    pub(crate) fn has_seen(&mut self, records: u64) {
        self.counters.seen[Kind::Step as usize] = records;
    }

    pub(crate) fn loses(&mut self, kind: Kind) {
        self.counters.seen[kind as usize] += 1;
        self.counters.lost[kind as usize] += 1;
        self.wait(0);
    }

    pub(crate) fn transition(&self, sock: Sock, (old, new): (TcpState, TcpState)) -> Transition {
        Transition {
            time: self.now,
            sock: sock.id,
            netns: sock.netns,
            old,
            new,
            local: sock.local,
            remote: sock.remote,
            flags: Flags::default(),
            err: 0,
            err_soft: 0,
            pid: None,
            rtt_us: 187,
            retransmits: 0,
            probes: 0,
            total_retransmits: 0,
            opening: None,
            closing: None,
        }
    }

    pub(crate) fn goes(&mut self, sock: Sock, states: (TcpState, TcpState)) {
        self.tell(Input::Transition(self.transition(sock, states)));
    }

    pub(crate) fn listens(&mut self, sock: Sock, owner: &str) {
        let opening = Opening { cgroup: 0, accept_queue: (0, 0), comm: owner.into() };
        let listens = self.transition(sock, (Close, Listen));
        let listens = Transition { pid: Some(700), opening: Some(opening), ..listens };
        self.tell(Input::Transition(listens));
    }

    /// From its birth, which does not know both ends yet, through these states.
    pub(crate) fn connection(&mut self, sock: Sock, states: &[TcpState]) {
        let (mut born, mut old) = (sock, Close);
        match sock.role {
            Role::Client => born.local.set_port(0),
            Role::Server => {
                born.local.set_ip([0, 0, 0, 0].into());
                (born.remote, old) = (at("0.0.0.0:0"), Listen);
            }
        }
        for &state in states {
            self.goes(born, (old, state));
            (born, old) = (sock, state);
        }
    }

    /// Before its end: what it is about to leave behind.
    pub(crate) fn leaves(&mut self, sock: Sock, remains: TimeWaitKind) {
        let entry = TimeWaitEntry { time: self.now, sock: sock.id, kind: remains };
        self.tell(Input::TimeWaitEntry(entry));
    }

    /// The peer of an orphan in FIN_WAIT2 has closed.
    pub(crate) fn turns(&mut self, sock: Sock) {
        self.time_wait_changes(sock, false);
    }

    /// What it left behind is gone.
    pub(crate) fn is_gone(&mut self, sock: Sock) {
        self.time_wait_changes(sock, true);
    }

    fn time_wait_changes(&mut self, sock: Sock, is_gone: bool) {
        let Sock { netns, local, remote, .. } = sock;
        let change = TimeWaitChange { time: self.now, netns, local, remote, is_gone };
        self.tell(Input::TimeWaitChange(change));
    }

    /// accept() takes it.
    pub(crate) fn is_accepted(&mut self, sock: Sock) {
        self.tell(Input::Accepted(Accepted { time: self.now, sock: sock.id }));
    }

    pub(crate) fn ends_in_time_wait(&mut self, sock: Sock) {
        self.connection(sock, &[SynSent, Established, FinWait1, TcpState::Closing, Close]);
        assert_eq!(self.reasons().last(), Some(&CloseReason::ClosedByBoth));
    }

    pub(crate) fn walk_begins(&mut self, netns: NetnsId) {
        self.tell(Input::ScanBegin(ScanBegin { netns, time: self.now }));
    }

    pub(crate) fn walk_ends(&mut self, netns: NetnsId, error: Option<&str>) {
        let error = error.map(str::to_owned);
        let (begun, ended) = (self.now, self.now);
        let ephemeral_ports = self.ephemeral_ports;
        self.tell(Input::ScanEnd(ScanEnd {
            netns,
            begun,
            ended,
            error,
            ephemeral_ports,
            counters: None,
        }));
    }

    pub(crate) fn scan(&mut self, netns: NetnsId, met: &[ScannedSocket]) {
        self.walk_begins(netns);
        for socket in met {
            self.tell(Input::ScannedSocket(ScannedSocket { time: self.now, ..socket.clone() }));
        }
        self.walk_ends(netns, None);
    }

    /// Within a scan.
    pub(crate) fn meets_time_wait(&mut self, sock: Sock, remaining_ms: u32) {
        self.meets_remains(sock, false, remaining_ms);
    }

    /// Within a scan: a TIME_WAIT, or an orphan in FIN_WAIT2.
    pub(crate) fn meets_remains(&mut self, sock: Sock, fin_wait2: bool, remaining_ms: u32) {
        self.tell(Input::ScannedTimeWait(ScannedTimeWait {
            fin_wait2,
            port_by_connect: None,
            local: sock.local,
            remote: sock.remote,
            remaining_ms,
        }));
    }

    /// No more comes.
    pub(crate) fn finish(&mut self) {
        self.tracker.finish();
        self.take_changes();
    }

    fn take_changes(&mut self) {
        self.closed.extend(self.tracker.drain_changes().filter_map(|change| match change {
            Change::Closed(closed) => Some(closed),
            _ => None,
        }));
    }

    pub(crate) fn reasons(&self) -> Vec<CloseReason> {
        self.closed.iter().map(|closed| closed.reason).collect()
    }

    pub(crate) fn only_life(&self) -> &Connection {
        let lives: Vec<_> = self.tracker.open().collect();
        match lives[..] {
            [(_, connection)] => connection,
            _ => panic!("not one connection, but {lives:?}"),
        }
    }

    pub(crate) fn gaps(&self) -> u64 {
        self.tracker.events().gaps
    }

    /// What a report would show now.
    pub(crate) fn rows(&mut self) -> Vec<RowSnapshot> {
        self.tracker.take_snapshot().rows(By::Port)
    }

    /// The row of a port.
    #[track_caller]
    pub(crate) fn row(&mut self, role: Role, port: u16) -> RowSnapshot {
        let rows = self.rows();
        let mut found = rows
            .into_iter()
            .filter(|row| (row.identity.role, &row.identity.port) == (role, &Common::One(port)));
        found.next().unwrap_or_else(|| panic!("no row of {} {port}", role.name()))
    }

    /// The only row.
    #[track_caller]
    pub(crate) fn only_row(&mut self) -> RowSnapshot {
        let mut rows = self.rows();
        assert_eq!(rows.len(), 1, "not one row, but {rows:?}");
        rows.remove(0)
    }
}
