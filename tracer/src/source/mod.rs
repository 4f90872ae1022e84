//! Where frames come from: the live kernel or a recording. Both give the same kinds of frames in
//! the same order, and what follows cannot tell them apart.

mod live;
pub mod names;
mod replay;
pub(crate) mod scan_schedule;

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
pub use live::{Live, Options};
pub use replay::Replay;

use crate::trace::{ids::NetnsId, recording::Frame, session::Session, time::Nanos};

/// A stream of frames, the [`Session`] first.
pub enum Source {
    /// This host.
    Live(Box<Live>),
    /// A recording.
    Replay(Box<Replay>),
}

impl Source {
    /// Opens a recording, or a flight recorder's directory.
    pub fn replay(path: &Path) -> Result<Self> {
        Ok(Self::Replay(Box::new(Replay::open(path)?)))
    }

    /// The next frame; `None` at the end. May be cancelled without losing anything.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        match self {
            Self::Live(live) => live.next().await,
            Self::Replay(replay) => replay.next(),
        }
    }

    /// Ends a live stream: a last survey, a last drain, then no more frames. A replay is not
    /// live, and goes on to its own end.
    pub fn finish(&mut self) {
        if let Self::Live(live) = self {
            live.finish();
        }
    }

    /// Asks for a tick at `time`, or soon after.
    pub fn tick_at(&mut self, time: Nanos) {
        if let Self::Live(live) = self {
            live.tick_at(time);
        }
    }

    /// Asks for a survey of all there is, as if there had been none before.
    pub fn restart_scans(&mut self) {
        if let Self::Live(live) = self {
            live.restart_scans();
        }
    }

    /// Tells which namespaces are worth a scan, and which would be if there had been none before;
    /// to be called after each tick.
    pub fn plan_scans(&mut self, wanted: impl Fn(NetnsId, bool) -> bool) {
        if let Self::Live(live) = self {
            live.plan_scans(wanted);
        }
    }

    /// Whether the first survey, which adopts what was there before, is over.
    pub fn is_seeded(&self) -> bool {
        match self {
            Self::Live(live) => live.is_seeded(),
            Self::Replay(_) => true,
        }
    }
}

/// What the host says of itself.
fn session() -> Session {
    // A host's name may be any bytes.
    let read = |path: &str| {
        let text = std::fs::read(path).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let sysctls: BTreeMap<_, _> = SYSCTLS
        .iter()
        .filter_map(|name| {
            let value = read(&format!("/proc/sys/{}", name.replace('.', "/")))?;
            Some(((*name).to_owned(), value))
        })
        .collect();
    Session {
        synfin: env!("CARGO_PKG_VERSION").to_owned(),
        host: read("/proc/sys/kernel/hostname").unwrap_or_default(),
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        sysctls,
        ..Session::default()
    }
}

/// The settings that decide about handshakes, queues, ports and TIME_WAIT.
const SYSCTLS: [&str; 12] = [
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
];
