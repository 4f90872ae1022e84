//! The session of a trace: its host, kernel, hooks, filter and clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    tcp::coverage::OptionalHook,
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
    /// Names of the attached [`OptionalHook`]s. Recordings without this field were made with
    /// [`OptionalHook::Resets`].
    #[serde(default = "resets_only")]
    pub shown: Vec<String>,
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

fn resets_only() -> Vec<String> {
    vec![OptionalHook::Resets.name().to_owned()]
}
