//! The facts about this host in the session of a trace.

use std::collections::BTreeMap;

use crate::trace::session::Session;

/// The version of synfin, and the hostname, kernel release and sysctls of this host. A value that
/// cannot be read is empty or missing.
pub(super) fn session() -> Session {
    // A hostname need not be UTF-8.
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

/// The sysctls that affect handshakes, queues, ports and TIME_WAIT.
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
