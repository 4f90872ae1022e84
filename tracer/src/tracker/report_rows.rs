//! The rows of a report: the rows of a snapshot, grouped by the selected key.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    common::Common,
    owners::Label,
    row_stats::RowStats,
    snapshot::{KeyedStats, Snapshot, SnapshotKey},
};
use crate::{
    tcp::{close_reason::Class, group_by::By, role::Role},
    trace::ids::{NetnsId, NetnsInode},
};

/// One row of a report.
#[derive(Clone, Debug)]
pub struct RowSnapshot {
    /// The identity of the row.
    pub identity: RowIdentity,
    /// The statistics over the interval.
    pub stats: RowStats,
}

/// The identity of a row, and the owners of its sockets.
#[derive(Clone, Debug)]
pub struct RowIdentity {
    /// The values by which the row is grouped.
    pub name: RowName,
    /// The side that this host is.
    pub role: Role,
    /// The service port; unknown for connections of unknown role and for the overflow row.
    pub port: Common<u16>,
    /// The address that clients connect to.
    pub remote: Common<IpAddr>,
    /// Names of the processes that own the sockets.
    pub owner: Common<Arc<str>>,
    /// Ids of the containers in which the owners run.
    pub container: Common<Arc<str>>,
    /// Kubernetes pods of these containers.
    pub pod: Common<Arc<str>>,
    /// Inode numbers of the network namespaces.
    pub netns: Common<NetnsInode>,
    /// Names of the network namespaces.
    pub netns_name: Common<Arc<str>>,
    /// The owners of the sockets.
    pub owners: BTreeSet<Label>,
    /// Ids of the processes that own listeners, and connections that began or ended in the interval.
    pub pid: Common<u32>,
    /// Local addresses of the connections, as far as they are known.
    pub addresses: BTreeSet<IpAddr>,
    /// Addresses of the listeners at the end of the interval; none for clients.
    pub listening: BTreeSet<IpAddr>,
}

impl RowSnapshot {
    /// Number of connections that failed or closed abnormally.
    pub fn bad(&self) -> u64 {
        self.stats.counters.sum(|reason| reason.class() == Class::Abnormal)
    }

    /// Number of open connections that have retransmitted data.
    pub(crate) fn retransmitting(&self) -> u64 {
        // The scan is a little older.
        self.stats.scanned.retransmitting.min(self.stats.gauges.open)
    }

    /// Number of new connections: attempts of a client, established connections of a server.
    pub(crate) fn new_connections(&self) -> u64 {
        match self.identity.role {
            Role::Client => self.stats.counters.attempts,
            Role::Server | Role::Unknown => self.stats.counters.established,
        }
    }
}

impl Snapshot {
    /// The row with this name when grouped `by`; `None` if there is none.
    pub fn row(&self, by: By, wanted: &RowName) -> Option<RowSnapshot> {
        self.merged(wanted.clone(), |key, row| {
            key.role == wanted.role && RowName::new(by, key, &row.owners) == *wanted
        })
    }

    /// All rows that `is_part` selects by role and service port, as one row of this role; `None` if
    /// there are none.
    pub(crate) fn sum(
        &self,
        role: Role,
        is_part: impl Fn(Role, Option<u16>) -> bool,
    ) -> Option<RowSnapshot> {
        let name = RowName { role, port: None, remote: None, owner: None, netns: None };
        self.merged(name, |key, _| is_part(key.role, key.port))
    }

    /// The rows that `is_part` selects, as one row; `None` if there are none.
    fn merged(
        &self,
        name: RowName,
        is_part: impl Fn(&SnapshotKey, &KeyedStats) -> bool,
    ) -> Option<RowSnapshot> {
        let mut parts = self.rows_by_key.iter().filter(|(key, row)| is_part(key, row)).peekable();
        parts.peek()?;
        let mut group = Group::default();
        parts.for_each(|(key, row)| group.add(key, row));
        Some(group.into_row(name))
    }

    /// The rows, grouped `by`, in the order of their names.
    pub fn rows(&self, by: By) -> Vec<RowSnapshot> {
        self.grouped(|key, row| Some(RowName::new(by, key, &row.owners)))
    }

    /// The rows by role, port, destination and network namespace: what nothing else shares.
    pub(crate) fn rows_by_place(&self) -> Vec<RowSnapshot> {
        self.grouped(|key, _| Some(RowName::of_place(key)))
    }

    /// The rows that `is_part` selects by their places, with all destinations in one.
    pub(crate) fn rows_of_all_destinations(
        &self,
        is_part: impl Fn(&RowName) -> bool,
    ) -> Vec<RowSnapshot> {
        self.grouped(|key, _| {
            let place = RowName::of_place(key);
            is_part(&place).then_some(RowName { remote: None, ..place })
        })
    }

    /// The rows by the name that `name` gives them; `None` leaves one out.
    fn grouped(
        &self,
        name: impl Fn(&SnapshotKey, &KeyedStats) -> Option<RowName>,
    ) -> Vec<RowSnapshot> {
        let mut groups: BTreeMap<RowName, Group> = BTreeMap::new();
        for (key, row) in &self.rows_by_key {
            if let Some(name) = name(key, row) {
                groups.entry(name).or_default().add(key, row);
            }
        }
        groups.into_iter().map(|(name, group)| group.into_row(name)).collect()
    }
}

/// The values by which a row is grouped. They never change for a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowName {
    pub(crate) role: Role,
    pub(crate) port: Option<u16>,
    pub(crate) remote: Option<IpAddr>,
    pub(crate) owner: Option<Common<Label>>,
    pub(crate) netns: Option<NetnsId>,
}

impl RowName {
    fn new(by: By, key: &SnapshotKey, owners: &BTreeSet<Label>) -> Self {
        let all = Self { role: key.role, port: None, remote: None, owner: None, netns: None };
        match by {
            By::Port => Self { port: key.port, ..all },
            By::Remote => Self { port: key.port, remote: key.remote, ..all },
            By::Owner => Self { owner: Some(Common::of(owners.clone())), ..all },
            By::Netns => Self { netns: key.netns, ..all },
        }
    }

    fn of_place(key: &SnapshotKey) -> Self {
        let &SnapshotKey { role, port, remote, netns, .. } = key;
        Self { role, port, remote, owner: None, netns }
    }
}

/// Rows that are being merged.
#[derive(Default)]
struct Group {
    ports: BTreeSet<u16>,
    remotes: BTreeSet<IpAddr>,
    owners: BTreeSet<Label>,
    pid: Common<u32>,
    namespaces: BTreeSet<NetnsId>,
    namespace_inodes: BTreeSet<NetnsInode>,
    namespace_names: BTreeSet<Arc<str>>,
    addresses: BTreeSet<IpAddr>,
    listening: BTreeSet<IpAddr>,
    stats: RowStats,
}

impl Group {
    fn add(&mut self, key: &SnapshotKey, row: &KeyedStats) {
        self.ports.extend(key.port);
        self.remotes.extend(key.remote);
        self.owners.extend(row.owners.iter().cloned());
        self.pid.add(row.pid.clone());
        self.namespaces.extend(key.netns);
        self.namespace_inodes.extend(row.netns_inode);
        self.namespace_names.extend(row.netns_name.clone());
        self.addresses.extend(&row.addresses);
        self.listening.extend(&row.listening);
        self.stats.add(&row.stats);
    }

    fn into_row(self, name: RowName) -> RowSnapshot {
        let containers = self.owners.iter().filter_map(|owner| owner.container.as_ref());
        let (ids, pods): (BTreeSet<_>, BTreeSet<_>) =
            containers.map(|container| (container.id.as_str(), container.pod.as_deref())).unzip();
        let texts = |texts: BTreeSet<&str>| Common::of(texts.into_iter().map(Arc::from).collect());
        let identity = RowIdentity {
            role: name.role,
            name,
            port: Common::of(self.ports),
            remote: Common::of(self.remotes),
            container: texts(ids),
            pod: texts(pods.into_iter().flatten().collect()),
            netns_name: Common::of(self.namespace_names),
            addresses: self.addresses,
            listening: self.listening,
            owners: self.owners.clone(),
            pid: self.pid,
            owner: Common::of(self.owners.iter().map(|owner| owner.name.clone()).collect()),
            netns: match self.namespaces.len() {
                // A later namespace may have the inode number of one that is gone.
                0 | 1 => Common::of(self.namespace_inodes),
                several => Common::Several(several),
            },
        };
        RowSnapshot { identity, stats: self.stats }
    }
}
