//! A world with TCP in it: namespaces, sockets that live by the kernel's rules, and a kernel side
//! that reports on them and scans over them; with all [hooks](synfin::tcp::coverage::Extra) that there are,
//! or with the tracepoints only. What it tells is plausible by construction, and it knows the truth
//! that a tracker should arrive at.

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
        counters::{Counters, PortCount, Tick},
        event::{
            Accepted, Closing, Input, Opening, Reset, ResetDirection, TimeWaitEntry, TimeWaitKind,
            Transition,
        },
        ids::{Comm, NetnsId, SockId},
        scan::{ScanBegin, ScanEnd, ScannedSocket},
        time::Nanos,
    },
    tracker::LatencyHistogram,
};
use synfin_common::{
    event::{Flags, Kind},
    port_count::{PortEvent, SynQueueEvent},
    reset::ResetReason,
    state::TcpState,
};

use crate::remains::{Change, Future, TimeWait};

pub(crate) const SECOND: Nanos = 1_000_000_000;
pub(crate) const MILLISECOND: Nanos = 1_000_000;

/// When the trace begins.
pub(crate) const START: Nanos = 1_000 * SECOND;

pub(crate) const NAMESPACES: [NetnsId; 3] = [7, 8, 9];
const SERVICE_PORTS: [u16; 4] = [22, 80, 443, 8080];

/// A record of a state is made a moment before the state is stored.
const STORE_DELAY: Nanos = 10 * MILLISECOND;

/// connect() reports SYN_SENT a moment before a scan can meet the socket.
const CONNECT_DELAY: Nanos = SECOND;

/// Something happens.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Wait(Nanos),
    Listen {
        netns: Index,
        port: Index,
        owner: u32,
    },
    /// A listener or a connection goes on, or ends.
    Onward {
        sock: Index,
        to: Index,
        evidence: Evidence,
    },
    Connect {
        netns: Index,
        port: Index,
        owner: u32,
    },
    /// A SYN gets a place in a listener's SYN queue.
    SynArrives {
        listener: Index,
    },
    /// A handshake leaves a SYN queue without a connection.
    HandshakeEnds {
        which: Index,
        expires: bool,
    },
    /// A listener has a child.
    Accept {
        listener: Index,
        peer: u8,
        flags: Flags,
        /// Its handshake had no place in the SYN queue.
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
    WalkBegins {
        netns: Index,
    },
    /// The scanner comes past some sockets.
    WalkGoesOn {
        unlucky: bool,
    },
    WalkEnds {
        fails: bool,
    },
    Tick,
    /// The ring has no room for so many records.
    RingIsFull {
        records: u8,
    },
    /// The kernel skips the hook once.
    HookIsSkipped {
        counted: bool,
    },
}

/// What the record of an end, or of ESTABLISHED, shows besides.
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
    /// We send a reset just after the end, for this reason, maybe in answer to a segment.
    reset: Option<(ResetReason, bool)>,
    /// Where the kernel's table for TIME_WAIT is full: one ends at that moment.
    finds_a_place: bool,
    /// What becomes of a TIME_WAIT.
    future: Future,
}

/// What can happen while nothing is lost.
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
            .prop_map(|(sock, to, evidence)| Act::Onward { sock, to, evidence }),
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
        4 => index().prop_map(|netns| Act::WalkBegins { netns }),
        8 => any::<bool>().prop_map(|unlucky| Act::WalkGoesOn { unlucky }),
        3 => prop::bool::weighted(0.1).prop_map(|fails| Act::WalkEnds { fails }),
        2 => Just(Act::Tick),
    ]
}

/// What can happen.
pub(crate) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => lossless_act(),
        1 => (1..20u8).prop_map(|records| Act::RingIsFull { records }),
        1 => prop::bool::weighted(0.8).prop_map(|counted| Act::HookIsSkipped { counted }),
    ]
}

fn flags() -> impl Strategy<Value = Flags> {
    // Each one rarely: most are the exception.
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
    // The kernel's timers are late by up to an eighth; of those set to a minute, by a twelfth.
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

/// A socket, listener or connection, that is not in TIME_WAIT.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    pub(crate) netns: NetnsId,
    pub(crate) role: Role,
    pub(crate) state: TcpState,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    before: TcpState,
    changed: Nanos,
    /// It was reported on, or met by a scan.
    told_of: bool,
    /// The last scan came past without meeting it.
    missed: bool,
    /// When it was born, if it was since the start.
    born: Option<Nanos>,
    accepted: bool,
}

#[derive(Clone, Debug)]
struct Walk {
    netns: NetnsId,
    begun: Nanos,
    /// The part of the hash tables that comes next.
    bucket: u64,
    findings: Vec<Input>,
    ended: Nanos,
}

const BUCKETS: u64 = 4;
const LONGEST_WALK: Nanos = 400 * MILLISECOND;

pub(crate) struct World {
    pub(crate) now: Nanos,
    /// The hooks beyond the tracepoints: all or none.
    pub(crate) coverage: Coverage,
    sockets: BTreeMap<SockId, Socket>,
    /// Addresses of sockets that are no more, to be used again, the last one first.
    free: Vec<SockId>,
    next_port: u16,
    time_waits: Vec<TimeWait>,
    /// When other TIME_WAITs have ended.
    ended: Vec<Nanos>,
    /// Handshakes in SYN queues.
    half_open: Vec<(NetnsId, u16)>,
    scan: Option<Walk>,
    /// What was counted at ports since the last tick.
    counted: BTreeMap<(NetnsId, u16, SynQueueEvent), u64>,
    counters: Counters,
    losing: u8,
    skipping: Option<bool>,
    /// The hook was skipped, and the kernel did not count it.
    pub(crate) uncounted: bool,
    /// Something ended that only a scan shows.
    pub(crate) unseen: bool,
    /// Connections that there were at the start or were born since.
    pub(crate) births: u64,
    /// Of these, those that have ended.
    pub(crate) ends: u64,
    /// Handshakes that came to a listener.
    pub(crate) asked: u64,
    /// Handshakes to which something happened in a SYN queue.
    pub(crate) in_syn_queue: BTreeMap<SynQueueEvent, u64>,
    /// How long those waited for accept() that it has taken.
    pub(crate) waits: LatencyHistogram,
    /// Ends that left a TIME_WAIT.
    pub(crate) entered: u64,
    /// Ends that were due one and left none.
    pub(crate) overflowed: u64,
    /// Ends that were due one when the kernel's table was full.
    pub(crate) unconfirmed: u64,
    told: Vec<Input>,
}

impl World {
    /// A world in which `before` happened before anybody looked; and the kernel shows all that any
    /// does, or its tracepoints only.
    pub(crate) fn after(before: &[Act], shows_all: bool) -> Self {
        let optional_hooks =
            if shows_all { &OptionalHook::ALL.map(OptionalHook::name)[..] } else { &[] };
        let mut world = Self::new(START - 500 * SECOND, Coverage::of(optional_hooks));
        for act in before {
            world.happens(act);
        }
        world.pass(START.saturating_sub(world.now));
        let Self { now, coverage, mut sockets, free, next_port, mut time_waits, half_open, .. } =
            world;
        for socket in sockets.values_mut() {
            (socket.told_of, socket.born) = (false, None);
        }
        time_waits.iter_mut().for_each(|time_wait| time_wait.is_known = false);
        let births = sockets.values().filter(|socket| socket.state != TcpState::Listen).count();
        let births = births as u64;
        let new = Self::new(now, coverage);
        Self { sockets, free, next_port, time_waits, half_open, births, ..new }
    }

    /// In which nothing is yet.
    fn new(now: Nanos, coverage: Coverage) -> Self {
        Self {
            now,
            coverage,
            sockets: BTreeMap::new(),
            free: (1..=24).rev().map(|number| 0xffff_8880_0000_0000 + number * 0x1000).collect(),
            next_port: 0,
            time_waits: Vec::new(),
            ended: Vec::new(),
            half_open: Vec::new(),
            scan: None,
            counted: BTreeMap::new(),
            counters: Counters::default(),
            losing: 0,
            skipping: None,
            uncounted: false,
            unseen: false,
            births: 0,
            ends: 0,
            asked: 0,
            in_syn_queue: BTreeMap::new(),
            waits: LatencyHistogram::default(),
            entered: 0,
            overflowed: 0,
            unconfirmed: 0,
            told: Vec::new(),
        }
    }

    /// What was told since the last call.
    pub(crate) fn told(&mut self) -> Vec<Input> {
        std::mem::take(&mut self.told)
    }

    /// All connections.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (SockId, &Socket)> {
        let sockets = self.sockets.iter().map(|(&sock, socket)| (sock, socket));
        sockets.filter(|(_, socket)| socket.state != TcpState::Listen)
    }

    pub(crate) fn listeners(&self) -> usize {
        self.sockets.len() - self.connections().count()
    }

    /// What sockets have left behind, and is still there.
    pub(crate) fn time_waits(&self) -> &[TimeWait] {
        &self.time_waits
    }

    /// How many of these there may be for somebody who knows all timers, but neither sees when they
    /// run down, nor tells moments in one second apart.
    pub(crate) fn time_waits_by_age(&self) -> std::ops::RangeInclusive<usize> {
        let (now, there) = (self.now, self.time_waits.len());
        let overdue =
            self.time_waits.iter().filter(|time_wait| time_wait.expiry() <= now + SECOND).count();
        let just_ended = self.ended.iter().filter(|&&time| time >= now - SECOND).count();
        there - overdue..=there + just_ended
    }

    /// Time passes, and what it brings with it happens.
    fn pass(&mut self, time: Nanos) {
        let until = self.now + time;
        loop {
            let places = 0..self.time_waits.len();
            let next = places.map(|place| (self.time_waits[place].next(), place)).min();
            let Some(((time, change), place)) = next.filter(|&((time, _), _)| time <= until) else {
                break;
            };
            self.now = self.now.max(time);
            match change {
                Change::Turns => {
                    self.time_waits[place].turns(self.now);
                    self.time_wait_changes(place, change);
                }
                Change::Ends => self.time_wait_ends(place),
            }
        }
        self.now = until;
    }

    fn time_wait_ends(&mut self, place: usize) {
        self.time_wait_changes(place, Change::Ends);
        self.time_waits.remove(place);
        self.ended.push(self.now);
    }

    fn time_wait_changes(&mut self, place: usize, change: Change) {
        let kind = match change {
            Change::Turns => Kind::FinWait2ToTimeWait,
            Change::Ends => Kind::TimeWaitExit,
        };
        self.report(kind, self.time_waits[place].told(self.now, change));
    }

    /// A new connection takes the place of an old one's TIME_WAIT.
    fn takes_place(&mut self, netns: NetnsId, local: SocketAddr, remote: SocketAddr) {
        let is_same = |old: &TimeWait| (old.netns, old.local, old.remote) == (netns, local, remote);
        if let Some(place) = self.time_waits.iter().position(is_same) {
            self.time_wait_ends(place);
        }
    }

    pub(crate) fn happens(&mut self, act: &Act) {
        self.pass(1_000);
        match act {
            Act::Wait(time) => match self.scan.as_ref().filter(|scan| scan.bucket < BUCKETS) {
                Some(scan) => {
                    let left = (scan.begun + LONGEST_WALK).saturating_sub(self.now);
                    self.pass((*time).min(left / 4));
                }
                None => self.pass(*time),
            },
            Act::Listen { netns, port, owner } => self.listen(netns, port, *owner),
            Act::Onward { sock, to, evidence } => self.onward(sock, to, evidence),
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
                    self.unseen |= !self.coverage.has(OptionalHook::TimeWait);
                }
            }
            Act::ResetArrives { sock } => {
                if let Some(sock) = self.pick(sock, |socket| socket.state != TcpState::Listen) {
                    let way = ResetDirection::Received;
                    let reset = Reset { time: self.now, sock, direction: way };
                    self.report(Kind::ResetReceived, Input::Reset(reset));
                }
            }
            Act::WalkBegins { netns } => self.walk_begins(*netns.get(&NAMESPACES)),
            Act::WalkGoesOn { unlucky } => self.walk_goes_on(*unlucky),
            Act::WalkEnds { fails } => self.walk_ends(*fails),
            Act::Tick => self.tick(),
            Act::RingIsFull { records } => self.losing = *records,
            Act::HookIsSkipped { counted } => self.skipping = Some(*counted),
        }
    }

    /// A whole scan that meets all there is.
    pub(crate) fn is_walked(&mut self, netns: NetnsId) {
        self.walk_begins(netns);
        self.walk_ends(false);
    }

    pub(crate) fn walk_is_over(&mut self) {
        self.walk_ends(false);
    }

    pub(crate) fn tick(&mut self) {
        let counted = std::mem::take(&mut self.counted).into_iter();
        let ports = counted.map(|((netns, port, what), count)| {
            let counted = PortEvent::SynQueue(what).number();
            PortCount { netns, port, counted, count }
        });
        let tick = Tick { time: self.now, counters: self.counters.clone(), ports: ports.collect() };
        self.told.push(Input::Tick(tick));
    }

    fn is_walking(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.bucket < BUCKETS)
    }

    fn pick(&self, index: &Index, which: impl Fn(&Socket) -> bool) -> Option<SockId> {
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
        let Socket { netns, local, .. } = &self.sockets[&listener];
        Some((*netns, local.port()))
    }

    /// Something befalls a handshake in a SYN queue.
    fn count(&mut self, (netns, port): (NetnsId, u16), what: SynQueueEvent) {
        *self.in_syn_queue.entry(what).or_default() += 1;
        if self.coverage.has(OptionalHook::SynQueue) {
            *self.counted.entry((netns, port, what)).or_default() += 1;
        }
    }

    fn takes_connection(&mut self, sock: &Index) {
        let waits = |socket: &Socket| {
            socket.role == Role::Server && socket.state != TcpState::Listen && !socket.accepted
        };
        let Some(sock) = self.pick(sock, waits) else { return };
        let Some(socket) = self.sockets.get_mut(&sock) else { return };
        socket.accepted = true;
        if let Some(born) = socket.born {
            self.waits.add((self.now - born) / 1000);
        }
        self.report(Kind::Accepted, Input::Accepted(Accepted { time: self.now, sock }));
    }

    fn listen(&mut self, netns: &Index, port: &Index, owner: u32) {
        let Some(sock) = self.free.pop() else { return };
        let local = SocketAddr::new(IpAddr::from([0; 16]), *port.get(&SERVICE_PORTS));
        self.born(sock, *netns.get(&NAMESPACES), Role::Server, (local, unknown()));
        self.enters(sock, TcpState::Listen, Flags::default(), None, Some(owner));
    }

    fn connect(&mut self, netns: &Index, port: &Index, owner: u32) {
        let netns = *netns.get(&NAMESPACES);
        let remote = SocketAddr::from(([192, 0, 2, 80], *port.get(&SERVICE_PORTS)));
        // Few ports, so that namespaces have equal ones at the same time.
        let Some(local) = (0..32)
            .map(|offset| {
                SocketAddr::from(([192, 0, 2, 1], 40_000 + (self.next_port + offset) % 32))
            })
            .find(|&local| !self.is_taken(netns, local, remote))
        else {
            return;
        };
        let Some(sock) = self.free.pop() else { return };
        self.next_port = local.port() - 40_000 + 1;
        self.born(sock, netns, Role::Client, (local, remote));
        self.enters(sock, TcpState::SynSent, Flags::default(), None, Some(owner));
        self.takes_place(netns, local, remote);
    }

    fn accept(&mut self, listener: &Index, peer: u8, flags: Flags, by_cookie: bool) {
        let Some((netns, port)) = self.pick_listener(listener) else { return };
        let local = SocketAddr::from(([192, 0, 2, 1], port));
        let remote = SocketAddr::from(([198, 51, 100, 7], 50_000 + u16::from(peer)));
        if self.is_taken(netns, local, remote) {
            return;
        }
        let Some(sock) = self.free.pop() else { return };
        self.takes_place(netns, local, remote);
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
        self.born(sock, netns, Role::Server, (local, remote));
        if let Some(socket) = self.sockets.get_mut(&sock) {
            socket.before = TcpState::Listen;
            socket.state = TcpState::Listen;
        }
        self.enters(sock, TcpState::SynRecv, flags, None, None);
    }

    fn is_taken(&self, netns: NetnsId, local: SocketAddr, remote: SocketAddr) -> bool {
        self.sockets
            .values()
            .any(|socket| (socket.netns, socket.local, socket.remote) == (netns, local, remote))
    }

    fn born(
        &mut self,
        sock: SockId,
        netns: NetnsId,
        role: Role,
        (local, remote): (SocketAddr, SocketAddr),
    ) {
        self.sockets.insert(
            sock,
            Socket {
                netns,
                role,
                state: TcpState::Close,
                local,
                remote,
                before: TcpState::Close,
                changed: self.now,
                told_of: false,
                missed: false,
                born: Some(self.now),
                accepted: false,
            },
        );
    }

    fn onward(&mut self, sock: &Index, to: &Index, evidence: &Evidence) {
        let Some(sock) = self.pick(sock, |_| true) else { return };
        let socket = self.sockets[&sock].clone();
        let next = *to.get(successors(socket.state));
        let closes_first = matches!(socket.state, TcpState::FinWait2 | TcpState::Closing);
        let is_orderly = closes_first && evidence.err == 0;
        let flags = if is_orderly { orderly(evidence.flags) } else { evidence.flags };
        // Of the orderly ends, only data with the ACK of our FIN has a reset after it.
        let peer_is_slow =
            socket.state == TcpState::FinWait2 && !flags.contains(Flags::FIN_RECEIVED);
        let reset = evidence.reset.filter(|_| !is_orderly || peer_is_slow);
        let remains = (is_orderly && reset.is_none()).then(|| match peer_is_slow {
            _ if flags.contains(Flags::TIME_WAIT_FULL) && !evidence.finds_a_place => {
                TimeWaitKind::Nothing
            }
            true => TimeWaitKind::FinWait2,
            false => TimeWaitKind::TimeWait,
        });
        if let Some(remains) = remains {
            let entry = TimeWaitEntry { time: self.now, sock, kind: remains };
            self.report(Kind::TimeWaitEntry, Input::TimeWaitEntry(entry));
            self.unconfirmed += u64::from(flags.contains(Flags::TIME_WAIT_FULL));
        }
        self.enters(sock, next, flags, Some(evidence), None);
        if next != TcpState::Close {
            return;
        }
        self.sockets.remove(&sock);
        self.free.push(sock);
        if socket.state == TcpState::Listen {
            return;
        }
        self.ends += 1;
        if let Some((reason, answer)) = reset {
            let way = ResetDirection::Sent { reason, answer };
            let reset = Reset { time: self.now, sock, direction: way };
            self.report(Kind::ResetSent, Input::Reset(reset));
        }
        match remains {
            None => {}
            Some(TimeWaitKind::Nothing) => self.overflowed += 1,
            Some(remains) => {
                self.entered += 1;
                let Socket { netns, local, remote, role, .. } = socket;
                let (now, future) = (self.now, evidence.future);
                let ends = (local, remote);
                self.time_waits.push(TimeWait::new(netns, ends, role, remains, now, future));
            }
        }
    }

    /// A socket enters a state: the kernel reports it.
    fn enters(
        &mut self,
        sock: SockId,
        new: TcpState,
        flags: Flags,
        evidence: Option<&Evidence>,
        owner: Option<u32>,
    ) {
        let Some(socket) = self.sockets.get_mut(&sock) else { return };
        let old = socket.state;
        (socket.before, socket.state, socket.changed) = (old, new, self.now);
        let socket = socket.clone();

        if matches!(
            (old, new),
            (TcpState::Close, TcpState::SynSent) | (TcpState::Listen, TcpState::SynRecv)
        ) {
            self.births += 1;
        }

        let kind = match new {
            TcpState::SynSent | TcpState::SynRecv | TcpState::Listen => Kind::Opening,
            TcpState::Close => Kind::Closing,
            _ => Kind::Step,
        };
        // What kernels up to 6.14 do not know yet at a birth.
        let (mut local, mut remote) = (socket.local, socket.remote);
        match (old, new) {
            (TcpState::Close, TcpState::SynSent) => local.set_port(0),
            (TcpState::Listen, TcpState::SynRecv) => {
                (local, remote) = (SocketAddr::new(unknown().ip(), local.port()), unknown());
            }
            _ => {}
        }
        let opening = (kind == Kind::Opening).then(|| Opening {
            cgroup: 1,
            accept_queue: (evidence.map_or(0, |evidence| evidence.unread), 128),
            comm: owner.map_or(Comm::default(), |owner| (&format!("process {owner}")).into()),
        });
        let closing = evidence.filter(|_| kind == Kind::Closing).map(|evidence| Closing {
            bytes_acked: evidence.bytes.0,
            bytes_received: evidence.bytes.1,
            unread: evidence.unread,
            idle_ms: evidence.idle_ms,
        });
        let transition = Transition {
            time: self.now,
            sock,
            netns: socket.netns,
            old,
            new,
            local,
            remote,
            flags,
            err: evidence.map_or(0, |evidence| evidence.err),
            err_soft: 0,
            pid: owner,
            rtt_us: evidence.map_or(0, |evidence| evidence.rtt_us),
            retransmits: 0,
            probes: evidence.map_or(0, |evidence| evidence.probes),
            total_retransmits: evidence.map_or(0, |evidence| evidence.total_retransmits),
            opening,
            closing,
        };
        let is_told = self.report(kind, Input::Transition(transition));
        if let Some(socket) = self.sockets.get_mut(&sock) {
            socket.told_of |= is_told;
        }
    }

    /// Says whether the record came through.
    fn report(&mut self, kind: Kind, record: Input) -> bool {
        let extra = match kind {
            Kind::TimeWaitEntry | Kind::FinWait2ToTimeWait | Kind::TimeWaitExit => {
                Some(OptionalHook::TimeWait)
            }
            Kind::Accepted => Some(OptionalHook::AcceptWait),
            _ => None,
        };
        if extra.is_some_and(|extra| !self.coverage.has(extra)) {
            return false;
        }
        if let Some(counted) = self.skipping.take() {
            self.counters.missed += u64::from(counted);
            self.uncounted |= !counted;
            return false;
        }
        self.counters.seen[kind as usize] += 1;
        if self.losing > 0 {
            self.losing -= 1;
            self.counters.lost[kind as usize] += 1;
            return false;
        }
        self.told.push(record);
        true
    }

    fn walk_begins(&mut self, netns: NetnsId) {
        if self.scan.is_none() {
            self.told.push(Input::ScanBegin(ScanBegin { netns, time: self.now }));
            self.pass(1_000);
            self.time_waits.iter_mut().for_each(|time_wait| time_wait.is_met = false);
            self.scan = Some(Walk {
                netns,
                begun: self.now,
                bucket: 0,
                findings: Vec::new(),
                ended: self.now,
            });
        }
    }

    /// The scanner comes past the next bucket. If it is `unlucky`, it meets the states of before
    /// where it can, and passes over what it met the last time.
    fn walk_goes_on(&mut self, unlucky: bool) {
        let Some(mut scan) = self.scan.take() else { return };
        if scan.bucket < BUCKETS {
            let mine = |netns, key| netns == scan.netns && key % BUCKETS == scan.bucket;
            for (&sock, socket) in &mut self.sockets {
                if !mine(socket.netns, sock >> 12) {
                    continue;
                }
                let unlucky = unlucky && socket.told_of;
                let passes_over = match socket.state {
                    TcpState::SynSent if self.now < socket.changed + CONNECT_DELAY => unlucky,
                    _ => unlucky && !socket.missed,
                };
                let late = unlucky && !socket.missed && self.now <= socket.changed + STORE_DELAY;
                let met = if passes_over { None } else { socket.as_met(sock, self.now, late) };
                socket.missed = met.is_none();
                socket.told_of |= met.is_some();
                scan.findings.extend(met);
            }
            for time_wait in &mut self.time_waits {
                if mine(time_wait.netns, time_wait.remote.port().into()) {
                    scan.findings.push(time_wait.as_met(self.now));
                    time_wait.is_met = true;
                }
            }
            scan.bucket += 1;
            scan.ended = self.now;
        }
        self.scan = Some(scan);
    }

    fn walk_ends(&mut self, fails: bool) {
        while self.is_walking() && !fails {
            self.walk_goes_on(false);
        }
        let Some(scan) = self.scan.take() else { return };
        let error = fails.then(|| "no such namespace".to_owned());
        if !fails {
            self.time_waits.iter_mut().for_each(|time_wait| time_wait.is_known |= time_wait.is_met);
        }
        let Walk { netns, begun, findings, ended, .. } = scan;
        self.told.extend(findings);
        self.told.push(Input::ScanEnd(ScanEnd {
            netns,
            begun,
            ended,
            error,
            ephemeral_ports: None,
            counters: None,
        }));
    }
}

impl Socket {
    fn as_met(&self, sock: SockId, now: Nanos, late: bool) -> Option<Input> {
        let state = if late { self.before } else { self.state };
        if state == TcpState::Close || (state == TcpState::Listen && self.remote.port() != 0) {
            return None;
        }
        let is_client = self.role == Role::Client;
        Some(Input::ScannedSocket(ScannedSocket {
            time: now,
            sock,
            state,
            local: self.local,
            remote: self.remote,
            flags: Flags::default(),
            // Half of the kernels show it.
            port_by_connect: self.local.port().is_multiple_of(2).then_some(is_client),
            retransmits: 0,
            rtt_us: 0,
            accept_queue: (0, 128),
            drops: 0,
            idle_ms: None,
            cgroup: 1,
        }))
    }
}

/// What is left of these flags at an end of which TIME_WAIT follows.
fn orderly(flags: Flags) -> Flags {
    Flags(flags.0 & Flags::FIN_RECEIVED.with(Flags::TIME_WAIT_FULL).0).with(Flags::DEAD)
}

/// Where a socket can go from a state.
fn successors(state: TcpState) -> &'static [TcpState] {
    use TcpState::{Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv};
    match state {
        TcpState::SynSent => &[Established, SynRecv, Close],
        SynRecv => &[Established, FinWait1, Close],
        Established => &[FinWait1, CloseWait, Close],
        FinWait1 => &[FinWait2, Closing, Close],
        CloseWait => &[LastAck, Close],
        _ => &[Close],
    }
}

fn unknown() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}
