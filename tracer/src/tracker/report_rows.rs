//! The rows of a report: the pages of the books, put together by what is asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    owners::Label,
    row_stats::RowStats,
    snapshot::{KeyedStats, Snapshot, SnapshotKey},
};
use crate::{
    tcp::{close_reason::Class, group_by::By, role::Role},
    trace::ids::NetnsId,
};

/// One row of a report.
#[derive(Clone, Debug)]
pub struct RowSnapshot {
    /// Which row it is.
    pub identity: RowIdentity,
    /// What was counted in it.
    pub stats: RowStats,
}

/// Which row it is, and whose.
#[derive(Clone, Debug)]
pub struct RowIdentity {
    /// What makes it a row.
    pub name: RowName,
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
}

impl RowSnapshot {
    /// Connections that went wrong: failed or ended abnormally.
    pub fn bad(&self) -> u64 {
        self.stats.counters.sum(|reason| reason.class() == Class::Abnormal)
    }

    /// Attempts of a client, established ones of a server.
    pub(crate) fn new_connections(&self) -> u64 {
        match self.identity.role {
            Role::Client => self.stats.counters.attempts,
            Role::Server => self.stats.counters.established,
        }
    }
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

impl Snapshot {
    /// One of the rows that there are `by`.
    pub fn row(&self, by: By, wanted: &RowName) -> Option<RowSnapshot> {
        self.merged(wanted.clone(), |key, page| {
            key.role == wanted.role && RowName::new(by, key, &page.owners) == *wanted
        })
    }

    /// All that `is_part` says of, by role and service port, as one row of this role. `None` if
    /// there is nothing.
    pub(crate) fn sum(
        &self,
        role: Role,
        is_part: impl Fn(Role, Option<u16>) -> bool,
    ) -> Option<RowSnapshot> {
        let name = RowName { role, port: None, remote: None, owner: None, netns: None };
        self.merged(name, |key, _| is_part(key.role, key.port))
    }

    /// The pages that are parts of a row; `None` if there are none.
    fn merged(
        &self,
        name: RowName,
        is_part: impl Fn(&SnapshotKey, &KeyedStats) -> bool,
    ) -> Option<RowSnapshot> {
        let mut parts = self.rows_by_key.iter().filter(|(key, page)| is_part(key, page)).peekable();
        parts.peek()?;
        let mut group = Group::default();
        parts.for_each(|(key, page)| group.add(key, page));
        Some(group.into_row(name))
    }

    /// The rows, put together `by`.
    pub fn rows(&self, by: By) -> Vec<RowSnapshot> {
        let mut groups: BTreeMap<RowName, Group> = BTreeMap::new();
        for (key, page) in &self.rows_by_key {
            groups.entry(RowName::new(by, key, &page.owners)).or_default().add(key, page);
        }
        groups.into_iter().map(|(name, group)| group.into_row(name)).collect()
    }
}

/// Which row it is: what makes a row, and nothing that may change.
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
}

/// Pages that are put together.
#[derive(Default)]
struct Group {
    ports: BTreeSet<u16>,
    remotes: BTreeSet<IpAddr>,
    owners: BTreeSet<Label>,
    namespaces: BTreeSet<NetnsId>,
    namespace_names: BTreeSet<Arc<str>>,
    stats: RowStats,
}

impl Group {
    fn add(&mut self, key: &SnapshotKey, page: &KeyedStats) {
        self.ports.extend(key.port);
        self.remotes.extend(key.remote);
        self.owners.extend(page.owners.iter().cloned());
        self.namespaces.extend(key.netns);
        self.namespace_names.extend(page.netns_name.clone());
        self.stats.add(&page.stats);
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
            owner: Common::of(self.owners.iter().map(|owner| owner.name.clone()).collect()),
            netns: Common::of(self.namespaces),
        };
        RowSnapshot { identity, stats: self.stats }
    }
}
