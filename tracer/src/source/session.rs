//! The session of a live trace: the host, the attached hooks, and what cannot be determined.

use std::collections::BTreeMap;

use crate::{
    host::{clock, namespaces, privileges},
    kernel::{Kernel, Need, Setup, iterators::SocketScanner},
    trace::{session::Session, time::ClockAnchor},
};

/// The session of a trace that begins now.
pub(super) fn begin(kernel: &Kernel, scanner: &SocketScanner, setup: Setup) -> Session {
    let mut session = host();
    session.clock =
        ClockAnchor { monotonic_ns: clock::monotonic_ns(), realtime_ns: clock::realtime_ns() };
    session.ring_bytes = kernel.ring_bytes();
    session.filter = setup.filter;
    let listing = namespaces::list(&[]);
    (session.namespaces, session.inodes) = (listing.names(), listing.inodes());
    session.hooks = kernel.active_hooks().into_iter().map(str::to_owned).collect();
    session.coverage = kernel.coverage();
    // Missing optional hooks are not listed: most hosts lack them.
    let missing = kernel.refused_hooks().iter().filter_map(|hook| match hook.need {
        Need::Expected(impact) => {
            Some(format!("no hook on {}: {impact} ({})", hook.name, hook.error))
        }
        Need::Required | Need::Optional(_) => None,
    });
    session.limitations = missing.collect();
    if let Some(refusal) = scanner.refusal() {
        session.limitations.push(format!(
            "sockets cannot be scanned: connections older than the trace, TIME_WAIT and queues are unknown ({refusal})"
        ));
    }
    if let Some(refusal) = scanner.open_files_refusal() {
        session.limitations.push(format!(
            "open files cannot be scanned: owners of sockets older than the trace, and of inherited listeners, are unknown ({refusal})"
        ));
    }
    session.limitations.extend(kernel.caveat().map(str::to_owned));
    session.limitations.extend(privileges::limitations());
    session
}

/// The version of synfin, and the hostname, kernel release and sysctls of this host. A value that
/// cannot be read is empty or missing.
fn host() -> Session {
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
const SYSCTLS: [&str; 13] = [
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_syn_linear_timeouts",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
];
