//! What a recording says of the run that made it: kernel, hooks, filters, clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    tcp::coverage::OptionalHook,
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
    /// What the kernel showed that not every kernel does: names of [`Extra`]. Recordings that do
    /// not say were made where it told of resets.
    #[serde(default = "resets_only")]
    pub shown: Vec<String>,
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

fn resets_only() -> Vec<String> {
    vec![OptionalHook::Resets.name().to_owned()]
}
