//! Situations that `diagnose` is tried on. The kernel tests play them all at once; `docs/findings.md`
//! lists them with what `diagnose` said.

/// Something that happens on a port.
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    /// What happens, in words.
    pub(crate) what: &'static str,
    /// The finding that there has to be.
    pub(crate) finding: Expected,
}

/// A finding.
pub(crate) struct Expected {
    pub(crate) id: &'static str,
    pub(crate) role: &'static str,
    pub(crate) severity: &'static str,
    /// Parts of what it says.
    pub(crate) says: &'static [&'static str],
}

/// A healthy load, about which there must be no finding.
pub(crate) struct Healthy {
    pub(crate) name: &'static str,
    /// What happens, in words.
    pub(crate) what: &'static str,
}

macro_rules! situations {
    ($($role:ident { $($name:ident, $what:literal => $severity:ident $id:ident, [$($says:literal),*];)* })*) => {
        /// All pathologies, by the side that the finding is about. Each occurs three times, unless it
        /// says otherwise: as rarely as can be a pattern.
        pub(crate) const SITUATIONS: &[Situation] = &[$($(Situation {
            name: stringify!($name),
            what: $what,
            finding: Expected {
                id: stringify!($id),
                role: stringify!($role),
                severity: stringify!($severity),
                says: &[$($says),*],
            },
        },)*)*];
    };
}

situations! {
    client {
        refused, "nobody listens on the port of another host"
            => critical connect_refused, ["3 of 3 attempts were refused (100 %): all by a reset"];
        rejected, "a firewall rejects SYNs with ICMP"
            => critical connect_refused, ["all by ICMP"];
        unanswered, "a firewall drops SYNs until connect() fails"
            => critical connect_timeout, ["3 of 3 attempts got no answer", "tcp_syn_retries", "tcpdump"];
        given_up, "a firewall drops SYNs, and the application closes the sockets after 1.3 s"
            => critical connect_abandoned, ["3 of 3 attempts", "--reason connect_abandoned"];
        given_up_early, "a firewall drops SYNs, and the application closes the sockets after 0.3 s"
            => critical connect_abandoned, ["3 of 3 attempts", "3 of them before the SYN was sent again"];
        waits, "a firewall drops SYNs, and connect() still waits, as it does for two minutes by default"
            => critical connect_timeout, ["3 of 3 attempts got no answer (100 %); 3 of them still wait", "--state syn_sent"];
        host_down, "a host does not answer ARP"
            => critical ended_abnormally, ["connect_unreachable_host", "neighbour"];
        spread, "two attempts to each of five addresses are refused"
            => critical connect_refused, ["10 of 10 attempts were refused"];
        syn_lost, "each first SYN is lost"
            => warning handshakes_retransmit, ["3 of 3 handshakes (100 %)", "tcp_max_syn_backlog"];
        path_dies, "the path of connections in use dies (TCP_USER_TIMEOUT)"
            => critical connections_time_out, ["3 of 3 connections", "timeout_user 3"];
        black_hole, "the path drops large segments, and ICMP is lost"
            => critical connections_stalled, ["3 of 3 open connections", "3 of 3 handshakes were clean", "MTU"];
        lossy, "the path loses one data segment in sixteen"
            => warning path_loses, ["segments were retransmitted", "ip -s link"];
        lossy_open, "the path of connections that stay open loses one data segment in sixteen"
            => warning path_loses, ["by 3 of 3 connections that are open", "--open"];
        forgotten, "a firewall has forgotten connections that were idle"
            => warning idle_dropped, ["3 of 3 connections", "a timer", "tcp_keepalive_time"];
        used_once_more, "clients send requests on connections that the server has closed"
            => warning keepalive_race, ["3 of 3 connections", "keep-alive timeout must be shorter"];
        reset_in_use, "another host resets connections in use"
            => warning reset_by_peer, ["3 of 3 connections were reset by the peer"];
        client_does_not_read, "clients close without reading the answer"
            => warning unread_data, ["3 of 3 connections were closed with unread data"];
        answer_too_late, "an answer comes after the client has closed"
            => warning data_after_close, ["3 of 3 connections got data after this side had closed"];
        client_leaks, "clients do not close connections that the server closed before the trace"
            => warning close_wait_leak, ["3 connections are in CLOSE_WAIT", "must close() its socket"];
        ports_run_out, "90 of 100 ephemeral ports are in TIME_WAIT"
            => critical ports_run_out, ["90 of 100 ports toward 10.", "mostly by TIME_WAIT", "ip_local_port_range"];
        table_is_full, "the TIME_WAIT table is full"
            => warning time_wait_overflow, ["closed without TIME_WAIT", "tcp_max_tw_buckets"];
    }
    server {
        overflows, "the accept queue of a listener overflows"
            => critical accept_queue_overflow, ["the limit is 4", "accept() is not called"];
        hangs, "a server does not call accept()"
            => critical nobody_accepts, ["3 connections wait for accept()", "strace"];
        hangs_since, "a server has not called accept() since before the trace, and its clients have closed"
            => critical nobody_accepts, ["3 connections wait for accept()"];
        accepts_late, "seven connections wait for accept() at once; the limit is eight"
            => warning accept_queue_fills, ["up to 6 others that waited for accept(); the limit is 8"];
        half_open, "SYN-ACKs are lost on their way to the clients"
            => critical half_open_unanswered, ["3 handshakes were half-open", "asymmetric route"];
        flooded, "a SYN flood, without SYN cookies"
            => critical syn_flood, ["SYNs were dropped because the SYN queue was full", "tcp_syncookies"];
        restarts, "a server restarts and has no listener meanwhile"
            => warning listener_gone, ["3 clients were refused, 3 connections that were not accepted yet"];
        closes_partly, "one of two listeners of a SO_REUSEPORT group closes"
            => warning listener_closed, ["1 listener is left", "tcp_migrate_req"];
        not_there, "clients of another host connect to a port without a listener"
            => warning nobody_listens, ["nothing listens on the port", "start the service"];
        elsewhere, "the listener has another address than the one that clients connect to"
            => warning nobody_listens, ["something listens on the port", "compare the address"];
        checked, "clients connect and reset, as load balancers check a server"
            => notice health_checks, ["3 of 3 connections", "lasted less than a second"];
        impatient, "clients close before the answer"
            => notice peer_left, ["3 of 3 connections that the peer reset had been closed by it before"];
        server_leaks, "a server does not close connections that clients closed before the trace"
            => warning close_wait_leak, ["3 connections are in CLOSE_WAIT", "must close() its socket"];
        clients_vanish, "clients do not answer keepalives any more"
            => warning connections_time_out, ["timeout_keepalive 3"];
        server_does_not_read, "a server closes without reading; its clients are on this host"
            => warning unread_data, ["3 of 3 connections", "clients of 10.", "were reset by the peer"];
        nobody_here, "clients on this host connect to a port without a listener"
            => critical nobody_listens, ["nothing listens on the port", "clients of 10.", "were refused"];
        overflows_here, "the accept queue overflows, and clients on this host give up"
            => critical accept_queue_overflow, ["the limit is 2", "clients of 10.", "given up by the application"];
        one_address, "clients on this host try ::1 and 127.0.0.1, and the service listens on 127.0.0.1 only"
            => warning nobody_listens, ["nothing listens on [::1]:", "listeners are on 127.0.0.1:", "the same clients are accepted"];
        resets_here, "clients on this host close with SO_LINGER 0"
            => notice reset_by_peer, ["3 of 3 connections were reset", "at the other end, on this host", "3 connections with SO_LINGER 0"];
        restarts_here, "a server restarts, and its clients are on this host"
            => critical listener_gone, ["3 clients were refused", "clients of 10."];
    }
}

macro_rules! healthy {
    ($($name:ident, $what:literal;)*) => {
        /// All healthy loads.
        pub(crate) const HEALTHY: &[Healthy] =
            &[$(Healthy { name: stringify!($name), what: $what },)*];
    };
}

healthy! {
    scan, "a scan of 100 closed ports";
    load_test, "200 short connections, which clients close";
    server_closes, "short connections, which the server closes";
    half_closes, "clients that shut down their side, then read the answer";
    kept_alive, "connections with one request after another";
    idle, "connections that stay idle, and a listener without any";
    bulk, "a transfer of 4 MB";
    rolling_restart, "a server whose successor listens first (SO_REUSEPORT)";
    handed_over, "a listener that another process goes on with";
    early_client, "a client that is refused once because it is faster than its server";
    cancelled, "attempts that are canceled at once, as by clients that try several addresses";
    closes_later, "a server that closes a second after its clients";
}
