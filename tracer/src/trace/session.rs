//! The session of a trace: its host, kernel, hooks, filter and clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    tcp::coverage::{Coverage, OptionalHook},
    trace::{filter::Filter, ids::NetnsId, time::ClockAnchor},
};

/// The circumstances of a trace: a recording's first frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The version of synfin that traced.
    pub synfin: String,
    /// The name of the host.
    pub host: String,
    /// The release of the kernel, as in `uname -r`.
    pub kernel: String,
    /// One moment by two clocks.
    pub clock: ClockAnchor,
    /// Names of the attached hooks.
    pub hooks: Vec<String>,
    /// The [`OptionalHook`]s that were attached, in a recording a list of their names. Recordings
    /// without it were made with [`OptionalHook::Resets`].
    #[serde(
        rename = "shown",
        default = "resets_only",
        serialize_with = "write_coverage",
        deserialize_with = "read_coverage"
    )]
    pub coverage: Coverage,
    /// What the trace cannot show, and why.
    pub limitations: Vec<String>,
    /// Size of the ring buffer in bytes.
    pub ring_bytes: u32,
    /// Values of the sysctls that influence TCP.
    pub sysctls: BTreeMap<String, String>,
    /// The filter of the trace: other connections were left out.
    #[serde(default)]
    pub filter: Filter,
    /// Names of network namespaces, by inode number.
    #[serde(default)]
    pub namespaces: BTreeMap<NetnsId, String>,
}

impl Session {
    /// Whether both sessions are of one trace, in which the offset between the clocks is constant.
    pub(crate) fn is_of_same_run(&self, other: &Self) -> bool {
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
