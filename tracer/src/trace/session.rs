//! The session of a trace: its host, kernel, hooks, filter and clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    tcp::coverage::{Coverage, OptionalHook},
    trace::{
        filter::Filter,
        ids::{NetnsId, NetnsInode},
        time::ClockAnchor,
    },
};

/// The first frame of a recording: how the trace was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The version of synfin that made the trace.
    pub synfin: String,
    /// The name of the host.
    pub host: String,
    /// The release of the kernel, as in `uname -r`.
    pub kernel: String,
    /// The relation of kernel time to dates.
    pub clock: ClockAnchor,
    /// Names of the attached hooks.
    pub hooks: Vec<String>,
    /// The [`OptionalHook`]s that were attached. A recording lists their names; without the list, only
    /// [`OptionalHook::Resets`] was attached.
    #[serde(
        rename = "shown",
        default = "resets_only",
        serialize_with = "write_coverage",
        deserialize_with = "read_coverage"
    )]
    pub coverage: Coverage,
    /// The figures that the trace cannot provide, and why.
    pub limitations: Vec<String>,
    /// Size of each CPU's ring buffer, or of the one that all share, in bytes.
    pub ring_bytes: u32,
    /// Values of the sysctls that influence TCP.
    pub sysctls: BTreeMap<String, String>,
    /// The filter of the trace; other connections are not in it.
    #[serde(default)]
    pub filter: Filter,
    /// Names of network namespaces.
    #[serde(default)]
    pub namespaces: BTreeMap<NetnsId, String>,
    /// Inode numbers of network namespaces, as in [`Names::inodes`](crate::trace::names::Names::inodes).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inodes: BTreeMap<NetnsId, NetnsInode>,
}

impl Session {
    /// The options of the filter, with namespaces by their inode numbers.
    pub(crate) fn filter_flags(&self) -> Vec<(String, String)> {
        let inode = |id: &NetnsId| self.inodes.get(id).copied().unwrap_or(*id);
        let namespaces = self.filter.namespaces.iter().map(inode).collect();
        Filter { namespaces, ..self.filter.clone() }.flags()
    }

    /// Whether both sessions belong to one trace: the offset between its clocks is constant.
    pub(crate) fn is_same_run(&self, other: &Self) -> bool {
        let offset = |session: &Self| {
            let ClockAnchor { monotonic_ns, realtime_ns } = session.clock;
            realtime_ns.wrapping_sub(monotonic_ns)
        };
        offset(self) == offset(other) && self.host == other.host
    }
}

fn resets_only() -> Coverage {
    Coverage::from_names(&[OptionalHook::Resets.name()])
}

fn write_coverage<S: Serializer>(coverage: &Coverage, serializer: S) -> Result<S::Ok, S::Error> {
    let hooks = OptionalHook::ALL.into_iter().filter(|&hook| coverage.has(hook));
    serializer.collect_seq(hooks.map(OptionalHook::name))
}

/// Skips names that this version does not know.
fn read_coverage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Coverage, D::Error> {
    Ok(Coverage::from_names(&Vec::<String>::deserialize(deserializer)?))
}
