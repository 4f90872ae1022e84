//! The columns of a port's row. A column that is added here appears in JSON and CSV, in tables by its
//! visibility, and in `explain` and the docs; see CONTRIBUTING.md for the screen and metrics.

use synfin_common::{port_count::SynQueueEvent, reset::ResetReason, state::TcpState};

use crate::{
    findings::rules::all_rules,
    output::{
        column::{
            Column,
            Reports::{Several, Single},
            Value,
            Visibility::{Data, Grouped, In, Json, Table, Wide},
            Width::{Left, Right},
            columns,
        },
        port_row::PortRow,
    },
    tcp::{
        close_reason::{Class, CloseReason, Phase},
        coverage::{Accuracy, OptionalHook},
        group_by::By,
        handshake::Unmeasured,
        labels::Enumeration,
        role::Role,
        state::OPEN_STATES,
    },
    tracker::{ClosedFirst, Common, LatencyHistogram},
};

/// The value that all parts of a row share, or the number of different ones.
fn common<T>(common: &Common<T>, one: impl FnOnce(&T) -> Value) -> Value {
    match common {
        Common::Unknown => Value::Unknown,
        Common::One(value) => one(value),
        Common::Several(values) => Value::Multiple(*values),
    }
}

/// A part in percent of the whole; unknown if that is nothing.
fn share(part: u64, whole: u64) -> Value {
    if whole == 0 { Value::Unknown } else { Value::Float(100.0 * part as f64 / whole as f64) }
}

/// As [`common`], with the number as text, for columns whose values are text.
fn common_text<T>(values: &Common<T>, one: impl FnOnce(&T) -> Value) -> Value {
    match values {
        Common::Several(values) => Value::Text(format!("×{values}")),
        one_or_none => common(one_or_none, one),
    }
}

fn quantile(durations: &LatencyHistogram, quantile: f64) -> Value {
    Value::known(durations.quantile(quantile), Value::Micros)
}

/// The states in which a connection has a socket: all open states but TIME_WAIT.
pub(crate) fn living_states() -> impl Iterator<Item = TcpState> {
    OPEN_STATES.into_iter().filter(|&state| state != TcpState::TimeWait)
}

const RESET_REASONS: Enumeration = Enumeration {
    name: "kernel reset reason",
    all: || ResetReason::ALL.iter().map(|reason| reason.name()).collect(),
};

/// Findings and close reasons. Some share their id.
const WHY: Enumeration = Enumeration {
    name: "finding or reason",
    all: || {
        let mut ids: Vec<_> = all_rules().map(|rule| rule.id).collect();
        let reasons = CloseReason::ALL.iter().filter(|reason| reason.class() == Class::Abnormal);
        ids.extend(
            reasons.map(|reason| reason.id()).filter(|id| !all_rules().any(|it| it.id == *id)),
        );
        ids
    },
};

const SOCKET_STATES: Enumeration =
    Enumeration { name: "state", all: || living_states().map(TcpState::name).collect() };

/// [`columns!`] with four columns for the oldest connection in each lingering state, between others.
macro_rules! with_oldest {
    ({ $($before:tt)* } { $($state:ident $key:literal $name:literal $title:literal $cause:literal;)* } { $($after:tt)* }) => {
        columns! {
            $($before)*
            $(
                (concat!("oldest.", $key, ".age_us")) $title Micros or null, Wide(Right(7)),
                    concat!("How long the oldest connection in ", $name, " has been in that state: ", $cause, ". Shown with ≥ if the connection was already in that state when it was found."),
                    |p| p.age_of_oldest(TcpState::$state);
                (concat!("oldest.", $key, ".at_least")) "" Bool or null, Data,
                    "Whether the connection was already in that state when it was found, so that the age is a lower bound.",
                    |p| p.may_be_older(TcpState::$state);
                (concat!("oldest.", $key, ".owner")) "" Text or null, Data, "Name of the process that owns the connection.",
                    |p| p.owner_of_oldest(TcpState::$state);
                (concat!("oldest.", $key, ".pid")) "" Number or null, Data, "Id of the process that owns the connection.",
                    |p| p.pid_of_oldest(TcpState::$state);
            )*
            $($after)*
        }
    };
}

/// All columns of a row, the most important first.
pub const COLUMNS: &[Column<PortRow>] = with_oldest! { {
    "role" "ROLE" Word(Role::NAMES), Table(Left(6)), "The side that this host is: server (accepted by a listener) or client (begun by connect()). Decided by the first transition. A connection older than the trace, or restored by a checkpoint, is a client if connect() chose its port, else a server if a listener in its namespace has its port and address, else unknown (? in tables): never guessed from port numbers.",
        |p| Value::role(p.row.identity.role);
    "port" "PORT" Number or null, Table(Right(5)), "The service port: the local port of a server, the remote port of a client. Null for connections of unknown role, which share a row per namespace, and for the row of all ports without a row of their own; ×N if the row covers N ports.",
        |p| common(&p.row.identity.port, |&port| Value::Int(port.into()));
    "remote" "REMOTE" Address or null, Grouped(By::Remote, Left(15)), "The address that clients connect to; null for servers, and if destinations are not distinguished.",
        |p| common(&p.row.identity.remote, |ip| Value::Text(ip.to_string()));
    "netns" "NETNS" Number or null, Grouped(By::Netns, Right(10)), "Inode number of the network namespace; ×N if the row covers N.",
        |p| common(&p.row.identity.netns, |&netns| Value::Int(netns.into()));
    "netns_name" "NAMESPACE" Text or null, Grouped(By::Netns, Left(12)), "Name of the network namespace, if it has one (`ip netns`; `host` is the namespace of process 1).",
        |p| common_text(&p.row.identity.netns_name, |name| Value::Text(name.to_string()));
    "owner" "OWNER" Text or null, Table(Left(12)), "The process that called connect() or holds the listener; ×N if there are N with different names.",
        |p| common_text(&p.row.identity.owner, |name| Value::Text(name.to_string()));
    "container" "CONTAINER" Text or null, Wide(Left(12)), "The container in which the owner runs; ×N if there are N.",
        |p| common_text(&p.row.identity.container, |id| Value::Id(id.to_string()));
    "pod" "POD" Text or null, Wide(Left(12)), "The container's Kubernetes pod: namespace/name, or its uid if the name is not known on the node.",
        |p| common_text(&p.row.identity.pod, |pod| Value::Text(pod.to_string()));
    "new" "NEW" Count("connections"), In(Single, Right(4)), "New connections: attempts of a client, established connections of a server.",
        |p| Value::Int(p.row.new_connections());
    "new_per_s" "NEW/s" Float("connections per second") or null, Table(Right(6)), "The same per second. Null, like bad_per_s, for a single look (--once) and for an interval below 0.1 s.",
        |p| p.rate(p.row.new_connections());
    "bad" "BAD" Count("connections"), In(Single, Right(4)), "Connections that failed or ended abnormally.",
        |p| Value::Int(p.bad());
    "bad_per_s" "BAD/s" Float("connections per second") or null, In(Several, Right(6)), "The same per second.",
        |p| p.rate(p.bad());
    "bad_pct" "BAD%" Float("percent") or null, Table(Right(4)), "Share of these among all connections that ended; null if none has.",
        |p| share(p.bad(), p.row.stats.counters.failed() + p.row.stats.counters.closed());
    "handshake.clean.p99_us" "HS99" Micros or null, Table(Right(7)), "99th percentile of handshakes without retransmission: SYN to SYN-ACK on a client, SYN-ACK to ACK on a server. Measured by the kernel; at most 1.6 % too high.",
        |p| quantile(&p.row.stats.counters.clean, 0.99);
    "handshake.retransmitted_pct" "RTX%" Float("percent") or null, Table(Right(4)), "Share of the established connections whose SYN or SYN-ACK was retransmitted.",
        |p| share(p.row.stats.counters.retransmitted.count(), p.row.stats.counters.established);
    "open" "OPEN" Count("connections"), Table(Right(5)), "Connections that are established or closing at the end of the interval.",
        |p| Value::Int(p.row.stats.gauges.open);
    "time_wait.now" "TW" Count("sockets"), Table(Right(5)), "Sockets in TIME_WAIT at the end of the interval: from the last scan of all sockets, updated by entries and age, and by exits where the kernel reports them (host.knowledge.time_wait).",
        |p| Value::Int(p.row.stats.time_wait_now);
    "why" "WHY" Word(WHY) or null, Table(Left(12)), "The most urgent finding in the row (`synfin diagnose`), or else the most frequent reason among connections that failed or ended abnormally.",
        |p| Value::known(p.why(), Value::Word);

    "attempts" "TRIED" Count("connections") or null, Wide(Right(6)), "Connection attempts: by connect() of a client, or by SYNs that a server answered. The latter are known only where the kernel reports SYN queues (host.knowledge.syn_queue).",
        |p| match p.row.identity.role {
            Role::Client => Value::Int(p.row.stats.counters.attempts),
            Role::Server => p.attempts_at_server(),
            Role::Unknown => Value::Unknown,
        };
    "pending" "PENDING" Count("connections"), Wide(Right(7)), "Connections in their handshake at the end of the interval.",
        |p| Value::Int(p.row.stats.gauges.pending);
    "pending_start" "" Count("connections"), Data, "Connections in their handshake at the start of the interval.",
        |p| Value::Int(p.row.stats.gauges_at_start.pending);
    "failed" "FAILED" Count("connections"), Wide(Right(6)), "Connections that ended before they were established.",
        |p| Value::Int(p.row.stats.counters.failed());
    "failures" "" Counts(CloseReason::FAILURES), Data, "Connections that ended before they were established, by reason.",
        |p| p.ended(Phase::Handshake);
    "established" "ESTAB" Count("connections"), Wide(Right(6)), "Handshakes that completed in the interval.",
        |p| Value::Int(p.row.stats.counters.established);
    "adopted" "ADOPTED" Count("connections"), Wide(Right(7)), "Connections that were already established when they were found: older than the trace, or the record of their beginning was lost.",
        |p| Value::Int(p.row.stats.counters.adopted);
    "open_start" "" Count("connections"), Data, "Open connections at the start of the interval.",
        |p| Value::Int(p.row.stats.gauges_at_start.open);
    "preexisting" "OLD" Count("connections"), Wide(Right(5)), "Those of `open` that are older than the trace, or were restored by a checkpoint (TCP_REPAIR): they have no handshake, and their ages are lower bounds.",
        |p| Value::Int(p.row.stats.gauges.preexisting);
    "states" "" Counts(SOCKET_STATES), Data, "Open connections by state at the end of the interval.",
        |p| Value::Counts(living_states().map(|state| (state.name(), p.row.stats.gauges.state(state))).collect());
    "closed" "CLOSED" Count("connections"), Wide(Right(6)), "Established connections that ended.",
        |p| Value::Int(p.row.stats.counters.closed());
    "closes" "" Counts(CloseReason::CLOSES), Data, "Established connections that ended, by reason.",
        |p| p.ended(Phase::Established);
    "abnormal" "ABNORMAL" Count("connections"), Wide(Right(8)), "Established connections that ended abnormally.",
        |p| Value::Int(p.row.stats.counters.sum(|reason| {
            reason.class() == Class::Abnormal && reason.phase() == Phase::Established
        }));

    "handshake.clean.count" "" Count("handshakes"), Data, "Handshakes without retransmission.",
        |p| Value::Int(p.row.stats.counters.clean.count());
    "handshake.clean.p50_us" "HS50" Micros or null, Wide(Right(7)), "Median of handshakes without retransmission.",
        |p| quantile(&p.row.stats.counters.clean, 0.5);
    "handshake.clean.p90_us" "HS90" Micros or null, Wide(Right(7)), "90th percentile of handshakes without retransmission.",
        |p| quantile(&p.row.stats.counters.clean, 0.9);
    "handshake.clean.max_us" "HSMAX" Micros or null, Wide(Right(7)), "The longest handshake without retransmission.",
        |p| Value::known(p.row.stats.counters.clean.max(), Value::Micros);
    "handshake.clean.buckets" "" Buckets, Json, "Handshakes without retransmission by duration: pairs of inclusive upper bound and count. Can be added over intervals and hosts.",
        |p| Value::Buckets(p.row.stats.counters.clean.buckets());
    "handshake.retransmitted.count" "" Count("handshakes"), Data, "Handshakes whose SYN or SYN-ACK was retransmitted.",
        |p| Value::Int(p.row.stats.counters.retransmitted.count());
    "handshake.retransmitted.p50_us" "" Micros or null, Data, "Median of the total duration of retransmitted handshakes.",
        |p| quantile(&p.row.stats.counters.retransmitted, 0.5);
    "handshake.retransmitted.p90_us" "" Micros or null, Data, "90th percentile of the total duration of retransmitted handshakes.",
        |p| quantile(&p.row.stats.counters.retransmitted, 0.9);
    "handshake.retransmitted.p99_us" "RTX99" Micros or null, Wide(Right(7)), "99th percentile of the total duration of retransmitted handshakes.",
        |p| quantile(&p.row.stats.counters.retransmitted, 0.99);
    "handshake.retransmitted.max_us" "" Micros or null, Data, "The longest retransmitted handshake.",
        |p| Value::known(p.row.stats.counters.retransmitted.max(), Value::Micros);
    "handshake.retransmitted.buckets" "" Buckets, Json, "Retransmitted handshakes by duration: pairs of inclusive upper bound and count. Can be added over intervals and hosts.",
        |p| Value::Buckets(p.row.stats.counters.retransmitted.buckets());
    "handshake.unmeasured.count" "UNMEAS" Count("handshakes"), Wide(Right(6)), "Handshakes whose duration could not be measured.",
        |p| Value::Int(p.row.stats.counters.unmeasured_total());
    "handshake.unmeasured.causes" "" Counts(Unmeasured::NAMES), Data, "Handshakes whose duration could not be measured, by cause.",
        |p| Value::Counts(Unmeasured::ALL.iter().map(|&cause| (cause.name(), p.row.stats.counters.unmeasured(cause))).collect());

    "time_wait.entered" "TWIN" Count("sockets"), Wide(Right(6)), "Entries into TIME_WAIT, including those that first wait in FIN_WAIT2 for the peer's FIN.",
        |p| Value::Int(p.row.stats.counters.time_wait_entered);
    "time_wait.peak" "TWPEAK" Count("sockets"), Wide(Right(6)), "Largest number of sockets in TIME_WAIT during the interval, between scans by entries and age; for several rows together the sum of their peaks.",
        |p| Value::Int(p.row.stats.time_wait_peak);
    "time_wait.overflowed" "TWOVER" Count("sockets"), Wide(Right(6)), "Entries into TIME_WAIT that the kernel's full table prevented (net.ipv4.tcp_max_tw_buckets). The kernel counts them per namespace; they are divided among the ports whose connections ended while the table was full.",
        |p| Value::Int(p.row.stats.counters.time_wait_overflowed);
    "time_wait.fin_wait2_orphans" "FW2" Count("sockets"), Wide(Right(5)), "Orphans in FIN_WAIT2, which the kernel keeps in its TIME_WAIT table, at the last scan: the peer has not closed yet.",
        |p| Value::Int(p.row.stats.scanned.fin_wait2_orphans);

"closed_first" "" Counts(ClosedFirst::NAMES), Data, "Connections that ended after a FIN, by the side that sent the first one: us, the peer, or both at once.",
        |p| Value::Counts(ClosedFirst::ALL.map(|side| (side.name(), p.row.stats.counters.closed_first(side))).into());

    "lifetime.p50_us" "LIFE50" Micros or null, Wide(Right(7)), "Median lifetime of ended connections whose beginning was observed.",
        |p| quantile(&p.row.stats.counters.lifetime, 0.5);
    "lifetime.p99_us" "LIFE99" Micros or null, Wide(Right(7)), "99th percentile of the lifetime of ended connections whose beginning was observed.",
        |p| quantile(&p.row.stats.counters.lifetime, 0.99);
    "lifetime.buckets" "" Buckets, Json, "Ended connections whose beginning was observed by lifetime: pairs of inclusive upper bound and count. Can be added over intervals and hosts.",
        |p| Value::Buckets(p.row.stats.counters.lifetime.buckets());
    "idle.p50_us" "IDLE50" Micros or null, Wide(Right(7)), "Median time since the last received segment when a connection ended.",
        |p| quantile(&p.row.stats.counters.idle, 0.5);
    "idle.abnormal_p50_us" "BADIDLE" Micros or null, Wide(Right(7)), "Median time without a received segment before a connection ended abnormally, up to the first segment that went unanswered: if it is always the same, a device on the path drops idle connections.",
        |p| quantile(&p.row.stats.counters.idle_abnormal, 0.5);
    "rtt.p50_us" "RTT50" Micros or null, Wide(Right(7)), "Median of the smoothed round-trip times of connections when they ended.",
        |p| quantile(&p.row.stats.counters.rtt, 0.5);
    "rtt.p99_us" "RTT99" Micros or null, Wide(Right(7)), "99th percentile of the same.",
        |p| quantile(&p.row.stats.counters.rtt, 0.99);
    "rtt.open_p50_us" "ORTT50" Micros or null, Wide(Right(7)), "Median of the smoothed round-trip times of open connections, at the last scan.",
        |p| quantile(&p.row.stats.scanned.rtt, 0.5);
    "rtt.open_p99_us" "ORTT99" Micros or null, Wide(Right(7)), "99th percentile of the same.",
        |p| quantile(&p.row.stats.scanned.rtt, 0.99);
    "retransmitting_pct" "OPRTR%" Float("percent") or null, Wide(Right(6)), "Share of the open connections that have retransmitted data since they began, at the last scan.",
        |p| share(p.row.retransmitting(), p.row.stats.gauges.open);
    "segments.retransmitted_pct" "RETR%" Float("percent") or null, Wide(Right(5)), "Share of segments.sent which were retransmissions.",
        |p| share(p.row.stats.counters.segments.retransmitted, p.row.stats.counters.segments.sent);
    "segments.sent" "" Count("segments"), Data, "Segments with data that connections sent while they were watched, retransmissions included. Scans show those of open connections, so they count at the next scan.",
        |p| Value::Int(p.row.stats.counters.segments.sent);
    "segments.retransmitted" "" Count("segments"), Data, "Those of them that were retransmissions.",
        |p| Value::Int(p.row.stats.counters.segments.retransmitted);
    "bytes_sent" "" Count("bytes"), Data, "Payload bytes that peers acknowledged, of ended connections.",
        |p| Value::Int(p.row.stats.counters.bytes_sent);
    "bytes_received" "" Count("bytes"), Data, "Payload bytes received, of ended connections.",
        |p| Value::Int(p.row.stats.counters.bytes_received);
    "half_open" "HALF" Count("handshakes") or null, Wide(Right(5)), "Handshakes in the SYN queues of the port's listeners, waiting for their last ACK, at the last scan.",
        |p| p.server_only(p.row.stats.scanned.half_open);
    "syn_queue.entered" "SYNS" Count("handshakes") or null, Wide(Right(6)), "SYNs that were answered and entered the SYN queue of one of the port's listeners. Null, like the other syn_queue columns, unless the kernel reports SYN queues (host.knowledge.syn_queue).",
        |p| p.syn_queue_count(SynQueueEvent::Entered);
    "syn_queue.completed" "" Count("handshakes") or null, Data, "Handshakes that left the SYN queue because their last ACK arrived.",
        |p| p.syn_queue_count(SynQueueEvent::Completed);
    "syn_queue.dropped" "SYNDROP" Count("handshakes") or null, Wide(Right(7)), "Handshakes that were dropped from the SYN queue: after an RST or an ICMP error, or because the listener was closed.",
        |p| p.syn_queue_count(SynQueueEvent::Dropped);
    "syn_queue.expired" "SYNEXP" Count("handshakes") or null, Wide(Right(6)), "Handshakes that left the SYN queue because no SYN-ACK was answered: port scans, SYN floods, or ACKs lost on the path.",
        |p| p.syn_queue_count(SynQueueEvent::Expired);
    "accept_queue.now" "QUEUE" Count("connections") or null, Wide(Right(5)), "Connections waiting for accept(), at the last scan.",
        |p| p.server_only(p.row.stats.scanned.accept_queue);
    "accept_queue.peak" "QPEAK" Count("connections") or null, Wide(Right(5)), "Largest number of connections that a new one, or a scan, found waiting for accept() on one listener.",
        |p| p.server_only(p.row.stats.accept_peak);
    "accept_queue.p50" "" Count("connections") or null, Data, "Median number of connections that a new one found waiting for accept() on its listener.",
        |p| Value::known(p.row.stats.counters.accept_depth.quantile(0.5), Value::Int);
    "accept_queue.p99" "Q99" Count("connections") or null, Wide(Right(5)), "99th percentile of the number of connections that a new one found waiting for accept() on its listener.",
        |p| Value::known(p.row.stats.counters.accept_depth.quantile(0.99), Value::Int);
    "accept_queue.wait_accuracy" "" Word(Accuracy::NAMES) or null, Data, "Accuracy of the times that connections waited for accept(): exact where the kernel reports accept(); otherwise inferred from the length of the accept queue that each new connection found; unknown if no connection shows it, if several listeners share the port and address (SO_REUSEPORT) in a recording of synfin before 0.3, or if a filter excludes some of a listener's connections. Null for clients.",
        PortRow::accept_wait_accuracy;
    "accept_queue.wait_count" "" Count("connections") or null, Data, "Connections whose wait for accept() is known, exactly or within bounds.",
        |p| p.server_only(p.row.stats.counters.accept_waits());
    "accept_queue.wait_p50_us" "" Micros or null, Data, "Median time that connections waited for accept(). Inferred values are estimates, shown with ~, within certain bounds (wait_p50_at_least_us and wait_p50_at_most_us). If more than 5 % of the connections allow no estimate, as on an idle port, the value is null, and tables show the upper bound with ≤.",
        |p| p.accept_wait(|waits| waits.quantile(0.5));
    "accept_queue.wait_p90_us" "" Micros or null, Data, "90th percentile of the time that connections waited for accept().",
        |p| p.accept_wait(|waits| waits.quantile(0.9));
    "accept_queue.wait_p99_us" "WAIT99" Micros or null, Wide(Right(7)), "99th percentile of the time that connections waited for accept(): if high, the application accepts slowly. Inferred values as for wait_p50_us.",
        |p| p.accept_wait(|waits| waits.quantile(0.99));
    "accept_queue.wait_max_us" "" Micros or null, Data, "The longest wait for accept().",
        |p| p.accept_wait(LatencyHistogram::max);
    "accept_queue.wait_p50_at_least_us" "" Micros or null, Data, "Lower bound of wait_p50_us; equal to it if it is exact.",
        |p| p.accept_wait_at_least(0.5);
    "accept_queue.wait_p50_at_most_us" "" Micros or null, Data, "Upper bound of wait_p50_us; equal to it if it is exact.",
        |p| p.accept_wait_at_most(0.5);
    "accept_queue.wait_p90_at_least_us" "" Micros or null, Data, "Lower bound of wait_p90_us.",
        |p| p.accept_wait_at_least(0.9);
    "accept_queue.wait_p90_at_most_us" "" Micros or null, Data, "Upper bound of wait_p90_us.",
        |p| p.accept_wait_at_most(0.9);
    "accept_queue.wait_p99_at_least_us" "" Micros or null, Data, "Lower bound of wait_p99_us.",
        |p| p.accept_wait_at_least(0.99);
    "accept_queue.wait_p99_at_most_us" "" Micros or null, Data, "Upper bound of wait_p99_us.",
        |p| p.accept_wait_at_most(0.99);
    "accept_queue.limit" "QLIMIT" Count("connections") or null, Wide(Right(6)), "Maximum number of connections waiting on one listener (the smallest, if listeners differ): the kernel accepts one more and then drops.",
        |p| match p.row.stats.scanned.accept_limit {
            0 => Value::Unknown,
            limit => p.server_only(limit),
        };
    "listener.drops" "DROPS" Count("segments") or null, Wide(Right(6)), "Segments that the port's listeners dropped, for whatever reason: a full accept queue, too many half-open handshakes, ICMP errors for these. From the socket's sk_drops, in which an ACK that finds the accept queue full counts twice; ListenDrops counts it once.",
        |p| p.server_only(p.row.stats.counters.listener_drops);
    "listener.opened_at" "" Time or null, Data, "Time of the last listen() on the port; null if none was observed.",
        |p| p.date(p.row.stats.uptime.opened);
    "listener.closed_at" "" Time or null, Data, "Time when the port's last listener was closed; null if that was not observed.",
        |p| p.date(p.row.stats.uptime.closed);
    "listener.gap_us" "GAP" Micros or null, Wide(Right(7)), "Time for which the port had no listener before the last listen(), or has had none until now; null if no such gap was observed.",
        |p| Value::known(p.row.stats.uptime.gap(p.interval.end), |gap| Value::Micros(gap / 1000));
    "synack_retransmits" "SYNACKRTX" Count("segments") or null, Wide(Right(9)), "SYN-ACKs that the port's listeners retransmitted: handshakes whose last ACK is overdue.",
        |p| p.server_only(p.row.stats.counters.synack_retransmits);
    "resets.count" "RESETS" Count("segments") or null, Wide(Right(6)), "Resets sent from the port without a connection: for a port without a listener, a TIME_WAIT, or an invalid handshake. Null before Linux 6.10 (host.knowledge.resets).",
        |p| p.known_with(OptionalHook::Resets, p.server_only(p.row.stats.counters.resets_total()));
    "resets.reasons" "" Counts(RESET_REASONS) or null, Data, "Resets sent from the port without a connection, by the kernel's reason.",
        |p| p.known_with(OptionalHook::Resets, p.resets());
"stalled" "STALLED" Count("connections"), Wide(Right(7)), "Established connections that retransmit without an answer, at the last scan.",
        |p| Value::Int(p.row.stats.scanned.stalled);
    "listeners" "LISTEN" Count("sockets") or null, Wide(Right(6)), "Listeners on the port, at the last scan.",
        |p| p.server_only(p.row.stats.scanned.listeners);
} {
    CloseWait "close_wait" "CLOSE_WAIT" "OLDCW" "the local application has not closed after the peer";
    FinWait2 "fin_wait2" "FIN_WAIT2" "OLDFW2" "the peer has not closed after this host";
    LastAck "last_ack" "LAST_ACK" "OLDLA" "the local FIN is not acknowledged";
    SynSent "syn_sent" "SYN_SENT" "OLDSS" "the SYN is not answered";
} {
    "ephemeral.used_pct" "EPH%" Float("percent") or null, Wide(Right(4)), "Share of the ephemeral ports (net.ipv4.ip_local_port_range) that are in use toward one destination from one local address: by clients' connections, attempts, TIME_WAITs and orphans in FIN_WAIT2, and by ports that bind() took. The largest share of all local addresses and destinations. Null if connect() found no port though fewer are known to be in use.",
        |p| Value::known(p.row.stats.ephemeral_share(), |share| Value::Float(100.0 * share));
    "ephemeral.exhausted_in_us" "EPHEND" Micros or null, Wide(Right(7)), "Time until these ports are exhausted at the interval's rates of connections and TIME_WAITs, considering TIME_WAITs that end or can be reused (net.ipv4.tcp_tw_reuse). Null if that is not foreseeable within 30 times the interval and one hour.",
        |p| p.ephemeral(|ports| Value::known(ports.exhausted_in, Value::forecast));
    "ephemeral.local" "" Address or null, Data, "That local address; null if no client is connected to the destination.",
        |p| p.ephemeral(|ports| Value::known(ports.local, |ip| Value::Text(ip.to_string())));
    "ephemeral.remote" "" Address or null, Data, "Address of that destination.",
        |p| p.ephemeral(|ports| Value::Text(ports.remote.to_string()));
    "ephemeral.is_shared" "" Bool or null, Data, "Whether all destinations share these ports, because the clients call bind() before connect(), without IP_BIND_ADDRESS_NO_PORT.",
        |p| p.ephemeral(|ports| Value::Bool(ports.is_shared));
    "ephemeral.used" "" Count("ports") or null, Data, "Ephemeral ports in use toward that destination from that address; with is_shared, toward all destinations.",
        |p| p.ephemeral(|ports| Value::Int(ports.used));
    "ephemeral.ports" "" Count("ports") or null, Data, "Ephemeral ports of the namespace, in use or not.",
        |p| p.ephemeral(|ports| Value::Int(ports.ports));
} };
