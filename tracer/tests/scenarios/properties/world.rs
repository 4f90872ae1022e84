//! A model of a host: namespaces, sockets that follow TCP's rules, and eBPF programs that report
//! and scan them, with all optional [hooks](synfin::tcp::coverage::OptionalHook) or with
//! tracepoints only. Its reports are plausible by construction, and it knows the true state that a
//! tracker should arrive at.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use proptest::{prelude::*, sample::Index};
use synfin::{
    tcp::{
        coverage::{Coverage, OptionalHook},
        role::Role,
    },
    trace::{
        accept_queue::AcceptQueue,
        counters::PortCount,
        event::{Input, Opening, TimeWaitKind},
        ids::{Comm, NetnsId, SockId},
        scan::ScannedSocket,
        time::Nanos,
    },
    tracker::LatencyHistogram,
};
use synfin_common::{
    event::Flags,
    port_count::{PortEvent, SynQueueEvent},
    reset::ResetReason,
    state::TcpState,
};
use synfin_testkit::{
    FakeKernel, MILLISECOND, SECOND, Socket, all_hooks, closing, next_states, socket_id,
};

use super::time_wait::{Change, Future, TimeWait};

/// The start of the trace.
pub(crate) const START: Nanos = 1_000 * SECOND;

pub(crate) const NAMESPACES: [NetnsId; 3] = [7, 8, 9];
const SERVICE_PORTS: [u16; 4] = [22, 80, 443, 8080];

/// The record of a state precedes the stored state by this time.
const STORE_DELAY: Nanos = 10 * MILLISECOND;

/// The record of SYN_SENT precedes the time when a scan can find the socket by this time.
const CONNECT_DELAY: Nanos = SECOND;

/// An event in the model.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Wait(Nanos),
    Listen {
        netns: Index,
        port: Index,
        owner: u32,
    },
    /// A listener or a connection changes its state.
    Moves {
        sock: Index,
        to: Index,
        evidence: Evidence,
    },
    Connect {
        netns: Index,
        port: Index,
        owner: u32,
    },
    /// A SYN gets an entry in a listener's SYN queue.
    SynArrives {
        listener: Index,
    },
    /// A handshake leaves a SYN queue without a connection.
    HandshakeEnds {
        which: Index,
        expires: bool,
    },
    /// A listener gets a child.
    Accept {
        listener: Index,
        peer: u8,
        flags: Flags,
        /// Its handshake had no entry in the SYN queue.
        by_cookie: bool,
    },
    /// accept() takes a child.
    TakesConnection {
        sock: Index,
    },
    /// A reset ends a TIME_WAIT.
    TimeWaitIsReset {
        which: Index,
    },
    ResetArrives {
        sock: Index,
    },
    ScanBegins {
        netns: Index,
    },
    /// The scan visits the next bucket.
    ScansBucket {
        unlucky: bool,
    },
    ScanEnds {
        fails: bool,
    },
    Tick,
    /// The ring has no room for this number of records.
    RingIsFull {
        records: u8,
    },
    /// The kernel skips one run of the hook.
    HookIsSkipped {
        counted: bool,
    },
}

/// Evidence in a last record, or in the record of ESTABLISHED.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    flags: Flags,
    err: u8,
    rtt_us: u32,
    total_retransmits: u32,
    probes: u8,
    bytes: (u64, u64),
    unread: u32,
    idle_ms: Option<u32>,
    /// We send a reset just after the close, for this reason, and whether it answers a segment.
    reset: Option<(ResetReason, bool)>,
    /// If the kernel's TIME_WAIT table is full, one of its entries ends at that moment.
    finds_a_place: bool,
    /// The future of its TIME_WAIT.
    future: Future,
}

/// Any event that loses nothing.
pub(crate) fn lossless_act() -> impl Strategy<Value = Act> {
    let owner = 1..4u32;
    let index = any::<Index>;
    let wait = prop_oneof![
        8 => 1..50 * MILLISECOND,
        2 => 50 * MILLISECOND..2 * SECOND,
        1 => 2 * SECOND..90 * SECOND,
    ];
    prop_oneof![
        6 => wait.prop_map(Act::Wait),
        3 => (index(), index(), owner.clone())
            .prop_map(|(netns, port, owner)| Act::Listen { netns, port, owner }),
        30 => (index(), index(), evidence())
            .prop_map(|(sock, to, evidence)| Act::Moves { sock, to, evidence }),
        6 => (index(), index(), owner)
            .prop_map(|(netns, port, owner)| Act::Connect { netns, port, owner }),
        1 => index().prop_map(|listener| Act::SynArrives { listener }),
        1 => (index(), any::<bool>())
            .prop_map(|(which, expires)| Act::HandshakeEnds { which, expires }),
        8 => (index(), any::<u8>(), flags(), prop::bool::weighted(0.2)).prop_map(
            |(listener, peer, flags, by_cookie)| Act::Accept { listener, peer, flags, by_cookie }
        ),
        4 => index().prop_map(|sock| Act::TakesConnection { sock }),
        1 => index().prop_map(|which| Act::TimeWaitIsReset { which }),
        1 => index().prop_map(|sock| Act::ResetArrives { sock }),
        4 => index().prop_map(|netns| Act::ScanBegins { netns }),
        8 => any::<bool>().prop_map(|unlucky| Act::ScansBucket { unlucky }),
        3 => prop::bool::weighted(0.1).prop_map(|fails| Act::ScanEnds { fails }),
        2 => Just(Act::Tick),
    ]
}

/// Any event.
pub(crate) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => lossless_act(),
        1 => (1..20u8).prop_map(|records| Act::RingIsFull { records }),
        1 => prop::bool::weighted(0.8).prop_map(|counted| Act::HookIsSkipped { counted }),
    ]
}

fn flags() -> impl Strategy<Value = Flags> {
    // Each flag is rare.
    prop::collection::vec(0..15u32, 0..4)
        .prop_map(|bits| Flags(bits.into_iter().fold(0, |flags, bit| flags | 1 << bit)))
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let err = prop_oneof![
        4 => Just(0),
        3 => prop::sample::select(vec![32, 103, 104, 110, 111, 113]),
        1 => any::<u8>(),
    ];
    let rtt_us = prop_oneof![Just(0), 1..100_000u32, (0..9u32).prop_map(|ms| ms * 1000)];
    let rare = prop::bool::weighted(0.2);
    let bytes = (0..10_000u64, 0..10_000u64);
    let idle_ms = prop::option::of(0..100_000u32);
    let reset = (prop::sample::select(ResetReason::ALL), any::<bool>());
    let reset = prop::option::weighted(0.3, reset);
    let fin_after = prop::option::weighted(0.7, prop_oneof![Just(MILLISECOND), Just(SECOND)]);
    // The kernel's timers are late by up to an eighth; those of a minute, by up to a twelfth.
    let future = (fin_after, prop_oneof![2 => Just(0), 1 => 0..=8u64])
        .prop_map(|(fin_after, lateness)| Future { fin_after, lateness });
    (flags(), err, rtt_us, rare, rare, bytes, rare, (idle_ms, reset, any::<bool>(), future))
        .prop_map(|(flags, err, rtt_us, resent, probed, bytes, unread, more)| {
            let (idle_ms, reset, finds_a_place, future) = more;
            Evidence {
                flags,
                err,
                rtt_us,
                total_retransmits: u32::from(resent) * 3,
                probes: u8::from(probed) * 9,
                bytes,
                unread: u32::from(unread) * 100,
                idle_ms,
                reset,
                finds_a_place,
                future,
            }
        })
}

/// A listener or connection, not a TIME_WAIT.
#[derive(Clone, Debug)]
pub(crate) struct Existing {
    pub(crate) socket: Socket,
    pub(crate) state: TcpState,
    before: TcpState,
    changed: Nanos,
    /// Whether it was reported, or found by a complete scan.
    is_known: bool,
    /// Whether the running scan found it.
    is_found: bool,
    /// Whether the last scan missed it.
    missed: bool,
    /// When it began, if that was within the trace.
    began: Option<Nanos>,
    accepted: bool,
}

#[derive(Clone, Debug)]
struct Scan {
    netns: NetnsId,
    begun: Nanos,
    /// The next bucket of the hash table.
    bucket: u64,
    found: Vec<Input>,
    ended: Nanos,
}

const BUCKETS: u64 = 4;
const LONGEST_SCAN: Nanos = 400 * MILLISECOND;

pub(crate) struct World {
    kernel: FakeKernel<Vec<Input>>,
    /// Coverage with all optional hooks, or with none.
    pub(crate) coverage: Coverage,
    sockets: BTreeMap<SockId, Existing>,
    /// Addresses of freed sockets, which are reused in reverse order.
    free: Vec<SockId>,
    next_port: u16,
    time_waits: Vec<TimeWait>,
    /// When other TIME_WAITs have ended.
    ended: Vec<Nanos>,
    /// Handshakes in SYN queues.
    half_open: Vec<(NetnsId, u16)>,
    scan: Option<Scan>,
    /// Counts of ports since the last tick.
    counted: BTreeMap<(NetnsId, u16, SynQueueEvent), u64>,
    /// Whether a TIME_WAIT has ended that only a scan can show.
    pub(crate) undetected: bool,
    /// Connections at the start, and those that began since.
    pub(crate) begun: u64,
    /// How many of these have ended.
    pub(crate) ends: u64,
    /// Handshakes that reached a listener.
    pub(crate) asked: u64,
    /// Events of handshakes in a SYN queue.
    pub(crate) in_syn_queue: BTreeMap<SynQueueEvent, u64>,
    /// Time that accepted connections waited for accept().
    pub(crate) waits: LatencyHistogram,
    /// Closes that left a TIME_WAIT.
    pub(crate) entered: u64,
    /// Closes that should have left a TIME_WAIT and left none.
    pub(crate) overflowed: u64,
    /// Closes that should have left a TIME_WAIT when the kernel's table was full.
    pub(crate) unconfirmed: u64,
}

impl World {
    /// Creates a model in which `before` happened before the trace began, on a kernel with all
    /// optional hooks or with tracepoints only.
    pub(crate) fn after(before: &[Act], shows_all: bool) -> Self {
        let mut world = Self::new(START - 500 * SECOND, coverage(shows_all));
        for act in before {
            world.perform(act);
        }
        world.pass(START.saturating_sub(world.kernel.now));
        let Self { kernel, coverage, mut sockets, free, next_port, .. } = world;
        let Self { mut time_waits, half_open, .. } = world;
        for existing in sockets.values_mut() {
            (existing.is_known, existing.began) = (false, None);
        }
        time_waits.iter_mut().for_each(|time_wait| time_wait.is_known = false);
        let begun = sockets.values().filter(|socket| socket.state != TcpState::Listen).count();
        let begun = begun as u64;
        let new = Self::new(kernel.now, coverage);
        Self { sockets, free, next_port, time_waits, half_open, begun, ..new }
    }

    /// Creates a model in which nothing has happened yet.
    fn new(start: Nanos, coverage: Coverage) -> Self {
        let mut kernel = FakeKernel::new(start, Vec::new());
        kernel.step = 0;
        Self {
            kernel,
            coverage,
            sockets: BTreeMap::new(),
            free: (1..=24).rev().map(socket_id).collect(),
            next_port: 0,
            time_waits: Vec::new(),
            ended: Vec::new(),
            half_open: Vec::new(),
            scan: None,
            counted: BTreeMap::new(),
            undetected: false,
            begun: 0,
            ends: 0,
            asked: 0,
            in_syn_queue: BTreeMap::new(),
            waits: LatencyHistogram::default(),
            entered: 0,
            overflowed: 0,
            unconfirmed: 0,
        }
    }

    /// The reports since the last call.
    pub(crate) fn reported(&mut self) -> Vec<Input> {
        std::mem::take(&mut *self.kernel)
    }

    /// Whether a run of a hook was skipped without being counted.
    pub(crate) fn uncounted(&self) -> bool {
        self.kernel.uncounted > 0
    }

    /// All connections.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (SockId, &Existing)> {
        let sockets = self.sockets.iter().map(|(&sock, socket)| (sock, socket));
        sockets.filter(|(_, socket)| socket.state != TcpState::Listen)
    }

    pub(crate) fn listeners(&self) -> usize {
        self.sockets.len() - self.connections().count()
    }

    /// The present TIME_WAITs and orphans in FIN_WAIT2.
    pub(crate) fn time_waits(&self) -> &[TimeWait] {
        &self.time_waits
    }

    /// The possible number of TIME_WAITs for an observer that knows all timers, but does not see
    /// when they expire and knows times to the second only.
    pub(crate) fn time_waits_by_age(&self) -> std::ops::RangeInclusive<usize> {
        let (now, there) = (self.kernel.now, self.time_waits.len());
        let overdue =
            self.time_waits.iter().filter(|time_wait| time_wait.expiry() <= now + SECOND).count();
        let just_ended = self.ended.iter().filter(|&&time| time >= now - SECOND).count();
        there - overdue..=there + just_ended
    }

    /// Advances the clock and applies the changes due by then.
    fn pass(&mut self, time: Nanos) {
        let until = self.kernel.now + time;
        loop {
            let places = 0..self.time_waits.len();
            let next = places.map(|place| (self.time_waits[place].next(), place)).min();
            let Some(((time, change), place)) = next.filter(|&((time, _), _)| time <= until) else {
                break;
            };
            self.kernel.now = self.kernel.now.max(time);
            match change {
                Change::EntersTimeWait => {
                    self.time_waits[place].enter_time_wait(self.kernel.now);
                    self.time_wait_changes(place, change);
                }
                Change::Ends => self.time_wait_ends(place),
            }
        }
        self.kernel.now = until;
    }

    fn time_wait_ends(&mut self, place: usize) {
        self.time_wait_changes(place, Change::Ends);
        self.time_waits.remove(place);
        self.ended.push(self.kernel.now);
    }

    fn time_wait_changes(&mut self, place: usize, change: Change) {
        if !self.coverage.has(OptionalHook::TimeWait) {
            return;
        }
        let socket = self.time_waits[place].socket;
        match change {
            Change::EntersTimeWait => self.report(|kernel| kernel.leaves_fin_wait2(socket)),
            Change::Ends => self.report(|kernel| kernel.time_wait_ends(socket)),
        };
    }

    /// A new connection replaces a TIME_WAIT with the same endpoints.
    fn replaces_time_wait(&mut self, netns: NetnsId, local: SocketAddr, remote: SocketAddr) {
        let is_same = |TimeWait { socket, .. }: &TimeWait| {
            (socket.netns, socket.local, socket.remote) == (netns, local, remote)
        };
        if let Some(place) = self.time_waits.iter().position(is_same) {
            self.time_wait_ends(place);
        }
    }

    pub(crate) fn perform(&mut self, act: &Act) {
        self.pass(1_000);
        match act {
            Act::Wait(time) => match self.scan.as_ref().filter(|scan| scan.bucket < BUCKETS) {
                Some(scan) => {
                    let left = (scan.begun + LONGEST_SCAN).saturating_sub(self.kernel.now);
                    self.pass((*time).min(left / 4));
                }
                None => self.pass(*time),
            },
            Act::Listen { netns, port, owner } => self.listen(netns, port, *owner),
            Act::Moves { sock, to, evidence } => self.moves(sock, to, evidence),
            Act::Connect { netns, port, owner } => self.connect(netns, port, *owner),
            Act::SynArrives { listener } => {
                if let Some(listener) = self.pick_listener(listener) {
                    self.asked += 1;
                    self.half_open.push(listener);
                    self.count(listener, SynQueueEvent::Entered);
                }
            }
            Act::HandshakeEnds { which, expires } => {
                if !self.half_open.is_empty() {
                    let of = self.half_open.swap_remove(which.index(self.half_open.len()));
                    self.count(
                        of,
                        if *expires { SynQueueEvent::Expired } else { SynQueueEvent::Dropped },
                    );
                }
            }
            Act::Accept { listener, peer, flags, by_cookie } => {
                self.accept(listener, *peer, *flags, *by_cookie);
            }
            Act::TakesConnection { sock } => self.takes_connection(sock),
            Act::TimeWaitIsReset { which } => {
                if !self.time_waits.is_empty() {
                    self.time_wait_ends(which.index(self.time_waits.len()));
                    self.undetected |= !self.coverage.has(OptionalHook::TimeWait);
                }
            }
            Act::ResetArrives { sock } => {
                if let Some(sock) = self.pick(sock, |socket| socket.state != TcpState::Listen) {
                    self.kernel.receives_reset(self.sockets[&sock].socket);
                }
            }
            Act::ScanBegins { netns } => self.scan_begins(*netns.get(&NAMESPACES)),
            Act::ScansBucket { unlucky } => self.scan_bucket(*unlucky),
            Act::ScanEnds { fails } => self.scan_ends(*fails),
            Act::Tick => self.tick(),
            Act::RingIsFull { records } => self.kernel.loses_next((*records).into()),
            Act::HookIsSkipped { counted } => self.kernel.skips_next(*counted),
        }
    }

    /// A complete scan that finds all sockets.
    pub(crate) fn scan_completely(&mut self, netns: NetnsId) {
        self.scan_begins(netns);
        self.scan_ends(false);
    }

    pub(crate) fn end_scan(&mut self) {
        self.scan_ends(false);
    }

    pub(crate) fn tick(&mut self) {
        let counted = std::mem::take(&mut self.counted).into_iter();
        let ports = counted.map(|((netns, port, what), count)| {
            let counted = PortEvent::SynQueue(what).number();
            PortCount { netns, port, counted, count }
        });
        let ports: Vec<_> = ports.collect();
        self.kernel.tick_with(&ports);
    }

    fn is_scanning(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.bucket < BUCKETS)
    }

    fn pick(&self, index: &Index, which: impl Fn(&Existing) -> bool) -> Option<SockId> {
        let candidates: Vec<_> = self
            .sockets
            .iter()
            .filter(|(_, socket)| which(socket))
            .map(|(&sock, _)| sock)
            .collect();
        (!candidates.is_empty()).then(|| *index.get(&candidates))
    }

    fn pick_listener(&self, index: &Index) -> Option<(NetnsId, u16)> {
        let listener = self.pick(index, |socket| socket.state == TcpState::Listen)?;
        let Socket { netns, local, .. } = self.sockets[&listener].socket;
        Some((netns, local.port()))
    }

    /// Counts an event of a handshake in a SYN queue.
    fn count(&mut self, (netns, port): (NetnsId, u16), what: SynQueueEvent) {
        *self.in_syn_queue.entry(what).or_default() += 1;
        if self.coverage.has(OptionalHook::SynQueue) {
            *self.counted.entry((netns, port, what)).or_default() += 1;
        }
    }

    fn takes_connection(&mut self, sock: &Index) {
        let waits = |existing: &Existing| {
            let is_child = existing.socket.role == Role::Server;
            is_child && existing.state != TcpState::Listen && !existing.accepted
        };
        let Some(sock) = self.pick(sock, waits) else { return };
        let Some(existing) = self.sockets.get_mut(&sock) else { return };
        existing.accepted = true;
        let socket = existing.socket;
        if let Some(began) = existing.began {
            self.waits.add((self.kernel.now - began) / 1000);
        }
        if self.coverage.has(OptionalHook::AcceptWait) {
            self.report(|kernel| kernel.accepts(socket));
        }
    }

    fn listen(&mut self, netns: &Index, port: &Index, owner: u32) {
        let Some(id) = self.free.pop() else { return };
        let local = SocketAddr::new(IpAddr::from([0; 16]), *port.get(&SERVICE_PORTS));
        let (netns, role) = (*netns.get(&NAMESPACES), Role::Server);
        self.begins(Socket { id, netns, role, local, remote: unspecified() });
        self.enters(id, TcpState::Listen, Flags::default(), None, Some(owner));
    }

    fn connect(&mut self, netns: &Index, port: &Index, owner: u32) {
        let netns = *netns.get(&NAMESPACES);
        let remote = SocketAddr::from(([192, 0, 2, 80], *port.get(&SERVICE_PORTS)));
        // There are few ports, so that namespaces have equal ones at the same time.
        let Some(local) = (0..32)
            .map(|offset| {
                SocketAddr::from(([192, 0, 2, 1], 40_000 + (self.next_port + offset) % 32))
            })
            .find(|&local| !self.is_taken(netns, local, remote))
        else {
            return;
        };
        let Some(id) = self.free.pop() else { return };
        self.next_port = local.port() - 40_000 + 1;
        self.begins(Socket { id, netns, role: Role::Client, local, remote });
        self.enters(id, TcpState::SynSent, Flags::default(), None, Some(owner));
        self.replaces_time_wait(netns, local, remote);
    }

    fn accept(&mut self, listener: &Index, peer: u8, flags: Flags, by_cookie: bool) {
        let Some((netns, port)) = self.pick_listener(listener) else { return };
        let local = SocketAddr::from(([192, 0, 2, 1], port));
        let remote = SocketAddr::from(([198, 51, 100, 7], 50_000 + u16::from(peer)));
        if self.is_taken(netns, local, remote) {
            return;
        }
        let Some(id) = self.free.pop() else { return };
        self.replaces_time_wait(netns, local, remote);
        let place = self.half_open.iter().position(|&of| of == (netns, port));
        if let Some(place) = place.filter(|_| !by_cookie) {
            self.half_open.swap_remove(place);
        } else {
            self.asked += 1;
            if !by_cookie {
                self.count((netns, port), SynQueueEvent::Entered);
            }
        }
        if !by_cookie {
            self.count((netns, port), SynQueueEvent::Completed);
        }
        self.begins(Socket { id, netns, role: Role::Server, local, remote });
        if let Some(child) = self.sockets.get_mut(&id) {
            (child.before, child.state) = (TcpState::Listen, TcpState::Listen);
        }
        self.enters(id, TcpState::SynRecv, flags, None, None);
    }

    fn is_taken(&self, netns: NetnsId, local: SocketAddr, remote: SocketAddr) -> bool {
        let mut sockets = self.sockets.values().map(|existing| existing.socket);
        sockets.any(|other| (other.netns, other.local, other.remote) == (netns, local, remote))
    }

    fn begins(&mut self, socket: Socket) {
        self.sockets.insert(
            socket.id,
            Existing {
                socket,
                state: TcpState::Close,
                before: TcpState::Close,
                changed: self.kernel.now,
                is_known: false,
                is_found: false,
                missed: false,
                began: Some(self.kernel.now),
                accepted: false,
            },
        );
    }

    fn moves(&mut self, sock: &Index, to: &Index, evidence: &Evidence) {
        let Some(sock) = self.pick(sock, |_| true) else { return };
        let Existing { socket, state, .. } = self.sockets[&sock];
        let next = *to.get(next_states(state));
        let closes_first = matches!(state, TcpState::FinWait2 | TcpState::Closing);
        let is_orderly = closes_first && evidence.err == 0;
        let flags = if is_orderly { orderly(evidence.flags) } else { evidence.flags };
        // Of the orderly closes, only data with the ACK of our FIN causes a reset.
        let peer_is_slow = state == TcpState::FinWait2 && !flags.contains(Flags::FIN_RECEIVED);
        let reset = evidence.reset.filter(|_| !is_orderly || peer_is_slow);
        let kind = (is_orderly && reset.is_none()).then(|| match peer_is_slow {
            _ if flags.contains(Flags::TIME_WAIT_FULL) && !evidence.finds_a_place => {
                TimeWaitKind::Nothing
            }
            true => TimeWaitKind::FinWait2,
            false => TimeWaitKind::TimeWait,
        });
        if let Some(kind) = kind {
            if self.coverage.has(OptionalHook::TimeWait) {
                self.report(|kernel| kernel.enters_time_wait(socket, kind));
            }
            self.unconfirmed += u64::from(flags.contains(Flags::TIME_WAIT_FULL));
        }
        self.enters(sock, next, flags, Some(evidence), None);
        if next != TcpState::Close {
            return;
        }
        self.sockets.remove(&sock);
        self.free.push(sock);
        if state == TcpState::Listen {
            return;
        }
        self.ends += 1;
        if let Some((reason, answer)) = reset {
            self.report(|kernel| kernel.sends_reset(socket, reason, answer));
        }
        match kind {
            None => {}
            Some(TimeWaitKind::Nothing) => self.overflowed += 1,
            Some(kind) => {
                self.entered += 1;
                let (now, future) = (self.kernel.now, evidence.future);
                self.time_waits.push(TimeWait::new(socket, kind, now, future));
            }
        }
    }

    /// A socket enters a state, which the kernel reports.
    fn enters(
        &mut self,
        sock: SockId,
        new: TcpState,
        flags: Flags,
        evidence: Option<&Evidence>,
        owner: Option<u32>,
    ) {
        let Some(existing) = self.sockets.get_mut(&sock) else { return };
        let (old, mut shown) = (existing.state, existing.socket);
        (existing.before, existing.state, existing.changed) = (old, new, self.kernel.now);
        let begins = [(TcpState::Close, TcpState::SynSent), (TcpState::Listen, TcpState::SynRecv)];
        if begins.contains(&(old, new)) {
            self.begun += 1;
            shown = shown.unbound();
        }
        let opens = matches!(new, TcpState::SynSent | TcpState::SynRecv | TcpState::Listen);
        let opening = opens.then(|| Opening {
            cgroup: 1,
            accept_queue: AcceptQueue {
                depth: evidence.map_or(0, |evidence| evidence.unread),
                limit: 128,
            },
            comm: owner.map_or(Comm::default(), |owner| (&format!("process {owner}")).into()),
            ..Opening::default()
        });
        let is_received = self.report(|kernel| {
            kernel.moves_with(shown, (old, new), |transition| {
                (transition.flags, transition.pid, transition.opening) = (flags, owner, opening);
                transition.rtt_us = 0;
                let Some(evidence) = evidence else { return };
                (transition.err, transition.probes) = (evidence.err, evidence.probes);
                transition.rtt_us = evidence.rtt_us;
                transition.total_retransmits = evidence.total_retransmits;
                if let Some(last) = &mut transition.closing {
                    let (unread, idle_ms) = (evidence.unread, evidence.idle_ms);
                    *last = closing(evidence.bytes.0, evidence.bytes.1);
                    (last.unread, last.idle_ms) = (unread, idle_ms);
                }
            });
        });
        if let Some(existing) = self.sockets.get_mut(&sock) {
            existing.is_known |= is_received;
        }
    }

    /// Returns whether the record was received.
    fn report(&mut self, record: impl FnOnce(&mut FakeKernel<Vec<Input>>)) -> bool {
        let before = self.kernel.len();
        record(&mut self.kernel);
        self.kernel.len() > before
    }

    fn scan_begins(&mut self, netns: NetnsId) {
        if self.scan.is_none() {
            self.kernel.scan_begins(netns);
            self.pass(1_000);
            self.sockets.values_mut().for_each(|existing| existing.is_found = false);
            self.time_waits.iter_mut().for_each(|time_wait| time_wait.is_found = false);
            let now = self.kernel.now;
            self.scan = Some(Scan { netns, begun: now, bucket: 0, found: Vec::new(), ended: now });
        }
    }

    /// Scans the next bucket. If `unlucky`, the scan finds earlier states where possible, and skips
    /// the sockets that the last scan found.
    fn scan_bucket(&mut self, unlucky: bool) {
        let Some(mut scan) = self.scan.take() else { return };
        let now = self.kernel.now;
        if scan.bucket < BUCKETS {
            let mine = |netns, key| netns == scan.netns && key % BUCKETS == scan.bucket;
            for (&sock, existing) in &mut self.sockets {
                if !mine(existing.socket.netns, sock >> 12) {
                    continue;
                }
                let unlucky = unlucky && existing.is_known;
                let is_skipped = match existing.state {
                    TcpState::SynSent if now < existing.changed + CONNECT_DELAY => unlucky,
                    _ => unlucky && !existing.missed,
                };
                let late = unlucky && !existing.missed && now <= existing.changed + STORE_DELAY;
                let found = if is_skipped { None } else { existing.as_found(now, late) };
                existing.missed = found.is_none();
                existing.is_found = found.is_some();
                scan.found.extend(found);
            }
            for time_wait in &mut self.time_waits {
                if mine(time_wait.socket.netns, time_wait.socket.remote.port().into()) {
                    scan.found.push(time_wait.as_found(now));
                    time_wait.is_found = true;
                }
            }
            scan.bucket += 1;
            scan.ended = now;
        }
        self.scan = Some(scan);
    }

    fn scan_ends(&mut self, fails: bool) {
        while self.is_scanning() && !fails {
            self.scan_bucket(false);
        }
        let Some(scan) = self.scan.take() else { return };
        if !fails {
            for existing in self.sockets.values_mut() {
                existing.is_known |= existing.is_found;
            }
            for time_wait in &mut self.time_waits {
                time_wait.is_known |= time_wait.is_found;
            }
        }
        for input in scan.found {
            self.kernel.report(input);
        }
        self.kernel.scan_ends_with(scan.netns, |end| {
            (end.started, end.ended) = (scan.begun, scan.ended);
            end.error = fails.then(|| "no such namespace".to_owned());
        });
    }
}

impl Existing {
    fn as_found(&self, now: Nanos, late: bool) -> Option<Input> {
        let state = if late { self.before } else { self.state };
        let Socket { role, local, remote, .. } = self.socket;
        if state == TcpState::Close || (state == TcpState::Listen && remote.port() != 0) {
            return None;
        }
        // Half of the kernels report it.
        let port_by_connect = local.port().is_multiple_of(2).then_some(role == Role::Client);
        let scanned = self.socket.scanned(state);
        let flags = Flags::default();
        Some(Input::ScannedSocket(ScannedSocket { time: now, port_by_connect, flags, ..scanned }))
    }
}

/// The flags that a last record before a TIME_WAIT can have.
fn orderly(flags: Flags) -> Flags {
    Flags(flags.0 & Flags::FIN_RECEIVED.with(Flags::TIME_WAIT_FULL).0).with(Flags::DEAD)
}

/// Coverage with all optional hooks, or with tracepoints only.
pub(crate) fn coverage(has_all_hooks: bool) -> Coverage {
    if has_all_hooks { all_hooks() } else { Coverage::default() }
}

fn unspecified() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}
