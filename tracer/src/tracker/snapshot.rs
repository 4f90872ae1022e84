//! The values that sinks see: a copy of the books over an interval.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use synfin_common::{event::Kind, port_count::SynQueue};

use super::{
    Tracker,
    ephemeral::{Destination, DestinationKey, Ephemeral},
    listeners::{Listener, Listeners},
    listening::Listening,
    machine::Role,
    owners::KnownNames,
    ports::{Counters, Gauges, Label, Row, RowKey, Walked},
    stuck::{Stuck, keep_older},
};
use crate::{
    figure::Words,
    input::{KERNEL_COUNTERS, Nanos, NetnsId},
};

/// What makes a row, besides the role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The service port.
    #[default]
    Port,
    /// The service port, and for clients the address that they connect to.
    Remote,
    /// The owner.
    Owner,
    /// The network namespace.
    Netns,
}

impl By {
    /// Their names.
    pub const WORDS: Words = Words {
        name: "grouping",
        all: || [Self::Port, Self::Remote, Self::Owner, Self::Netns].map(Self::name).into(),
    };

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Remote => "remote",
            Self::Owner => "owner",
            Self::Netns => "netns",
        }
    }
}

/// The books over an interval, per role and what was asked for.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When the interval began.
    pub start: Nanos,
    /// When it ended.
    pub end: Nanos,
    /// The rows in which there is anything to say.
    pub rows: Vec<RowSnapshot>,
    /// What became of the kernel's records in the interval.
    pub events: Events,
    /// What the kernel counted from the first to the last walk of each namespace in the interval,
    /// by [`KERNEL_COUNTERS`].
    pub kernel_counts: [u64; KERNEL_COUNTERS.len()],
    /// How full the tables are.
    pub tables: Tables,
}

/// One row.
#[derive(Clone, Debug)]
pub struct RowSnapshot {
    /// Which side we are.
    pub role: Role,
    /// The service port; unknown for the rest.
    pub port: Common<u16>,
    /// The address that clients connect to.
    pub remote: Common<IpAddr>,
    /// Names of the processes that own the sockets.
    pub owner: Common<Arc<str>>,
    /// Containers that they run in.
    pub container: Common<Arc<str>>,
    /// The containers' pods.
    pub pod: Common<Arc<str>>,
    /// Network namespaces.
    pub netns: Common<NetnsId>,
    /// Names of these.
    pub netns_name: Common<Arc<str>>,
    /// What happened in the interval.
    pub counters: Counters,
    /// What is so at its end.
    pub gauges: Gauges,
    /// What was so at its start.
    pub opening_balance: Gauges,
    /// Sockets in TIME_WAIT at its end.
    pub time_wait_now: u64,
    /// The most there were.
    pub time_wait_peak: u64,
    /// What the last walk showed.
    pub walked: Walked,
    /// The most connections that were seen waiting for accept().
    pub accept_peak: u64,
    /// Since when the port is served.
    pub listening: Listening,
    /// The connections that were in one state for longest, by [`STUCK_STATES`](super::STUCK_STATES).
    pub stuck: Stuck,
    /// How far the ports are used up toward the destination where most are; `None` if that is not
    /// known, and for servers.
    pub ephemeral: Option<Ephemeral>,
}

/// What all that a row covers has in common. Several values are counted, never represented by one
/// of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Common<T> {
    /// None is known.
    #[default]
    Unknown,
    /// All that are known are this one.
    One(T),
    /// There are this many.
    Several(usize),
}

impl<T> Common<T> {
    fn of(values: BTreeSet<T>) -> Self {
        let several = values.len();
        let mut values = values.into_iter();
        match (values.next(), several) {
            (None, _) => Self::Unknown,
            (Some(value), 1) => Self::One(value),
            (Some(_), _) => Self::Several(several),
        }
    }
}

/// What became of the kernel's records: `seen == delivered + lost + filtered + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Records that a hook wanted to write.
    pub seen: u64,
    /// Records that reached the tracker.
    pub delivered: u64,
    /// Records for which the ring buffer had no room.
    pub lost: u64,
    /// Of these, births and ends: with them, figures are lower bounds.
    pub lost_edges: u64,
    /// Records left out on purpose.
    pub filtered: u64,
    /// Runs of a hook that the kernel skipped, so that there was no record.
    pub missed: u64,
    /// Places where a record must be missing.
    pub gaps: u64,
    /// Records that were not understood; they are among the delivered.
    pub unreadable: u64,
}

impl Events {
    /// Records between the hooks and the books: on their way, or kept back until it is known
    /// whether a filter excludes them. Negative never; nonzero at the end of a trace never.
    pub fn in_flight(&self) -> i64 {
        let known = self.delivered.saturating_add(self.lost).saturating_add(self.filtered);
        let in_flight = i128::from(self.seen) - i128::from(known);
        i64::try_from(in_flight).unwrap_or(i64::MAX)
    }

    /// Whether counts of births and ends are lower bounds.
    pub fn are_lower_bounds(&self) -> bool {
        [self.lost_edges, self.missed, self.gaps, self.unreadable].iter().any(|&count| count > 0)
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            seen: self.seen - earlier.seen,
            delivered: self.delivered - earlier.delivered,
            lost: self.lost - earlier.lost,
            lost_edges: self.lost_edges - earlier.lost_edges,
            filtered: self.filtered - earlier.filtered,
            missed: self.missed - earlier.missed,
            gaps: self.gaps - earlier.gaps,
            unreadable: self.unreadable - earlier.unreadable,
        }
    }
}

/// How full the tracker's tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Living connections.
    pub connections: u64,
    /// Connections that have just ended, and are shown as open until it is certain why.
    pub settling: u64,
    /// Connections that made room for others, since the start.
    pub evicted: u64,
    /// Bookings on the row of the rest for want of a row, since the start.
    pub folded: u64,
}

impl Tracker {
    /// Ends the interval and begins the next one. Rows are put together `by`.
    pub fn cut(&mut self, by: By) -> Snapshot {
        let (start, end) = (self.interval_start, self.now);
        let events = self.events();
        let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
        let expired = self.expired();
        for (_, row) in self.ports.iter_mut() {
            row.time_waits.expire(expired);
        }
        let destinations = self.destinations();
        let mut stuck = self.stuck();
        let (labels, rows) = self.ports.with_labels();
        for (id, key, row) in rows {
            row.learn_owners(key, &self.listeners);
            if row.has_something_to_say(start) {
                let label = key.owner.and_then(|id| labels.get_index(id as usize));
                let owners = label.map_or_else(|| row.owners.clone(), |one| [one.clone()].into());
                let group = groups.entry(GroupKey::new(by, key, &owners)).or_default();
                group.add(key, row, owners);
                group.add_stuck(stuck.remove(&id).unwrap_or_default());
                group.add_destination(destination(key).and_then(|it| destinations.get(&it)));
            }
            row.begin_interval();
        }
        let names = &self.names;
        let snapshot = Snapshot {
            start,
            end,
            rows: groups.into_iter().map(|(key, group)| group.into_row(key.role, names)).collect(),
            events: events.since(&self.events_cut),
            kernel_counts: std::mem::take(&mut self.kernel_counts),
            tables: Tables {
                connections: self.connections.len() as u64,
                settling: self.settling.len() as u64,
                evicted: self.connections.evicted(),
                folded: self.ports.folded(),
            },
        };
        self.interval_start = end;
        self.events_cut = events;
        snapshot
    }

    /// How far the ports are used up toward each destination of clients.
    fn destinations(&self) -> BTreeMap<DestinationKey, Ephemeral> {
        let (start, end) = (self.interval_start, self.now);
        let mut sums: BTreeMap<DestinationKey, Destination> = BTreeMap::new();
        for (_, key, row) in self.ports.iter() {
            let Some(destination) = destination(key) else { continue };
            let sum = sums.entry(destination).or_default();
            sum.live += row.gauges.open + row.gauges.pending;
            sum.live_at_start += row.opening_balance.open + row.opening_balance.pending;
            sum.entered += row.interval.time_wait_entered;
            sum.sources.extend(&row.sources);
            for (second, count) in row.time_waits.left(end) {
                *sum.time_waits.entry(second).or_default() += count;
            }
        }
        let seconds = end.saturating_sub(start) as f64 / 1e9;
        let known = sums.into_iter().filter_map(|(key, sum)| {
            let (netns, remote, _) = key;
            let settings = self.namespaces.ephemeral_ports(netns)?;
            Some((key, sum.ephemeral(remote, &settings, seconds)))
        });
        known.collect()
    }

    /// What became of the kernel's records, since the start.
    pub fn events(&self) -> Events {
        let by_kind = self.kernel.lost;
        let edges = [Kind::Opening, Kind::Closing].map(|kind| by_kind[kind as usize]);
        let [seen, lost, left_out] = self.kernel.totals();
        let kept_from_books = self.gate.filtered() + self.gate.waiting();
        Events {
            // A tick's counters are older than the records that came after it.
            seen: seen.max(self.received.saturating_add(lost).saturating_add(left_out)),
            delivered: self.received.saturating_sub(kept_from_books),
            lost,
            lost_edges: edges.into_iter().fold(0, u64::saturating_add),
            filtered: left_out.saturating_add(self.gate.filtered()),
            missed: self.kernel.missed,
            gaps: self.gaps,
            unreadable: self.unreadable,
        }
    }
}

/// Where the clients of a row connect to, if it tells that apart.
fn destination(key: &RowKey) -> Option<DestinationKey> {
    (key.role == Role::Client).then_some(())?;
    Some((key.netns, key.remote?, key.port?))
}

/// What the rows of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    role: Role,
    port: Option<u16>,
    remote: Option<IpAddr>,
    owner: Option<Common<Label>>,
    netns: Option<NetnsId>,
}

impl GroupKey {
    fn new(by: By, key: &RowKey, owners: &BTreeSet<Label>) -> Self {
        let all = Self { role: key.role, port: None, remote: None, owner: None, netns: None };
        match by {
            By::Port => Self { port: key.port, ..all },
            By::Remote => Self { port: key.port, remote: key.remote, ..all },
            By::Owner => Self { owner: Some(Common::of(owners.clone())), ..all },
            By::Netns => Self { netns: Some(key.netns), ..all },
        }
    }
}

/// Rows that are put together.
#[derive(Default)]
struct Group {
    ports: BTreeSet<u16>,
    remotes: BTreeSet<IpAddr>,
    owners: BTreeSet<Label>,
    namespaces: BTreeSet<NetnsId>,
    counters: Counters,
    gauges: Gauges,
    opening_balance: Gauges,
    time_wait_now: u64,
    time_wait_peak: u64,
    walked: Walked,
    accept_peak: u64,
    listening: Listening,
    stuck: Stuck,
    ephemeral: Option<Ephemeral>,
}

impl Group {
    fn add(&mut self, key: &RowKey, row: &Row, owners: BTreeSet<Label>) {
        self.ports.extend(key.port);
        self.remotes.extend(key.remote);
        self.owners.extend(owners);
        // The rest has no namespace.
        self.namespaces.extend((key.netns != 0).then_some(key.netns));
        self.counters.merge(&row.interval);
        self.gauges.merge(&row.gauges);
        self.opening_balance.merge(&row.opening_balance);
        self.time_wait_now += row.time_waits.now();
        self.time_wait_peak += row.time_waits.peak();
        row.walked.values().for_each(|walked| self.walked.merge(walked));
        self.accept_peak = self.accept_peak.max(row.accept_peak);
        self.walked.limit_queue(row.accept_limit);
        self.listening.merge(&row.listening);
    }

    fn add_stuck(&mut self, stuck: Stuck) {
        for (kept, oldest) in self.stuck.iter_mut().zip(stuck) {
            keep_older(kept, oldest);
        }
    }

    /// Of several destinations, the one where most ports are used up is shown.
    fn add_destination(&mut self, destination: Option<&Ephemeral>) {
        if let Some(destination) = destination
            && self.ephemeral.is_none_or(|shown| shown.share() < destination.share())
        {
            self.ephemeral = Some(*destination);
        }
    }

    fn into_row(self, role: Role, names: &KnownNames) -> RowSnapshot {
        let containers = self.owners.iter().filter_map(|owner| owner.container.as_ref());
        let (ids, pods): (BTreeSet<_>, BTreeSet<_>) =
            containers.map(|container| (container.id.as_str(), container.pod.as_deref())).unzip();
        let texts = |texts: BTreeSet<&str>| Common::of(texts.into_iter().map(Arc::from).collect());
        let namespace_names = self.namespaces.iter().filter_map(|&id| names.namespace(id).cloned());
        RowSnapshot {
            role,
            port: Common::of(self.ports),
            remote: Common::of(self.remotes),
            container: texts(ids),
            pod: texts(pods.into_iter().flatten().collect()),
            netns_name: Common::of(namespace_names.collect()),
            owner: Common::of(self.owners.iter().map(|owner| owner.name.clone()).collect()),
            netns: Common::of(self.namespaces),
            counters: self.counters,
            gauges: self.gauges,
            opening_balance: self.opening_balance,
            time_wait_now: self.time_wait_now,
            time_wait_peak: self.time_wait_peak,
            walked: self.walked,
            accept_peak: self.accept_peak,
            listening: self.listening,
            stuck: self.stuck,
            ephemeral: self.ephemeral,
        }
    }
}

impl Row {
    /// A server's owners are those of its listeners, so long as there are any.
    fn learn_owners(&mut self, key: &RowKey, listeners: &Listeners) {
        let (Role::Server, Some(port)) = (key.role, key.port) else {
            return;
        };
        let owners: BTreeSet<_> =
            listeners.on(key.netns, port).flat_map(Listener::labels).collect();
        if !owners.is_empty() {
            self.owners = owners;
        }
    }

    /// `start` is when the interval began.
    fn has_something_to_say(&self, start: Nanos) -> bool {
        let interval = &self.interval;
        let Counters { attempts, established, adopted, .. } = interval;
        attempts + established + adopted > 0
            || interval.synack_retransmits > 0
            || interval.resets_total() > 0
            || SynQueue::ALL.iter().any(|&what| interval.syn_queue(what) > 0)
            || interval.time_wait_entered + interval.time_wait_overflowed > 0
            || self.listening.has_changed_since(start)
            || interval.sum(|_| true) > 0
            || self.gauges != Gauges::default()
            || self.opening_balance != Gauges::default()
            || !self.walked.is_empty()
            || self.time_waits.peak() > 0
    }

    fn begin_interval(&mut self) {
        self.interval = Counters::default();
        self.opening_balance = self.gauges;
        self.time_waits.begin_interval();
        self.accept_peak = 0;
        self.accept_limit = 0;
    }
}
