//! A world with TCP in it: namespaces, sockets that live by the kernel's rules, and a kernel side
//! that reports on them and walks over them. What it tells is plausible by construction, and it
//! knows the truth that a tracker should arrive at.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use proptest::{prelude::*, sample::Index};
use synfin::{
    input::{
        Closing, Counters, Input, Nanos, NetnsId, Opening, Reset, ResetWay, SockId, Tick,
        Transition, WalkBegin, WalkEnd, WalkedSocket, WalkedTimeWait,
    },
    tracker::Role,
};
use synfin_common::{
    event::{Flags, Kind},
    reset::ResetReason,
    state::TcpState,
};

pub(crate) const SECOND: Nanos = 1_000_000_000;
pub(crate) const MILLISECOND: Nanos = 1_000_000;

/// When the trace begins.
pub(crate) const START: Nanos = 1_000 * SECOND;

pub(crate) const NAMESPACES: [NetnsId; 3] = [7, 8, 9];
const SERVICE_PORTS: [u16; 4] = [22, 80, 443, 8080];
const TIME_WAIT_LENGTH: Nanos = 60 * SECOND;

/// A record of a state is made a moment before the state is stored.
const STORE_DELAY: Nanos = 10 * MILLISECOND;

/// connect() reports SYN_SENT a moment before a walk can meet the socket.
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
    /// A listener has a child.
    Accept {
        listener: Index,
        peer: u8,
        flags: Flags,
    },
    ResetArrives {
        sock: Index,
    },
    WalkBegins {
        netns: Index,
    },
    /// The walker comes past some sockets.
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
        8 => (index(), any::<u8>(), flags())
            .prop_map(|(listener, peer, flags)| Act::Accept { listener, peer, flags }),
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
    (flags(), err, rtt_us, rare, rare, bytes, rare, (idle_ms, reset)).prop_map(
        |(flags, err, rtt_us, resent, probed, bytes, unread, (idle_ms, reset))| Evidence {
            flags,
            err,
            rtt_us,
            total_retransmits: u32::from(resent) * 3,
            probes: u8::from(probed) * 9,
            bytes,
            unread: u32::from(unread) * 100,
            idle_ms,
            reset,
        },
    )
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
    /// It was reported on, or met by a walk.
    told_of: bool,
    /// The last walk came past without meeting it.
    missed: bool,
}

#[derive(Clone, Debug)]
struct TimeWait {
    netns: NetnsId,
    local: SocketAddr,
    remote: SocketAddr,
    role: Role,
    /// The peer's FIN is awaited until then.
    fin_wait2_until: Nanos,
    expiry: Nanos,
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
    sockets: BTreeMap<SockId, Socket>,
    /// Addresses of sockets that are no more, to be used again, the last one first.
    free: Vec<SockId>,
    next_port: u16,
    time_waits: Vec<TimeWait>,
    walk: Option<Walk>,
    counters: Counters,
    losing: u8,
    skipping: Option<bool>,
    /// The hook was skipped, and the kernel did not count it.
    pub(crate) uncounted: bool,
    /// Connections that there were at the start or were born since.
    pub(crate) births: u64,
    /// Of these, those that have ended.
    pub(crate) ends: u64,
    told: Vec<Input>,
}

impl World {
    /// A world in which `before` happened before anybody looked.
    pub(crate) fn after(before: &[Act]) -> Self {
        let mut world = Self {
            now: START - 500 * SECOND,
            sockets: BTreeMap::new(),
            free: (1..=24).rev().map(|number| 0xffff_8880_0000_0000 + number * 0x1000).collect(),
            next_port: 0,
            time_waits: Vec::new(),
            walk: None,
            counters: Counters::default(),
            losing: 0,
            skipping: None,
            uncounted: false,
            births: 0,
            ends: 0,
            told: Vec::new(),
        };
        for act in before {
            world.happens(act);
        }
        world.now = world.now.max(START);
        world.walk = None;
        world.counters = Counters::default();
        (world.losing, world.skipping, world.uncounted) = (0, None, false);
        (world.births, world.ends) = (world.connections().count() as u64, 0);
        world.told.clear();
        world.sockets.values_mut().for_each(|socket| socket.told_of = false);
        world
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

    /// How many sockets are, at that time, in TIME_WAIT, or in FIN_WAIT2 and kept beside them.
    pub(crate) fn time_waits(&self, time: Nanos) -> u64 {
        self.time_waits.iter().filter(|time_wait| time_wait.expiry > time).count() as u64
    }

    pub(crate) fn happens(&mut self, act: &Act) {
        self.now += 1_000;
        match act {
            Act::Wait(time) if self.is_walking() => self.now += (*time).min(LONGEST_WALK / 8),
            Act::Wait(time) => self.now += time,
            Act::Listen { netns, port, owner } => self.listen(netns, port, *owner),
            Act::Onward { sock, to, evidence } => self.onward(sock, to, evidence),
            Act::Connect { netns, port, owner } => self.connect(netns, port, *owner),
            Act::Accept { listener, peer, flags } => self.accept(listener, *peer, *flags),
            Act::ResetArrives { sock } => {
                if let Some(sock) = self.pick(sock, |socket| socket.state != TcpState::Listen) {
                    let way = ResetWay::Received;
                    let reset = Reset { time: self.now, sock, way };
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

    /// A whole walk that meets all there is.
    pub(crate) fn is_walked(&mut self, netns: NetnsId) {
        self.walk_begins(netns);
        self.walk_ends(false);
    }

    pub(crate) fn walk_is_over(&mut self) {
        self.walk_ends(false);
    }

    pub(crate) fn tick(&mut self) {
        let tick = Tick { time: self.now, counters: self.counters.clone(), ports: Vec::new() };
        self.told.push(Input::Tick(tick));
    }

    fn is_walking(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.bucket < BUCKETS)
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
    }

    fn accept(&mut self, listener: &Index, peer: u8, flags: Flags) {
        let Some(listener) = self.pick(listener, |socket| socket.state == TcpState::Listen) else {
            return;
        };
        let listener = self.sockets[&listener].clone();
        let local = SocketAddr::from(([192, 0, 2, 1], listener.local.port()));
        let remote = SocketAddr::from(([198, 51, 100, 7], 50_000 + u16::from(peer)));
        if self.is_taken(listener.netns, local, remote) {
            return;
        }
        let Some(sock) = self.free.pop() else { return };
        self.born(sock, listener.netns, Role::Server, (local, remote));
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
        // A new connection takes the place of an old one's TIME_WAIT.
        self.time_waits.retain(|old| (old.netns, old.local, old.remote) != (netns, local, remote));
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
        // Of the orderly ends, only data with the ACK of our FIN has a reset after it.
        let in_fin_wait2 =
            socket.state == TcpState::FinWait2 && !flags.contains(Flags::FIN_RECEIVED);
        let reset = evidence.reset.filter(|_| !is_orderly || in_fin_wait2);
        if let Some((reason, answer)) = reset {
            let way = ResetWay::Sent { reason, answer };
            let reset = Reset { time: self.now, sock, way };
            self.report(Kind::ResetSent, Input::Reset(reset));
        }
        if is_orderly && reset.is_none() && !flags.contains(Flags::TIME_WAIT_FULL) {
            let peer_is_slow = !flags.contains(Flags::FIN_RECEIVED);
            let fin_wait2_until = self.now + u64::from(peer_is_slow) * SECOND;
            self.time_waits.push(TimeWait {
                netns: socket.netns,
                local: socket.local,
                remote: socket.remote,
                role: socket.role,
                fin_wait2_until,
                expiry: fin_wait2_until + TIME_WAIT_LENGTH,
            });
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
            comm: owner.map_or(Vec::new(), |owner| format!("process {owner}").into_bytes()),
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
        if self.walk.is_none() {
            self.told.push(Input::WalkBegin(WalkBegin { netns, time: self.now }));
            self.now += 1_000;
            self.walk = Some(Walk {
                netns,
                begun: self.now,
                bucket: 0,
                findings: Vec::new(),
                ended: self.now,
            });
        }
    }

    /// The walker comes past the next bucket. If it is `unlucky`, it meets the states of before
    /// where it can, and passes over what it met the last time.
    fn walk_goes_on(&mut self, unlucky: bool) {
        let Some(mut walk) = self.walk.take() else { return };
        if walk.bucket < BUCKETS {
            let mine = |netns, key| netns == walk.netns && key % BUCKETS == walk.bucket;
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
                walk.findings.extend(met);
            }
            for time_wait in &self.time_waits {
                if mine(time_wait.netns, time_wait.remote.port().into())
                    && time_wait.expiry > self.now
                {
                    walk.findings.push(time_wait.as_met(self.now));
                }
            }
            walk.bucket += 1;
            walk.ended = self.now;
        }
        self.walk = Some(walk);
    }

    fn walk_ends(&mut self, fails: bool) {
        while self.is_walking() && !fails {
            self.walk_goes_on(false);
        }
        let Some(walk) = self.walk.take() else { return };
        let error = fails.then(|| "no such namespace".to_owned());
        let Walk { netns, begun, findings, ended, .. } = walk;
        self.told.extend(findings);
        self.told.push(Input::WalkEnd(WalkEnd {
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
        Some(Input::Socket(WalkedSocket {
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

impl TimeWait {
    fn as_met(&self, now: Nanos) -> Input {
        let fin_wait2 = now < self.fin_wait2_until;
        let until = if fin_wait2 { self.fin_wait2_until } else { self.expiry };
        Input::TimeWait(WalkedTimeWait {
            fin_wait2,
            port_by_connect: Some(self.role == Role::Client),
            local: self.local,
            remote: self.remote,
            remaining_ms: ((until - now) / MILLISECOND) as u32,
        })
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
