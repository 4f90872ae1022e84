//! The filters of the command line. They become a [`Filter`], in which names are resolved on this
//! host, or with the names in a recording.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use anyhow::Result;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};

#[cfg(feature = "live")]
use crate::host::{
    cgroups::Hierarchy,
    namespaces::{self, Listing},
    pid_namespace,
};
use crate::{
    message::failure::Failure,
    tcp::role::Role,
    trace::{
        filter::{Cgroup, Family, Filter, Network, PortRange},
        ids::{NetnsId, NetnsInode},
        session::Session,
    },
};

/// Heading of the filters in the help.
const HEADING: &str = "Filters";

/// The largest process id (`PID_MAX_LIMIT`).
const PID_MAX: i64 = 4 << 20;

/// Filters on connections. Different filters are ANDed, the values of one filter are ORed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct FilterArgs {
    /// Match connections of these processes, which connect or hold the listener
    #[arg(help_heading = HEADING, short, long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=PID_MAX))]
    pid: Vec<u32>,
    /// Match these service ports: local for a server, remote for a client (443,8000-8099)
    #[arg(help_heading = HEADING, short = 'P', long, value_name = "PORTS", value_delimiter = ',')]
    port: Vec<PortRange>,
    /// Match these local ports
    #[arg(help_heading = HEADING, short = 'L', long, value_name = "PORTS", value_delimiter = ',')]
    localport: Vec<PortRange>,
    /// Match these remote ports
    #[arg(help_heading = HEADING, short = 'D', long, value_name = "PORTS", value_delimiter = ',')]
    remoteport: Vec<PortRange>,
    /// Match IPv4 only, including IPv4 on IPv6 sockets
    #[arg(help_heading = HEADING, short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Match IPv6 only
    #[arg(help_heading = HEADING, short = '6', long)]
    ipv6: bool,
    /// Match local addresses in these networks (10.0.0.0/8)
    #[arg(help_heading = HEADING, long, value_name = "CIDR", value_delimiter = ',')]
    local: Vec<Network>,
    /// Match remote addresses in these networks
    #[arg(help_heading = HEADING, long, value_name = "CIDR", value_delimiter = ',')]
    remote: Vec<Network>,
    /// Match these network namespaces: a name of `ip netns`, `host`, or an inode number
    #[arg(help_heading = HEADING, short = 'N', long, value_name = "NAME|INODE", value_delimiter = ',')]
    netns: Vec<String>,
    /// Match this cgroup (v2) and its descendants: a path from the root or in /sys/fs/cgroup
    #[arg(help_heading = HEADING, short, long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Match connections in which this host has this role
    #[arg(help_heading = HEADING, long, value_parser = role())]
    role: Option<Role>,
}

impl FilterArgs {
    /// Whether no filter is given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The filter for a live trace, with names resolved on this host.
    ///
    /// # Errors
    ///
    /// There is no such process, network namespace or cgroup.
    #[cfg(feature = "live")]
    pub(crate) fn of_this_host(&self) -> Result<Filter> {
        let listing = match self.netns.is_empty() {
            true => Listing::default(),
            false => namespaces::list(&[]),
        };
        let (names, inodes) = (listing.names(), listing.inodes());
        // In another PID namespace the ids are not those that `/proc` shows.
        let is_gone = |pid: &u32| !Path::new("/proc").join(pid.to_string()).exists();
        if let Some(pid) = self.pid.first()
            && self.pid.iter().all(is_gone)
            && pid_namespace::is_initial() == Some(true)
        {
            let what = format!("no process has the id {pid} (--pid)");
            let remedy = "pgrep -a NAME lists the processes of that name";
            return Err(Failure::usage(what, "it may have ended", remedy).into());
        }
        let cgroup = |path: &Path| {
            let found = Hierarchy::find().and_then(|hierarchy| hierarchy.resolve(path));
            found.map_err(|error| {
                let what = format!("no cgroup matches --cgroup {}", path.display());
                let remedy = "give a path below the mount point of cgroup v2 (systemd-cgls lists all cgroups)";
                Failure::usage(what, format!("{error:#}"), remedy).into()
            })
        };
        self.filter((&names, &inodes), cgroup)
    }

    /// The filter for a recording, with the names that it contains. A cgroup within which the trace
    /// was filtered already keeps the id by which the kernel decided.
    ///
    /// # Errors
    ///
    /// The recording has no network namespace of that name.
    pub(crate) fn of_recording(&self, session: &Session) -> Result<Filter> {
        let recorded = session.filter.cgroup.as_ref();
        self.filter((&session.namespaces, &session.inodes), |path| {
            let wanted = Cgroup { path: below_root(path), kernel: None };
            let decided = recorded.filter(|recorded| wanted.contains(&recorded.path));
            Ok(Cgroup { kernel: decided.and_then(|recorded| recorded.kernel), ..wanted })
        })
    }

    fn filter(
        &self,
        known: (&BTreeMap<NetnsId, String>, &BTreeMap<NetnsId, NetnsInode>),
        cgroup: impl FnOnce(&Path) -> Result<Cgroup>,
    ) -> Result<Filter> {
        Ok(Filter {
            pids: self.pid.clone(),
            service_ports: self.port.clone(),
            local_ports: self.localport.clone(),
            remote_ports: self.remoteport.clone(),
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Some(Family::V4),
                (_, true) => Some(Family::V6),
                _ => None,
            },
            local: self.local.clone(),
            remote: self.remote.clone(),
            namespaces: self
                .netns
                .iter()
                .map(|name| namespace(name, known))
                .collect::<Result<_, _>>()?,
            cgroup: self.cgroup.as_deref().map(cgroup).transpose()?,
            role: self.role,
        })
    }
}

/// The namespace with this name or inode number. The tracker also admits a namespace whose inode number
/// becomes known later.
fn namespace(
    name: &str,
    (known, inodes): (&BTreeMap<NetnsId, String>, &BTreeMap<NetnsId, NetnsInode>),
) -> Result<NetnsId, Failure> {
    if let Ok(inode) = name.parse() {
        let id = inodes.iter().find(|&(_, &known)| known == inode).map(|(&id, _)| id);
        return Ok(id.unwrap_or(inode));
    }
    if let Some((&id, _)) = known.iter().find(|(_, known)| *known == name) {
        return Ok(id);
    }
    let known: Vec<_> = known.values().map(String::as_str).collect();
    let remedy = if known.is_empty() {
        "no namespace has a name here: give an inode number (lsns -t net lists them)".to_owned()
    } else {
        format!(
            "give one of the names {}, or an inode number (lsns -t net lists them)",
            known.join(", ")
        )
    };
    Err(Failure::usage(
        format!("no namespace matches --netns {name}"),
        "there is no network namespace with that name",
        remedy,
    ))
}

/// The path of a cgroup below the root of the hierarchy, without the usual mount points: the one on
/// the host of a recording is unknown.
fn below_root(path: &Path) -> String {
    let below = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .iter()
        .find_map(|mount| path.strip_prefix(mount).ok())
        .unwrap_or(path);
    let parts = below.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new([Role::Client.name(), Role::Server.name()])
        .map(|name| if name == Role::Client.name() { Role::Client } else { Role::Server })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_given_by_name_or_number() {
        let known = (&BTreeMap::from([(7, "blue".to_owned())]), &BTreeMap::from([(7, 99)]));
        assert_eq!(namespace("blue", known).unwrap(), 7);
        assert_eq!(namespace("99", known).unwrap(), 7);
        assert_eq!(namespace("12", known).unwrap(), 12);
        assert!(namespace("green", known).unwrap_err().remedy.contains("blue"));
    }

    #[test]
    fn a_cgroup_path_may_include_the_mount_point() {
        for path in ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/unified/a/b/", "/a/b", "a/b"] {
            assert_eq!(below_root(Path::new(path)), "a/b", "{path}");
        }
    }
}
