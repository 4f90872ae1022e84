//! What a recording says of the run that made it: kernel, hooks, filters, clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    tcp::coverage::{Coverage, OptionalHook},
    trace::{filter::Filter, ids::NetnsId, time::ClockAnchor},
};

/// The circumstances of a trace: a recording's first frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Version of the synfin that traced.
    pub synfin: String,
    /// The host's name.
    pub host: String,
    /// The kernel's release, as `uname -r` says it.
    pub kernel: String,
    /// The same moment by two clocks.
    pub clock: ClockAnchor,
    /// Names of the hooks that ran.
    pub hooks: Vec<String>,
    /// The optional hooks that ran; a recording has the list of their names. Recordings of the
    /// first versions have no list: they were made on kernels that reported resets.
    #[serde(
        rename = "shown",
        default = "resets_only",
        serialize_with = "write_coverage",
        deserialize_with = "read_coverage"
    )]
    pub coverage: Coverage,
    /// What is unknown, and why.
    pub limitations: Vec<String>,
    /// Size of the ring buffer.
    pub ring_bytes: u32,
    /// System settings that matter to what is seen.
    pub sysctls: BTreeMap<String, String>,
    /// What was left out.
    #[serde(default)]
    pub filter: Filter,
    /// Network namespaces that have a name, by inode number.
    #[serde(default)]
    pub namespaces: BTreeMap<NetnsId, String>,
}

impl Session {
    /// Whether both are of one trace, whose dates all come of one moment that two clocks told.
    pub(crate) fn is_of_same_run(&self, other: &Self) -> bool {
        let offset = |session: &Self| {
            let ClockAnchor { monotonic_ns, realtime_ns } = session.clock;
            realtime_ns.wrapping_sub(monotonic_ns)
        };
        offset(self) == offset(other) && self.host == other.host
    }
}

fn resets_only() -> Coverage {
    Coverage::of(&[OptionalHook::Resets.name()])
}

fn write_coverage<S: Serializer>(coverage: &Coverage, serializer: S) -> Result<S::Ok, S::Error> {
    let hooks = OptionalHook::ALL.into_iter().filter(|&hook| coverage.has(hook));
    serializer.collect_seq(hooks.map(OptionalHook::name))
}

/// Skips names that this version does not know.
fn read_coverage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Coverage, D::Error> {
    Ok(Coverage::of(&Vec::<String>::deserialize(deserializer)?))
}
