//! Arguments of commands that trace this host.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::values::{interval, ring_size};
#[cfg(feature = "live")]
use crate::{kernel::Setup, trace::filter::Filter};

/// Options of live tracing.
#[derive(Clone, Debug, Args)]
pub(crate) struct LiveArgs {
    /// Stop after this time (10s, 5m …)
    #[arg(long = "for", id = "duration", value_name = "DURATION", value_parser = interval)]
    pub(crate) duration: Option<Duration>,
    /// Size of each CPU's ring buffer, or of the one that all share on arm64 and before Linux 6.1: a power of two (8M …) [default: 64M divided among the CPUs, from 1M to 8M; if shared, 16M]
    #[arg(long, value_name = "BYTES", value_parser = ring_size)]
    pub(crate) ring_size: Option<u32>,
    /// Maximum number of tracked connections; beyond it the least recently active are evicted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = DEFAULT_CONNECTIONS)]
    pub(crate) max_connections: u32,
    /// Attach to tracepoints only, without fentry; some columns are then inferred or unknown
    #[arg(long)]
    pub(crate) tracepoints_only: bool,
    /// Measure waits for accept() exactly also on kernels without fentry, by the tracepoints of accept system calls: this delays all other system calls of the host by about 5.5 ns
    #[arg(long)]
    pub(crate) accept_wait: bool,
    #[command(flatten)]
    pub(crate) btf: BtfArgs,
    /// Scan sockets without pause, for tests of the scans
    #[arg(long, hide = true)]
    pub(crate) scan_always: bool,
    /// Attach the main hook as on Linux 7.0 and later, for tests on older kernels
    #[arg(long, hide = true)]
    pub(crate) by_event: bool,
}

#[cfg(feature = "live")]
impl LiveArgs {
    /// The setup of the kernel side with these arguments.
    pub(crate) fn setup(self, filter: Filter, verbose: u8) -> Setup {
        Setup {
            ring_bytes: self.ring_size,
            filter,
            tracepoints_only: self.tracepoints_only,
            accept_wait: self.accept_wait,
            by_event: self.by_event,
            verbose,
            btf: self.btf.file,
        }
    }
}

impl Default for LiveArgs {
    fn default() -> Self {
        Self {
            duration: None,
            ring_size: None,
            max_connections: DEFAULT_CONNECTIONS,
            tracepoints_only: false,
            accept_wait: false,
            btf: BtfArgs::default(),
            scan_always: false,
            by_event: false,
        }
    }
}

/// The limit of connections in [`crate::tracker::Limits::default`].
const DEFAULT_CONNECTIONS: u32 = 1 << 20;

/// The source of the kernel's BTF.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct BtfArgs {
    /// Read the BTF of the running kernel from FILE, where /sys/kernel/btf/vmlinux does not exist
    #[arg(long = "btf", id = "btf", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::Limits;

    #[test]
    fn the_default_matches_the_tracker() {
        assert_eq!(DEFAULT_CONNECTIONS as usize, Limits::default().connections);
    }
}
