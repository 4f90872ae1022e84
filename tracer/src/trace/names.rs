//! Names of what the kernel numbers: cgroups, containers and network namespaces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::trace::ids::NetnsId;

/// Names of what the kernel numbers, given before a number is used for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// Cgroups by id.
    pub cgroups: BTreeMap<u64, CgroupName>,
    /// Network namespaces by inode number.
    pub namespaces: BTreeMap<NetnsId, String>,
}

impl Names {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cgroups.is_empty() && self.namespaces.is_empty()
    }
}

/// What is known of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupName {
    /// Its path below the root, without a slash at either end; any characters.
    pub path: String,
    /// The container that it is, if its path says so.
    pub container: Option<Container>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Container {
    /// As its runtime names it.
    pub id: String,
    /// Its Kubernetes pod: `namespace/name`, or its uid if the node does not tell its name.
    pub pod: Option<String>,
}
