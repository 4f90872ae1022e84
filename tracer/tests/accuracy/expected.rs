//! The expected results of each scenario on the newest kernels: synfin's, connection by connection,
//! and the kernel's own counters. `tests/kernel/accuracy/deviations.rs` has the deviations of older
//! kernels. A function of the same name in `tests/kernel/accuracy` plays the scenario.

/// A scenario, played in a network namespace of its own.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// The name of the function that plays it, and of its recording.
    pub(crate) name: &'static str,
    /// A description of the events.
    pub(crate) what: &'static str,
    /// A line per connection, sorted: `ROLE HANDSHAKE REASON`, then `TIME_WAIT` if it left one
    /// (`TIME_WAIT?` if the table was full, so that only a count or an optional hook can decide).
    /// Without a handshake, `-`; instead of a reason, `open STATE` if the connection stays open.
    pub(crate) synfin: &'static [&'static str],
    /// The changes of the kernel's counters. No other counter of connections changes.
    pub(crate) kernel: &'static str,
    /// Minimum and maximum of its handshakes that are measured, in milliseconds.
    pub(crate) took: (u32, u32),
    /// Columns of rows: role, port (0 is the other row), name, value.
    pub(crate) columns: &'static [(&'static str, u16, &'static str, u64)],
    /// Handshakes in the SYN queue of the host's listener, where the kernel reports them: entered,
    /// completed, dropped and expired.
    pub(crate) syn_queue: Option<[u64; 4]>,
}

const fn scenario(
    name: &'static str,
    what: &'static str,
    synfin: &'static [&'static str],
    kernel: &'static str,
) -> Scenario {
    let took = (0, PROMPTLY);
    Scenario { name, what, synfin, kernel, took, columns: &[], syn_queue: None }
}

/// Milliseconds within which a peer answers at once, on a busy machine.
const PROMPTLY: u32 = 100;

impl Scenario {
    const fn with(self, columns: &'static [(&'static str, u16, &'static str, u64)]) -> Self {
        Self { columns, ..self }
    }

    const fn syn_queue(self, [entered, completed, dropped, expired]: [u64; 4]) -> Self {
        Self { syn_queue: Some([entered, completed, dropped, expired]), ..self }
    }

    const fn took(self, least: u32, most: u32) -> Self {
        Self { took: (least, most), ..self }
    }
}

/// The port on which the host listens.
pub(super) const SERVER: u16 = 8080;
/// The port on which the peer listens.
const CLIENT: u16 = 80;
/// The row of ports without a row of their own.
const OTHER_ROW: u16 = 0;

/// All scenarios, group by group.
pub(crate) fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    GROUPS.iter().flat_map(|(_, scenarios)| *scenarios)
}

/// The groups and their scenarios.
pub(crate) const GROUPS: &[(&str, &[Scenario])] = &[
    ("Opening", OPENING),
    ("Failing to open", FAILING),
    ("Closing", CLOSING),
    ("Ended by a reset", RESETS),
    ("Ended by a timer", TIMERS),
    ("Ended by a third party", OTHERS),
    ("Identity", IDENTITY),
    ("MPTCP", MPTCP),
    ("Floods", FLOODS),
    ("Older than the trace", OLDER),
];

#[rustfmt::skip]
const OPENING: &[Scenario] = &[
    scenario("active_open", "the host connects; the peer answers after 200 ms",
        &["client clean open established"], "ActiveOpens 1").took(200, 300),
    scenario("passive_open", "a peer connects; its last ACK arrives after 200 ms",
        &["server clean open established"], "PassiveOpens 1").took(200, 300)
        .syn_queue([1, 1, 0, 0]),
    scenario("ipv6", "both ends are on the host, by IPv6",
        &["client clean closed_by_us TIME_WAIT", "server clean closed_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
    scenario("mptcp", "MPTCP with one subflow, both ends on the host",
        &["client clean closed_by_us TIME_WAIT", "server clean closed_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
    scenario("last_ack_with_fin", "the last ACK of the handshake carries a FIN",
        &["server clean closed_by_peer"], "PassiveOpens 1").syn_queue([1, 1, 0, 0]),
    scenario("simultaneous_open", "both sides send SYN at once",
        &["client clean open established"], "ActiveOpens 1"),
    scenario("simultaneous_open_reset", "both sides send SYN at once, and the peer then RST",
        &["client - handshake_aborted"], "ActiveOpens 1, AttemptFails 1"),
    scenario("self_connect", "a socket connects to itself",
        &["client clean closed_by_both TIME_WAIT"], "ActiveOpens 1, TW 1"),
    scenario("fast_open_client", "the SYN carries data (MSG_FASTOPEN)",
        &["client clean open established"], "ActiveOpens 1, TCPFastOpenActive 1"),
    scenario("fast_open_deferred", "connect() sends nothing, the SYN leaves with the first data, 200 ms later (TCP_FASTOPEN_CONNECT)",
        &["client clean open established"], "ActiveOpens 1, TCPFastOpenActive 1"),
    scenario("fast_open_deferred_retransmitted", "the same, and the SYN is retransmitted without the data",
        &["client unmeasured(fast_open) open established"],
        "ActiveOpens 1, TCPSynRetrans 1, TCPFastOpenActiveFail 1"),
    scenario("fast_open_child", "a Fast Open child is accepted and read in SYN_RECV; its last ACK arrives after 200 ms",
        &["server clean open established"], "PassiveOpens 1, TCPFastOpenPassive 1").took(200, 300)
        .syn_queue([0, 0, 0, 0]),
    scenario("fast_open_child_closed", "a Fast Open child is closed in SYN_RECV",
        &["server unmeasured(evidence_lost) closed_by_us TIME_WAIT"],
        "PassiveOpens 1, TW 1, TCPFastOpenPassive 1"),
    scenario("fast_open_child_reset", "a Fast Open child is reset in SYN_RECV",
        &["server - handshake_aborted"],
        "PassiveOpens 1, AttemptFails 2, TCPFastOpenPassive 1"),
    scenario("fast_open_child_orphaned", "the listener of a Fast Open child in SYN_RECV closes",
        &["server - handshake_aborted"],
        "PassiveOpens 1, OutRsts 1, TCPFastOpenPassive 1"),
    scenario("syn_cookie", "SYN cookies, without timestamps",
        &["server unmeasured(syn_cookie) open established"],
        "PassiveOpens 1, TCPReqQFullDoCookies 1, SyncookiesSent 1, SyncookiesRecv 1")
        .syn_queue([0, 0, 0, 0]),
    scenario("syn_cookie_timestamps", "SYN cookies, with timestamps",
        &["server unmeasured(syn_cookie) open established"],
        "PassiveOpens 1, TCPReqQFullDoCookies 1, SyncookiesSent 1, SyncookiesRecv 1"),
    scenario("repair_open", "a checkpoint is restored (TCP_REPAIR)",
        &["unknown unmeasured(repair) open established"], ""),
    scenario("repair_server", "the same of a connection to a port where the host listens",
        &["server unmeasured(repair) open established"], ""),
    scenario("no_route", "there is no route: connect() fails at once", &[], ""),
    scenario("no_port_left", "the only local port is taken by a connection to the same service",
        &["client - connect_local_failure", "client clean open established"], "ActiveOpens 1")
        .with(&[("client", CLIENT, "ephemeral.used", 1), ("client", CLIENT, "ephemeral.ports", 1)]),
    scenario("listen_fails", "listen() fails because of another listener", &[], ""),
    scenario("half_open_expires", "a SYN-ACK is never answered", &[], "TCPSynRetrans 1")
        .with(&[("server", SERVER, "synack_retransmits", 1)]).syn_queue([1, 0, 0, 1]),
    scenario("half_open_reset", "a SYN-ACK is answered with RST", &[],
        "AttemptFails 1, EmbryonicRsts 1").syn_queue([1, 0, 1, 0]),
    scenario("half_open_unreachable", "a SYN-ACK is answered with ICMP host unreachable", &[],
        "ListenDrops 1")
        .with(&[("server", SERVER, "listener.drops", 1)]).syn_queue([1, 0, 1, 0]),
    scenario("syn_queue_full", "a SYN finds the queue of half-open connections full, no cookies",
        &[], "ListenDrops 1, TCPReqQFullDrop 1")
        .with(&[("server", SERVER, "listener.drops", 1)]).syn_queue([2, 0, 0, 0]),
    scenario("accept_queue", "five connections wait for accept()",
        &["server clean open established", "server clean open established",
          "server clean open established", "server clean open established",
          "server clean open established"], "PassiveOpens 5")
        .with(&[("server", SERVER, "accept_queue.p50", 2),
                ("server", SERVER, "accept_queue.p99", 4),
                ("server", SERVER, "accept_queue.peak", 5),
                ("server", SERVER, "accept_queue.limit", 20)])
        .syn_queue([5, 5, 0, 0]),
    scenario("accept_queue_full_at_syn", "a SYN finds the accept queue full",
        &["server clean open established"], "PassiveOpens 1, ListenOverflows 1, ListenDrops 1")
        .with(&[("server", SERVER, "listener.drops", 1)]).syn_queue([1, 1, 0, 0]),
    // The listener counts such an ACK as two drops (sk_drops).
    scenario("accept_queue_full_at_ack", "the last ACK finds the accept queue full",
        &["server clean open established", "server clean open established"],
        "PassiveOpens 2, ListenOverflows 1, ListenDrops 1")
        .with(&[("server", SERVER, "listener.drops", 2)]).syn_queue([3, 2, 0, 0]),
    scenario("abort_on_overflow", "the same with tcp_abort_on_overflow",
        &["server clean open established", "server clean open established"],
        "PassiveOpens 2, OutRsts 1, ListenOverflows 1, ListenDrops 1, EmbryonicRsts 1")
        .with(&[("server", SERVER, "listener.drops", 2)]).syn_queue([3, 2, 1, 0]),
    scenario("synack_retransmitted", "the SYN-ACK is retransmitted by the timer",
        &["server retransmitted open established"], "PassiveOpens 1, TCPSynRetrans 1").took(1000, 1900),
    scenario("synack_retransmitted_timestamps", "the same with timestamps",
        &["server retransmitted open established"], "PassiveOpens 1, TCPSynRetrans 1").took(1000, 1900),
    scenario("syn_received_twice", "the SYN-ACK is retransmitted for a second SYN, after 200 ms",
        &["server retransmitted open established"], "PassiveOpens 1, TCPSynRetrans 1").took(200, 300),
    scenario("syn_retransmitted", "the SYN is retransmitted by the timer",
        &["client retransmitted open established"], "ActiveOpens 1, TCPSynRetrans 1").took(1000, 1900),
    scenario("syn_retransmitted_timestamps", "the same with timestamps",
        &["client retransmitted open established"], "ActiveOpens 1, TCPSynRetrans 1").took(1000, 1900),
    scenario("deferred_accept", "the last ACK is ignored until data arrives (TCP_DEFER_ACCEPT)",
        &["server unmeasured(deferred_accept) open established"],
        "PassiveOpens 1, TCPDeferAcceptDrop 1"),
    scenario("deferred_accept_set_late", "the same, set after listen(), and found by a scan before the connection",
        &["server unmeasured(deferred_accept) open established"],
        "PassiveOpens 1, TCPDeferAcceptDrop 1"),
    scenario("wrong_syn_ack", "a SYN-ACK with a wrong number arrives first, and is reset",
        &["client clean open established"], "ActiveOpens 1, OutRsts 1"),
];

#[rustfmt::skip]
const FAILING: &[Scenario] = &[
    scenario("refused_by_rst", "the SYN is answered with RST",
        &["client - connect_refused_rst"], "ActiveOpens 1, AttemptFails 1"),
    scenario("refused_by_icmp_port", "the SYN is answered with ICMP port unreachable",
        &["client - connect_refused_icmp"], "ActiveOpens 1, AttemptFails 1"),
    scenario("refused_by_icmp_protocol", "the SYN is answered with ICMP protocol unreachable",
        &["client - connect_refused_icmp"], "ActiveOpens 1, AttemptFails 1"),
    scenario("host_unreachable", "the SYN is answered with ICMP host unreachable",
        &["client - connect_unreachable_host"], "ActiveOpens 1, AttemptFails 1"),
    scenario("net_unreachable", "the SYN is answered with ICMP network unreachable",
        &["client - connect_unreachable_net"], "ActiveOpens 1, AttemptFails 1"),
    scenario("syn_timeout", "no SYN is answered",
        &["client - connect_timeout"],
        "ActiveOpens 1, AttemptFails 1, TCPSynRetrans 1, TCPAbortOnTimeout 1"),
    scenario("cancelled", "the application closes the socket while it connects",
        &["client - connect_cancelled"], "ActiveOpens 1"),
    scenario("abandoned", "the application closes the socket after the SYN was sent again",
        &["client - connect_abandoned"], "ActiveOpens 1, TCPSynRetrans 1"),
    scenario("connecting_socket_destroyed", "ss -K destroys the socket while it connects",
        &["client - connect_destroyed"], "ActiveOpens 1, AttemptFails 1"),
];

#[rustfmt::skip]
const CLOSING: &[Scenario] = &[
    scenario("passive_close", "the peer closes, then the host",
        &["client clean closed_by_peer"], "ActiveOpens 1")
        .with(&[("client", CLIENT, "closed_first.peer", 1)]),
    scenario("active_close", "the host closes; ACK, then FIN of the peer",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TW 1")
        .with(&[("client", CLIENT, "closed_first.us", 1),
                ("client", CLIENT, "time_wait.now", 1)]),
    scenario("active_close_by_server", "the same, where the host is the server",
        &["server clean closed_by_us TIME_WAIT"], "PassiveOpens 1, TW 1"),
    scenario("active_close_fin_with_ack", "the host closes; the peer's ACK carries its FIN",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TW 1"),
    scenario("half_close", "the host shuts down its side, and closes after the peer",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TW 1"),
    scenario("closed_twice", "the host shuts down its side, and closes before the ACK of its FIN",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TW 1"),
    scenario("simultaneous_close", "both sides close at once",
        &["client clean closed_by_both TIME_WAIT"], "ActiveOpens 1, TW 1")
        .with(&[("client", CLIENT, "closed_first.both", 1)]),
    scenario("no_fin_from_the_peer", "the host closes; the peer acknowledges its FIN, and never closes",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TWKilled 1")
        .with(&[("client", CLIENT, "time_wait.now", 0)]),
    scenario("left_in_fin_wait2", "the same before the timeout",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TW 1")
        .with(&[("client", CLIENT, "time_wait.now", 0),
                ("client", CLIENT, "time_wait.fin_wait2_orphans", 1)]),
    scenario("long_fin_timeout", "the same, with a tcp_fin_timeout of more than a minute",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TWKilled 1"),
    scenario("time_wait_overflow", "the host closes, and its TIME_WAIT table is full",
        &["client clean closed_by_us TIME_WAIT?"], "ActiveOpens 1, TCPTimeWaitOverflow 1")
        .with(&[("client", CLIENT, "time_wait.overflowed", 1),
                ("client", CLIENT, "time_wait.entered", 0)]),
    scenario("negative_linger2", "the host closes, and does not wait for the peer's FIN (TCP_LINGER2)",
        &["client clean reset_by_us_linger2"], "ActiveOpens 1, OutRsts 1, TCPAbortOnData 1"),
    scenario("negative_linger2_half_closed", "the same for a half-closed connection",
        &["client clean reset_by_us_linger2"], "ActiveOpens 1, OutRsts 1, TCPAbortOnLinger 1"),
];

#[rustfmt::skip]
const RESETS: &[Scenario] = &[
    scenario("data_with_ack_of_fin", "the host has closed; the ACK of its FIN carries data",
        &["client clean reset_by_us_data_after_close"],
        "ActiveOpens 1, OutRsts 1, TCPAbortOnData 1"),
    scenario("data_after_close", "the host has closed; data arrives before the ACK of its FIN",
        &["client clean reset_by_us_data_after_close"],
        "ActiveOpens 1, OutRsts 1, TCPAbortOnData 1"),
    scenario("data_in_fin_wait2", "the host has closed; data arrives in FIN_WAIT2",
        &["client clean reset_by_us_data_after_close"],
        "ActiveOpens 1, OutRsts 1, TCPAbortOnData 1"),
    scenario("data_in_closing", "both close at once; data arrives in CLOSING",
        &["client clean reset_by_us_data_after_close"],
        "ActiveOpens 1, OutRsts 1, TCPAbortOnData 1"),
    scenario("data_for_a_timewait_socket", "the host has closed; data arrives for a timewait socket in FIN_WAIT2",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, OutRsts 1, TW 1"),
    scenario("rst_in_established", "RST in ESTABLISHED",
        &["client clean reset_by_peer"], "ActiveOpens 1, EstabResets 1"),
    scenario("rst_in_close_wait", "RST in CLOSE_WAIT",
        &["client clean reset_by_peer"], "ActiveOpens 1, EstabResets 1"),
    scenario("rst_in_fin_wait1", "RST in FIN_WAIT1",
        &["client clean reset_by_peer_closing"], "ActiveOpens 1"),
    scenario("rst_in_fin_wait2", "RST in FIN_WAIT2",
        &["client clean reset_by_peer_closing"], "ActiveOpens 1"),
    scenario("rst_in_closing", "RST in CLOSING",
        &["client clean reset_by_peer_closing"], "ActiveOpens 1"),
    scenario("rst_in_last_ack", "RST in LAST_ACK",
        &["client clean reset_by_peer_closing"], "ActiveOpens 1"),
    scenario("rst_in_time_wait", "RST in TIME_WAIT, which ends it",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TW 1")
        .with(&[("client", CLIENT, "time_wait.now", 0)]),
    scenario("rst_in_window", "RST within the window but not at its start: a challenge ACK, the connection stays open",
        &["client clean open established"], "ActiveOpens 1, TCPChallengeACK 1"),
    scenario("unread_data", "the application closes with unread data",
        &["client clean reset_by_us_unread_data"],
        "ActiveOpens 1, EstabResets 1, OutRsts 1, TCPAbortOnClose 1"),
    scenario("unread_data_in_close_wait", "the same after the peer has closed",
        &["client clean reset_by_us_unread_data"],
        "ActiveOpens 1, EstabResets 1, OutRsts 1, TCPAbortOnClose 1"),
    scenario("linger0", "the application closes with SO_LINGER 0",
        &["client clean reset_by_us_linger0"],
        "ActiveOpens 1, EstabResets 1, OutRsts 1, TCPAbortOnData 1"),
    scenario("linger0_with_unread_data", "the same with unread data, which takes precedence",
        &["client clean reset_by_us_unread_data"],
        "ActiveOpens 1, EstabResets 1, OutRsts 1, TCPAbortOnClose 1"),
    scenario("unread_data_half_closed", "the same after the application has shut down its side",
        &["client clean reset_by_us_unread_data"],
        "ActiveOpens 1, OutRsts 1, TCPAbortOnClose 1"),
    scenario("linger0_half_closed", "the same with SO_LINGER 0 instead",
        &["client clean reset_by_us_linger0"], "ActiveOpens 1, OutRsts 1, TCPAbortOnData 1"),
    scenario("disconnected", "the application disconnects (connect to AF_UNSPEC)",
        &["client clean reset_by_us_disconnect"], "ActiveOpens 1, EstabResets 1, OutRsts 1"),
    scenario("listener_closed", "the listener closes with two connections that were not accepted",
        &["server clean reset_by_us_listener_closed", "server clean reset_by_us_listener_closed"],
        "PassiveOpens 2, EstabResets 2, OutRsts 2"),
];

#[rustfmt::skip]
const TIMERS: &[Scenario] = &[
    scenario("stalled", "sent data is not acknowledged, and is retransmitted",
        &["client clean open established"], "ActiveOpens 1")
        .with(&[("client", CLIENT, "stalled", 1)]),
    scenario("retransmission_timeout", "sent data is never acknowledged",
        &["client clean timeout_retransmission"], "ActiveOpens 1, EstabResets 1, TCPAbortOnTimeout 1"),
    scenario("retransmission_timeout_soft_error", "the same with an ICMP host unreachable on the way",
        &["client clean timeout_retransmission"], "ActiveOpens 1, EstabResets 1, TCPAbortOnTimeout 1"),
    scenario("user_timeout", "sent data is not acknowledged in time (TCP_USER_TIMEOUT)",
        &["client clean timeout_user"], "ActiveOpens 1, EstabResets 1, TCPAbortOnTimeout 1"),
    scenario("zero_window", "the peer's window is zero, and it does not answer probes",
        &["client clean timeout_zero_window"], "ActiveOpens 1, EstabResets 1, TCPAbortOnTimeout 1"),
    scenario("keepalive", "keepalive probes are not answered",
        &["client clean timeout_keepalive"],
        "ActiveOpens 1, EstabResets 1, OutRsts 1, TCPKeepAlive 1, TCPAbortOnTimeout 1"),
    scenario("keepalive_user_timeout", "the same with TCP_USER_TIMEOUT",
        &["client clean timeout_user"],
        "ActiveOpens 1, EstabResets 1, OutRsts 1, TCPKeepAlive 1, TCPAbortOnTimeout 1"),
    scenario("orphan_in_fin_wait1", "the host closes, and its FIN is never acknowledged",
        &["client clean timeout_orphan"], "ActiveOpens 1, TCPAbortOnTimeout 1"),
    scenario("orphan_in_closing", "the same while the peer closes too",
        &["client clean timeout_orphan"], "ActiveOpens 1, TCPAbortOnTimeout 1"),
    scenario("orphan_in_last_ack", "the same after the peer has closed",
        &["client clean timeout_orphan"], "ActiveOpens 1, TCPAbortOnTimeout 1"),
];

#[rustfmt::skip]
const OTHERS: &[Scenario] = &[
    scenario("destroyed", "ss -K destroys a connection",
        &["client clean destroyed_by_admin"], "ActiveOpens 1, EstabResets 1, OutRsts 1"),
    scenario("listener_destroyed", "ss -K destroys a listener with a connection that was not accepted",
        &["server clean reset_by_us_listener_closed"], "PassiveOpens 1, EstabResets 1, OutRsts 1"),
    scenario("time_wait_destroyed", "ss -K destroys a TIME_WAIT",
        &["client clean closed_by_us TIME_WAIT"], "ActiveOpens 1, TW 1")
        .with(&[("client", CLIENT, "time_wait.now", 0)]),
    scenario("repair_close", "a checkpoint closes the connection (TCP_REPAIR)",
        &["client clean destroyed_by_admin"], "ActiveOpens 1, EstabResets 1"),
    scenario("icmp_in_established", "ICMP host unreachable in ESTABLISHED, the connection stays open",
        &["client clean open established"], "ActiveOpens 1"),
    scenario("process_killed", "the process of the client is killed",
        &["client clean closed_by_us TIME_WAIT", "server clean closed_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
];

#[rustfmt::skip]
const IDENTITY: &[Scenario] = &[
    scenario("closed_port", "a SYN to a port without a listener", &[], "OutRsts 1")
        .with(&[("server", OTHER_ROW, "resets.count", 1),
                ("server", OTHER_ROW, "resets.reasons.no_socket", 1)]),
    scenario("old_ack_to_a_listener", "an ACK without a connection to a listener's port",
        &[], "OutRsts 1")
        .with(&[("server", SERVER, "resets.count", 1)]),
    scenario("new_syn_in_time_wait", "a new SYN from the same port ends a server's TIME_WAIT",
        &["server clean closed_by_us TIME_WAIT", "server clean open established"],
        "PassiveOpens 2, TW 1"),
    scenario("time_wait_reused", "connect() takes the port of a TIME_WAIT (tcp_tw_reuse)",
        &["client clean closed_by_us TIME_WAIT", "client clean open established",
          "server clean closed_by_peer", "server clean open established"],
        "ActiveOpens 2, PassiveOpens 2, TW 1, TWRecycled 1"),
    scenario("reconnected_after_refusal", "a socket that was refused connects again",
        &["client - connect_refused_rst", "client clean open established"],
        "ActiveOpens 2, AttemptFails 1"),
    scenario("reconnected_after_disconnect", "a socket that was disconnected connects again",
        &["client clean open established", "client clean reset_by_us_disconnect"],
        "ActiveOpens 2, EstabResets 1, OutRsts 1"),
    scenario("equal_tuples", "two namespaces have the same connection at once",
        &["client clean closed_by_us TIME_WAIT", "client clean closed_by_us TIME_WAIT",
          "server clean closed_by_peer", "server clean closed_by_peer"],
        "ActiveOpens 2, PassiveOpens 2, TW 2"),
    scenario("between_namespaces", "a client in one namespace, the server in another",
        &["client clean closed_by_us TIME_WAIT", "server clean closed_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
    scenario("fork", "a child inherits the connection, which closes when both processes have closed it",
        &["client clean closed_by_us TIME_WAIT", "server clean closed_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
];

#[rustfmt::skip]
const MPTCP: &[Scenario] = &[
    scenario("mptcp_closed_by_server", "the server closes an MPTCP connection",
        &["client clean closed_by_peer", "server clean closed_by_us TIME_WAIT"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
    scenario("mptcp_unread_data", "the server closes with unread data",
        &["client clean reset_by_peer", "server clean reset_by_us_unread_data"],
        "ActiveOpens 1, PassiveOpens 1, EstabResets 2, OutRsts 1"),
    scenario("mptcp_linger0", "the client closes with SO_LINGER 0",
        &["client clean reset_by_us_linger0", "server clean reset_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, EstabResets 2, OutRsts 1"),
    scenario("mptcp_disconnected", "the client disconnects (connect to AF_UNSPEC)",
        &["client clean reset_by_us_disconnect", "server clean reset_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, EstabResets 2, OutRsts 1"),
    scenario("mptcp_listener_closed", "the listener closes with a connection that was not accepted",
        &["client clean reset_by_peer", "server clean reset_by_us_listener_closed"],
        "ActiveOpens 1, PassiveOpens 1, EstabResets 2, OutRsts 2"),
    scenario("mptcp_client_without", "a client without MPTCP; the client closes",
        &["client clean closed_by_us TIME_WAIT", "server clean closed_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
    scenario("mptcp_server_without", "a server without MPTCP; the server closes",
        &["client clean closed_by_peer", "server clean closed_by_us TIME_WAIT"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
    scenario("mptcp_process_killed", "the process of the client is killed",
        &["client clean closed_by_us TIME_WAIT", "server clean closed_by_peer"],
        "ActiveOpens 1, PassiveOpens 1, TW 1"),
    scenario("mptcp_join", "a second subflow joins the connection; the client closes",
        &["client clean closed_by_us TIME_WAIT", "client clean closed_by_us TIME_WAIT",
          "server clean closed_by_peer", "server unmeasured(mptcp_join) closed_by_peer"],
        "ActiveOpens 2, PassiveOpens 2, TW 2"),
    scenario("mptcp_subflow_removed", "the second subflow is removed (ip mptcp endpoint delete), the connection stays open",
        &["client clean closed_by_us TIME_WAIT", "client clean open established",
          "server clean open established", "server unmeasured(mptcp_join) closed_by_peer"],
        "ActiveOpens 2, PassiveOpens 2, TW 1"),
    scenario("mptcp_join_refused", "the second subflow is refused, the connection stays open",
        &["client - connect_refused_rst", "client clean open established",
          "server clean open established"],
        "ActiveOpens 2, PassiveOpens 1, AttemptFails 1"),
    scenario("mptcp_older", "MPTCP with one subflow, older than the trace; its client closes",
        &["client - closed_by_us TIME_WAIT", "server - closed_by_peer"], "TW 1"),
];

#[rustfmt::skip]
const FLOODS: &[Scenario] = &[
    scenario("syn_flood", "200 SYNs whose SYN-ACKs are not answered, a backlog of 64, no cookies",
        &[], "ListenDrops 135, TCPReqQFullDrop 135")
        .with(&[("server", SERVER, "half_open", 65), ("server", SERVER, "listener.drops", 135)])
        .syn_queue([65, 0, 0, 0]),
    scenario("syn_flood_with_cookies", "the same with cookies, then a client that answers",
        &["server unmeasured(syn_cookie) open established"],
        "PassiveOpens 1, TCPReqQFullDoCookies 136, SyncookiesSent 136, SyncookiesRecv 1")
        .with(&[("server", SERVER, "half_open", 65), ("server", SERVER, "listener.drops", 0)])
        .syn_queue([65, 0, 0, 0]),
    scenario("accept_queue_flood", "15 SYNs while five connections fill an accept queue with a backlog of four",
        &["server clean open established", "server clean open established",
          "server clean open established", "server clean open established",
          "server clean open established"],
        "PassiveOpens 5, ListenOverflows 15, ListenDrops 15")
        .with(&[("server", SERVER, "accept_queue.now", 5), ("server", SERVER, "listener.drops", 15)])
        .syn_queue([5, 5, 0, 0]),
];

#[rustfmt::skip]
const OLDER: &[Scenario] = &[
    scenario("older_server", "a connection to a port where the host listens; the peer closes",
        &["server - closed_by_peer"], ""),
    scenario("older_client", "a connection whose port connect() chose; the host closes",
        &["client - closed_by_us TIME_WAIT"], "TW 1"),
    scenario("older_bound_client", "a client that called bind(): no listener has its port",
        &["unknown - open established"], ""),
    scenario("older_without_listener", "a server's connection whose listener has closed; the peer closes",
        &["unknown - open close_wait"], ""),
    scenario("older_close_wait", "a server's connection in CLOSE_WAIT",
        &["server - open close_wait"], ""),
    scenario("older_time_wait", "a client's TIME_WAIT", &[], "")
        .with(&[("client", SERVER, "time_wait.now", 1)]),
];
