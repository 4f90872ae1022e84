//! Counter identities: the kernel's counters of a namespace have to follow from synfin's output.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use serde::Deserialize;

use super::{Counters, Namespace, Synfin, slack, time_waits_entered};

/// synfin's output, by namespace.
#[derive(Default)]
pub(crate) struct Seen {
    tallies: BTreeMap<u64, EventCounts>,
    /// The namespaces in which a client had these addresses.
    alike: BTreeMap<[SocketAddr; 2], BTreeSet<u64>>,
}

/// The counts of one namespace.
#[derive(Default)]
struct EventCounts {
    /// Connections, open and closed.
    clients: u64,
    /// Connections of servers, without those never established.
    servers: u64,
    /// Number of closes by reason.
    reasons: BTreeMap<String, u64>,
    /// Closes that left a TIME_WAIT.
    time_waits: u64,
    /// Open connections that can still receive data.
    in_use: u64,
    /// Transitions from ESTABLISHED or CLOSE_WAIT to CLOSE.
    aborted: u64,
    /// Children of listeners that went from SYN_RECV to CLOSE. They include duplicates that the
    /// kernel discarded, which do not count as connections.
    unborn: u64,
}

/// A line of `synfin connections`.
#[derive(Deserialize)]
struct Connection {
    role: String,
    local_addr: IpAddr,
    local_port: u16,
    remote_addr: IpAddr,
    remote_port: u16,
    netns: u64,
    reason: Option<String>,
    state: Option<String>,
    time_wait: Option<bool>,
}

/// A line of `synfin trace`.
#[derive(Deserialize)]
struct Transition {
    netns: u64,
    role: Option<String>,
    old: String,
    new: String,
}

/// The states of a connection that the kernel counts in CurrEstab. It counts their sudden end in
/// EstabResets.
const IN_USE: [&str; 2] = ["established", "close_wait"];

/// Failed attempts that the kernel, not the application, ended after sending a SYN.
const FAILED_BY_THE_KERNEL: [&str; 6] = [
    "connect_refused_rst",
    "connect_refused_icmp",
    "connect_timeout",
    "connect_unreachable_host",
    "connect_unreachable_net",
    "connect_destroyed",
];

/// What the kernel counts as TCPAbortOnData.
const ABORTED_ON_DATA: [&str; 3] =
    ["reset_by_us_linger0", "reset_by_us_data_after_close", "reset_by_us_linger2"];

/// What the kernel counts as TCPAbortOnTimeout.
const ABORTED_ON_TIMEOUT: [&str; 6] = [
    "connect_timeout",
    "timeout_retransmission",
    "timeout_keepalive",
    "timeout_user",
    "timeout_zero_window",
    "timeout_orphan",
];

impl Seen {
    /// Reads a recording.
    pub(crate) fn in_recording(path: &str) -> Self {
        let mut seen = Self::default();
        let replay =
            |args: &[&str]| Synfin::run(args.iter().copied().chain(["-o", "json", "--from", path]));
        for open in [&["connections"][..], &["connections", "--open"]] {
            replay(open).each_line(|connection| seen.connection(connection));
        }
        replay(&["trace", "--state", "close"]).each_line(|transition: Transition| {
            seen.tallies.entry(transition.netns).or_default().transition(&transition);
        });
        seen
    }

    fn connection(&mut self, connection: Connection) {
        if connection.role == "client" {
            let local = (connection.local_addr, connection.local_port).into();
            let remote = (connection.remote_addr, connection.remote_port).into();
            self.alike.entry([local, remote]).or_default().insert(connection.netns);
        }
        self.tallies.entry(connection.netns).or_default().connection(connection);
    }

    /// The number of address pairs that clients had in several namespaces.
    pub(crate) fn alike(&self) -> usize {
        self.alike.values().filter(|namespaces| namespaces.len() > 1).count()
    }

    /// The counters of a namespace that do not follow from the output. Each missing record may
    /// change a count by one.
    pub(crate) fn differences(
        &self,
        namespace: &Namespace,
        counters: &Counters,
        missing: u64,
    ) -> Vec<String> {
        let nothing = EventCounts::default();
        let identities = self.tallies.get(&namespace.id()).unwrap_or(&nothing).identities(counters);
        // If another CPU handles a reset while a connection closes, the reset is attributed wrongly; on
        // a slow machine in one case of a hundred.
        let differ = identities.into_iter().filter(|(name, seen, counted)| {
            // A RST that finds a request while another CPU makes the connection of it counts as a failed
            // attempt, but not as an embryonic reset (`net/ipv4/tcp_minisocks.c:tcp_check_req`).
            let raced = match *name {
                ATTEMPTS_FAILED if counted > seen => counted / 1_000,
                _ => 0,
            };
            let (off, most) = (seen.abs_diff(*counted), missing + slack(*counted) + raced);
            if off > 0 {
                eprintln!("{name} is {counted}, off by {off} of at most {most}");
            }
            off > most
        });
        differ.map(|(name, seen, counted)| format!("{name} is {counted}, not {seen}")).collect()
    }
}

/// The attempts that failed but for handshakes that the client has reset.
const ATTEMPTS_FAILED: &str = "AttemptFails - EmbryonicRsts";

impl EventCounts {
    fn connection(&mut self, connection: Connection) {
        match (&*connection.role, connection.reason.as_deref()) {
            ("client", _) => self.clients += 1,
            // Counted as discarded children.
            (_, Some("handshake_aborted")) => {}
            _ => self.servers += 1,
        }
        self.time_waits += u64::from(connection.time_wait == Some(true));
        self.in_use += u64::from(connection.state.is_some_and(|state| IN_USE.contains(&&*state)));
        if let Some(reason) = connection.reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    fn transition(&mut self, Transition { role, old, new, .. }: &Transition) {
        if new == "close" {
            self.aborted += u64::from(IN_USE.contains(&&**old));
            self.unborn += u64::from(old == "syn_recv" && role.as_deref() == Some("server"));
        }
    }

    fn ended(&self, reasons: &[&str]) -> u64 {
        reasons.iter().filter_map(|&reason| self.reasons.get(reason)).sum()
    }

    /// Counter name, expected value according to the output, kernel's value.
    fn identities(&self, counters: &Counters) -> Vec<(&'static str, u64, u64)> {
        let counted = |name| counters.get(name);
        let failed_locally = self.ended(&["connect_local_failure"]);
        // A handshake that the client resets does not count as failed here.
        let failed = counted("AttemptFails").saturating_sub(counted("EmbryonicRsts"));
        let mut identities = vec![
            ("ActiveOpens", self.clients.saturating_sub(failed_locally), counted("ActiveOpens")),
            ("PassiveOpens", self.servers + self.unborn, counted("PassiveOpens")),
            (ATTEMPTS_FAILED, self.ended(&FAILED_BY_THE_KERNEL), failed),
            ("EstabResets", self.aborted, counted("EstabResets")),
            ("CurrEstab", self.in_use, counted("CurrEstab")),
            (
                "TCPAbortOnClose",
                self.ended(&["reset_by_us_unread_data"]),
                counted("TCPAbortOnClose"),
            ),
            ("TCPAbortOnData", self.ended(&ABORTED_ON_DATA), counted("TCPAbortOnData")),
            ("TCPAbortOnTimeout", self.ended(&ABORTED_ON_TIMEOUT), counted("TCPAbortOnTimeout")),
        ];
        let entered = time_waits_entered(counters);
        identities.extend(entered.map(|entered| ("TW + TWKilled", self.time_waits, entered)));
        identities
    }
}
