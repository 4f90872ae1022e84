//! Names of cgroups, containers and network namespaces, which the kernel identifies by number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::trace::ids::{NetnsId, NetnsInode};

/// Names of cgroups and network namespaces. The frame with a name precedes the first use of its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// Cgroups by id.
    pub cgroups: BTreeMap<u64, CgroupName>,
    /// Names of network namespaces.
    pub namespaces: BTreeMap<NetnsId, String>,
    /// Inode numbers of network namespaces. A namespace without one has its inode number as id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inodes: BTreeMap<NetnsId, NetnsInode>,
}

impl Names {
    /// Whether there are no names.
    pub fn is_empty(&self) -> bool {
        self.cgroups.is_empty() && self.namespaces.is_empty() && self.inodes.is_empty()
    }
}

/// The name of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupName {
    /// Its path below the root, without a slash at either end. It may contain any character.
    pub path: String,
    /// The container of this cgroup, if its path names one.
    pub container: Option<Container>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Container {
    /// Its id in the container runtime.
    pub id: String,
    /// Its Kubernetes pod: `namespace/name`, or its uid if the node does not show the name. `None`
    /// outside Kubernetes.
    pub pod: Option<String>,
}
