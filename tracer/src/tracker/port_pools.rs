//! The ephemeral ports that sockets hold, by the pool from which the kernel takes them.
//!
//! connect() chooses a port that no socket with the same local address uses toward the same
//! destination, and that bind() did not take: a port that bind() took is unusable for every connect()
//! in the namespace (`net/ipv4/inet_hashtables.c:__inet_hash_connect` skips its bucket). bind()
//! chooses a port that no socket with the same local address has, whatever its destination
//! (`net/ipv4/inet_connection_sock.c:inet_csk_find_open_port`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustc_hash::FxBuildHasher;

use super::{
    ephemeral::{Ephemeral, RateInterval, Trend},
    row_key::DestinationKey,
};
use crate::trace::{ids::NetnsId, scan::EphemeralPorts, time::Nanos};

/// A local address, and a destination of its connections.
pub(super) type Path = (IpAddr, DestinationKey);

/// Number of ports that connections and orphans in FIN_WAIT2 hold, by path.
pub(super) type HeldPorts = HashMap<Path, u64, FxBuildHasher>;

/// A client's socket that holds a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortHolder {
    /// The port; 0 if connect() has not chosen it yet.
    pub(super) port: u16,
    /// Whether bind() took the port, not connect().
    pub(super) is_bound: bool,
    pub(super) hold: Hold,
}

/// For how long a socket holds its port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    /// While it is open. `is_old`: it is older than the interval, though it was found within it.
    Connection { is_old: bool },
    /// An orphan in FIN_WAIT2, until the peer closes.
    Orphan,
    /// A TIME_WAIT, until then (CLOCK_MONOTONIC, nanoseconds).
    TimeWait(Nanos),
}

/// The sockets of one path.
#[derive(Debug, Default)]
struct PathSockets {
    /// The ranges from which their ports are taken, usually one.
    ranges: Vec<EphemeralPorts>,
    sockets: Vec<PortHolder>,
}

/// The ports that sockets hold at one moment. It has at most one entry per socket that the tracker
/// keeps, so that it is bounded by the tracker's tables.
#[derive(Debug, Default)]
pub(super) struct PortPools {
    paths: HashMap<Path, PathSockets, FxBuildHasher>,
    /// Ports that bind() took, by namespace.
    bound: HashMap<NetnsId, BTreeSet<u16>, FxBuildHasher>,
    /// Ports of listeners, by namespace and address.
    listeners: HashMap<(NetnsId, IpAddr), BTreeSet<u16>, FxBuildHasher>,
    /// Local addresses from which clients connect after bind().
    binders: BTreeSet<(NetnsId, IpAddr)>,
}

impl PortPools {
    /// Adds a socket. Its port was, or is to be, taken from `range`.
    pub(super) fn add(&mut self, path: Path, range: EphemeralPorts, socket: PortHolder) {
        let (local, (netns, ..)) = path;
        if socket.port != 0 && !range.contains(socket.port) {
            return;
        }
        if socket.is_bound {
            self.bound.entry(netns).or_default().insert(socket.port);
            self.binders.insert((netns, local));
        }
        let sockets = self.paths.entry(path).or_default();
        if !sockets.ranges.contains(&range) {
            sockets.ranges.push(range);
        }
        sockets.sockets.push(socket);
    }

    /// Adds a listener, whose port connect() never uses.
    pub(super) fn add_listener(&mut self, netns: NetnsId, local: SocketAddr) {
        self.bound.entry(netns).or_default().insert(local.port());
        self.listeners.entry((netns, local.ip())).or_default().insert(local.port());
    }

    /// The ports that connections and orphans hold now.
    pub(super) fn held(&self) -> HeldPorts {
        self.paths.iter().map(|(&path, of)| (path, of.held())).collect()
    }

    /// The use of the ports toward each destination, by the local address that has the fewest left.
    /// `before`: the ports held at the start of the interval; `None` in the first interval, in which
    /// all orphans count as older.
    pub(super) fn fullest(
        &self,
        before: Option<&HeldPorts>,
        interval: RateInterval,
    ) -> BTreeMap<DestinationKey, Ephemeral> {
        let by_bind = self.used_by_bind(before, interval);
        let mut fullest = BTreeMap::<DestinationKey, Ephemeral>::new();
        let mut bound = HashMap::<(NetnsId, u16, u16), u64, FxBuildHasher>::default();
        for (&path, of) in &self.paths {
            let (local, destination) = path;
            let (netns, remote, _) = destination;
            let of_connect = of.ranges.iter().filter(|_| of.sockets.iter().any(|it| !it.is_bound));
            let of_connect = of_connect.map(|range| {
                let mut trend = of.trend(range, |socket| !socket.is_bound);
                trend.growth = of.growth(path, before);
                trend.used += *bound
                    .entry((netns, range.first, range.last))
                    .or_insert_with(|| self.bound_within(netns, range));
                Ephemeral {
                    local: Some(local),
                    remote,
                    used: trend.used,
                    ports: range.count().into(),
                    is_shared: false,
                    exhausted_in: trend.exhausted_in(range, Some(remote), interval),
                }
            });
            let of_bind = by_bind
                .get(&(netns, local))
                .filter(|_| of.sockets.iter().any(|socket| socket.is_bound))
                .map(|used| Ephemeral { remote, ..*used });
            for found in of_connect.chain(of_bind) {
                let kept = fullest.entry(destination).or_insert(found);
                let order = |one: &Ephemeral| (one.share(), std::cmp::Reverse(one.local));
                let (one, other) = (order(&found), order(kept));
                if one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)).is_gt() {
                    *kept = found;
                }
            }
        }
        fullest
    }

    /// The use of the ports toward a destination to which no client is connected.
    pub(super) fn without_clients(
        &self,
        netns: NetnsId,
        remote: IpAddr,
        range: &EphemeralPorts,
    ) -> Ephemeral {
        let used = self.bound_within(netns, range);
        let ports = range.count().into();
        let exhausted_in = (used >= ports).then_some(0.0);
        Ephemeral { local: None, remote, used, ports, is_shared: false, exhausted_in }
    }

    /// Number of ports of this range that bind() took.
    fn bound_within(&self, netns: NetnsId, range: &EphemeralPorts) -> u64 {
        let of_range =
            |ports: &BTreeSet<u16>| ports.iter().filter(|&&it| range.contains(it)).count();
        self.bound.get(&netns).map_or(0, of_range) as u64
    }

    /// The use of the ports of each local address from which clients connect after bind().
    fn used_by_bind(
        &self,
        before: Option<&HeldPorts>,
        interval: RateInterval,
    ) -> HashMap<(NetnsId, IpAddr), Ephemeral, FxBuildHasher> {
        let mut sums = BTreeMap::<(NetnsId, IpAddr), AddressPorts>::new();
        for (&path, of) in &self.paths {
            let (local, (netns, remote, _)) = path;
            if self.binders.contains(&(netns, local)) {
                let sum = sums.entry((netns, local)).or_insert_with(|| AddressPorts::new(remote));
                sum.add(of, of.growth(path, before));
            }
        }
        let of_address = sums.into_iter().filter_map(|(key, mut sum)| {
            let (netns, local) = key;
            let any_v4 = Ipv4Addr::UNSPECIFIED.into();
            for at in [local, any_v4, Ipv6Addr::UNSPECIFIED.into()] {
                sum.ports.extend(self.listeners.get(&(netns, at)).into_iter().flatten());
            }
            Some((key, sum.used(local, interval)?))
        });
        of_address.collect()
    }
}

/// All ports of a local address.
struct AddressPorts {
    ranges: Vec<EphemeralPorts>,
    ports: BTreeSet<u16>,
    trend: Trend,
    /// One of the destinations.
    remote: IpAddr,
}

impl AddressPorts {
    fn new(remote: IpAddr) -> Self {
        Self { ranges: Vec::new(), ports: BTreeSet::new(), trend: Trend::default(), remote }
    }

    fn add(&mut self, of: &PathSockets, growth: f64) {
        for range in &of.ranges {
            if !self.ranges.contains(range) {
                self.ranges.push(*range);
            }
        }
        let known = of.sockets.iter().filter(|socket| socket.port != 0);
        for socket in known {
            if self.ports.insert(socket.port)
                && let Hold::TimeWait(expiry) = socket.hold
            {
                self.trend.time_waits.push(expiry);
            }
        }
        self.trend.growth += growth;
    }

    /// The use of the range that has the fewest ports left.
    fn used(self, local: IpAddr, interval: RateInterval) -> Option<Ephemeral> {
        let Self { ranges, ports, trend, remote } = self;
        let of_range = ranges.into_iter().map(|range| {
            let used = ports.iter().filter(|&&port| range.contains(port)).count() as u64;
            let trend = Trend { used, ..trend.clone() };
            Ephemeral {
                local: Some(local),
                remote,
                used,
                ports: range.count().into(),
                is_shared: true,
                exhausted_in: trend.exhausted_in(&range, None, interval),
            }
        });
        of_range.max_by(|one, other| one.share().total_cmp(&other.share()))
    }
}

impl PathSockets {
    /// Number of connections and orphans.
    fn held(&self) -> u64 {
        let waits = |socket: &&PortHolder| matches!(socket.hold, Hold::TimeWait(_));
        (self.sockets.len() - self.sockets.iter().filter(waits).count()) as u64
    }

    /// Growth of the number of connections and orphans since the start of the interval. `before`:
    /// the ports held then; `None` in the first interval.
    fn growth(&self, path: Path, before: Option<&HeldPorts>) -> f64 {
        let is = |wanted: fn(&Hold) -> bool| {
            self.sockets.iter().filter(|socket| wanted(&socket.hold)).count() as f64
        };
        let before = match before {
            Some(held) => held.get(&path).copied().unwrap_or(0) as f64,
            None => is(|hold| matches!(hold, Hold::Orphan)),
        };
        self.held() as f64 - before - is(|hold| matches!(hold, Hold::Connection { is_old: true }))
    }

    /// The use of a range by the selected sockets, without growth.
    fn trend(&self, range: &EphemeralPorts, is_part: impl Fn(&PortHolder) -> bool) -> Trend {
        let mut trend = Trend::default();
        let is_within = |socket: &&PortHolder| socket.port == 0 || range.contains(socket.port);
        for socket in self.sockets.iter().filter(is_within).filter(|socket| is_part(socket)) {
            trend.used += 1;
            if let Hold::TimeWait(expiry) = socket.hold {
                trend.time_waits.push(expiry);
            }
        }
        trend
    }
}
