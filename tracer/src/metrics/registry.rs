//! All metrics. A metric that is added here appears in every format.

use super::{
    BOUNDS_US,
    Collect::{Host, Row},
    Durations,
    Kind::{Counter, Gauge, Histogram},
    Metric, Metrics, OTHER, RETRANSMITTED_BOUNDS_US, Samples,
    Value::{Count, Durations as Took, Number},
    budget::MOST_FINDINGS,
    series::{OwnerNames, Totals},
};
use synfin_common::state::TcpState;

use crate::{
    output::port_columns::living_states,
    tcp::{
        close_reason::{Class, CloseReason, Phase},
        coverage::OptionalHook,
        handshake::Unmeasured,
        role::Role,
    },
    trace::counters::KERNEL_COUNTERS,
};

macro_rules! metrics {
    ($($name:literal $kind:ident, $help:literal, $collect:expr;)*) => {
        &[$(Metric { name: $name, help: $help, kind: $kind, collect: $collect },)*]
    };
}

/// All metrics.
pub const METRICS: &[Metric] = metrics! {
    "synfin_info" Gauge, "Always 1; the labels are the version of synfin and the kernel release.",
        Host(|metrics, samples| {
            let session = &metrics.session;
            samples.add(&[("version", &session.synfin), ("kernel", &session.kernel)], Count(1));
        });
    "synfin_findings" Gauge, "Problems in the traffic of the last minute (synfin explain FINDING): number of findings per port.",
        Host(|metrics, samples| {
            for ((severity, finding, role, port), count) in metrics.findings.iter().take(MOST_FINDINGS) {
                let labels = [("finding", *finding), ("severity", severity.0.name()), ("role", role.name())];
                samples.add(&[&labels[..], &[("port", port)]].concat(), Count(*count));
            }
        });
    "synfin_port_info" Gauge, "Always 1; the labels are the owner of the port's sockets, its container and its Kubernetes pod, each if it is known and the only one. For joins by role and port.",
        Row(|row| {
            if row.port != OTHER {
                let OwnerNames { owner, container, pod } = &row.totals.owner;
                let names = [("owner", owner), ("container", container), ("pod", pod)];
                let known: Vec<_> = names.iter().filter_map(|(label, name)| Some((*label, name.as_deref()?))).collect();
                row.add(&known, Count(1));
            }
        });
    "synfin_handshake_duration_seconds" Histogram, "Duration of handshakes as measured by the kernel: SYN to SYN-ACK on a client, SYN-ACK to ACK on a server. Retransmitted handshakes have a class of their own.",
        Row(|row| {
            let counters = &row.totals.counters;
            row.add(&[("class", "clean")], Took(Durations::new(&counters.clean, BOUNDS_US)));
            let retransmitted = Durations::new(&counters.retransmitted, RETRANSMITTED_BOUNDS_US);
            row.add(&[("class", "retransmitted")], Took(retransmitted));
        });
    "synfin_handshakes_unmeasured_total" Counter, "Handshakes whose duration could not be measured.",
        Row(|row| {
            for cause in Unmeasured::ALL {
                row.add_if_any(&[("cause", cause.name())], row.totals.counters.unmeasured(cause));
            }
        });
    "synfin_connection_attempts_total" Counter, "Connection attempts of clients on this host.",
        Row(|row| row.add_of(Role::Client, Count(row.totals.counters.attempts)));
    "synfin_connections_established_total" Counter, "Completed handshakes.",
        Row(|row| row.add(&[], Count(row.totals.counters.established)));
    "synfin_connections_adopted_total" Counter, "Connections that were already established when they were found: older than the trace, or the record of their beginning was lost.",
        Row(|row| row.add(&[], Count(row.totals.counters.adopted)));
    "synfin_connection_failures_total" Counter, "Connections that ended before they were established, by reason (synfin explain REASON).",
        Row(|row| row.ends(Phase::Handshake));
    "synfin_connections_closed_total" Counter, "Established connections that ended, by reason (synfin explain REASON).",
        Row(|row| row.ends(Phase::Established));
    "synfin_connections" Gauge, "Open connections by state.",
        Row(|row| {
            for state in living_states() {
                let (labels, count) = ([("state", state.name())], row.totals.now.gauges.state(state));
                match state {
                    // Queries that add rows find each, and the least number over some time is right.
                    TcpState::Established | TcpState::CloseWait => row.add(&labels, Count(count)),
                    _ => row.add_if_any(&labels, count),
                }
            }
        });
    "synfin_time_wait_sockets" Gauge, "Sockets in TIME_WAIT.",
        Row(|row| row.add(&[], Count(row.totals.now.time_wait)));
    "synfin_time_wait_entered_total" Counter, "Entries into TIME_WAIT.",
        Row(|row| row.add(&[], Count(row.totals.counters.time_wait_entered)));
    "synfin_time_wait_overflowed_total" Counter, "Entries into TIME_WAIT that the kernel's full table prevented (net.ipv4.tcp_max_tw_buckets).",
        Row(|row| row.add(&[], Count(row.totals.counters.time_wait_overflowed)));
    "synfin_accept_queue_length" Gauge, "Connections waiting for accept(), at the last scan.",
        Row(|row| row.add_of(Role::Server, Count(row.totals.now.scanned.accept_queue)));
    "synfin_accept_queue_limit" Gauge, "Maximum number of connections waiting on one listener, the smallest if listeners differ; 0 without a listener.",
        Row(|row| row.add_of(Role::Server, Count(row.totals.now.scanned.accept_limit)));
    "synfin_accept_waits_total" Counter, "Connections whose wait for accept() is known, exactly or within bounds.",
        Row(|row| {
            let accuracy = row.metrics.accept_wait_accuracy();
            let count = Count(row.totals.counters.accept_waits());
            row.add_for(Role::Server, &[("accuracy", accuracy)], count);
        });
    "synfin_accept_wait_seconds_total" Counter, "Time that these connections waited for accept(): lower and upper bound, which are equal if the accuracy is exact. Divided by synfin_accept_waits_total, the mean wait.",
        Row(|row| {
            let counters = &row.totals.counters;
            let accuracy = row.metrics.accept_wait_accuracy();
            let (at_least, at_most) = match row.metrics.shows(OptionalHook::AcceptWait) {
                true => (&counters.accept_wait, &counters.accept_wait),
                false => (&counters.accept_wait_at_least, &counters.accept_wait_at_most),
            };
            for (bound, waits) in [("at_least", at_least), ("at_most", at_most)] {
                let labels = [("accuracy", accuracy), ("bound", bound)];
                row.add_for(Role::Server, &labels, Number(waits.sum() as f64 / 1e6));
            }
        });
    "synfin_half_open_handshakes" Gauge, "Handshakes waiting for their last ACK, at the last scan.",
        Row(|row| row.add_of(Role::Server, Count(row.totals.now.scanned.half_open)));
    "synfin_stalled_connections" Gauge, "Connections that retransmit without an answer, at the last scan.",
        Row(|row| row.add(&[], Count(row.totals.now.scanned.stalled)));
    "synfin_round_trip_time_median_seconds" Gauge, "Median of the smoothed round-trip times of open connections, at the last scan; absent if none was measured.",
        Row(|row| {
            if let Some(us) = row.totals.now.scanned.rtt.quantile(0.5) {
                row.add(&[], Number(us as f64 / 1e6));
            }
        });
    "synfin_sent_segments_total" Counter, "Segments with data that were sent, again or for the first time: of open connections up to the last scan, and of ended ones.",
        Row(|row| row.add(&[], Count(row.totals.counters.segments.sent)));
    "synfin_retransmitted_segments_total" Counter, "Those of them that were retransmissions. The quotient of both rates is what the path loses.",
        Row(|row| row.add(&[], Count(row.totals.counters.segments.retransmitted)));
    "synfin_listener_drops_total" Counter, "Segments dropped by listeners, for any reason (sk_drops).",
        Row(|row| row.add_of(Role::Server, Count(row.totals.counters.listener_drops)));
    "synfin_synack_retransmits_total" Counter, "Retransmitted SYN-ACKs.",
        Row(|row| row.add_of(Role::Server, Count(row.totals.counters.synack_retransmits)));
    "synfin_resets_without_connection_total" Counter, "Resets sent without a connection; since Linux 6.10.",
        Row(|row| {
            if row.metrics.shows(OptionalHook::Resets) {
                row.add_of(Role::Server, Count(row.totals.counters.resets_total()));
            }
        });
    "synfin_ephemeral_ports_used_ratio" Gauge, "Share of the ephemeral ports in use from the local address and toward the destination where it is largest. Absent if connect() found no port though fewer are known to be in use.",
        Row(|row| {
            if let Some(share) = row.totals.now.ephemeral_share {
                row.add_of(Role::Client, Number(share));
            }
        });
    "synfin_sent_bytes_total" Counter, "Payload bytes acknowledged by peers, of ended connections.",
        Row(|row| row.add(&[], Count(row.totals.counters.bytes_sent)));
    "synfin_received_bytes_total" Counter, "Payload bytes received, of ended connections.",
        Row(|row| row.add(&[], Count(row.totals.counters.bytes_received)));
    "synfin_events_total" Counter, "Records of the eBPF programs by outcome; missed and gaps are records that were never written.",
        Host(|metrics, samples| {
            let events = &metrics.events;
            for (outcome, count) in [
                ("delivered", events.delivered),
                ("lost", events.lost),
                ("filtered", events.filtered),
                ("missed", events.missed),
                ("gaps", events.gaps),
            ] {
                samples.add(&[("outcome", outcome)], Count(count));
            }
        });
    "synfin_kernel_events_total" Counter, "The kernel's own counters in the scanned namespaces (/proc/net/netstat).",
        Host(|metrics, samples| {
            for (counter, count) in KERNEL_COUNTERS.into_iter().zip(metrics.kernel_counts) {
                samples.add(&[("counter", counter)], Count(count));
            }
        });
    "synfin_tracked_connections" Gauge, "Connections in the table.",
        Host(|metrics, samples| samples.add(&[], Count(metrics.tables.connections)));
    "synfin_evicted_connections_total" Counter, "Connections evicted from the full table (--max-connections).",
        Host(|metrics, samples| samples.add(&[], Count(metrics.tables.evicted)));
    "synfin_forgotten_names_total" Counter, "Names of cgroups and network namespaces that were forgotten because there are too many, and are looked up again when they are used.",
        Host(|metrics, samples| samples.add(&[], Count(metrics.tables.forgotten)));
    "synfin_survey_age_seconds" Gauge, "Age of the oldest of the last scans of namespaces with activity since that scan.",
        Host(|metrics, samples| {
            if let Some(age) = metrics.scan_age {
                samples.add(&[], Number(age as f64 / 1e9));
            }
        });
    "process_cpu_seconds_total" Counter, "CPU time of synfin, user and system. Its eBPF programs run in the time of others.",
        Host(|metrics, samples| samples.add(&[], Number(metrics.own_usage.cpu_us as f64 / 1e6)));
    "process_resident_memory_bytes" Gauge, "Resident memory of synfin.",
        Host(|metrics, samples| samples.add(&[], Count(metrics.own_usage.resident)));
    "process_virtual_memory_bytes" Gauge, "Virtual memory of synfin.",
        Host(|metrics, samples| samples.add(&[], Count(metrics.own_usage.virtual_memory)));
    "process_open_fds" Gauge, "Number of files that synfin has open.",
        Host(|metrics, samples| samples.add(&[], Count(metrics.own_usage.open_files)));
    "process_max_fds" Gauge, "Maximum number of open files.",
        Host(|metrics, samples| samples.add(&[], Count(metrics.own_usage.max_files)));
    "process_start_time_seconds" Gauge, "When synfin was started, in seconds since 1970.",
        Host(|metrics, samples| samples.add(&[], Number(metrics.own_usage.started)));
};

/// Collects the samples of a row.
pub(super) struct RowSamples<'a> {
    metrics: &'a Metrics,
    role: Role,
    port: &'a str,
    totals: &'a Totals,
    samples: &'a mut Samples,
}

impl RowSamples<'_> {
    fn add(&mut self, labels: &[(&'static str, &str)], value: crate::metrics::Value) {
        let own = [("role", self.role.name()), ("port", self.port)];
        self.samples.add(&[&own, labels].concat(), value);
    }

    /// Only for rows of this role.
    fn add_of(&mut self, role: Role, value: crate::metrics::Value) {
        self.add_for(role, &[], value);
    }

    /// Only for rows of this role.
    fn add_for(
        &mut self,
        role: Role,
        labels: &[(&'static str, &str)],
        value: crate::metrics::Value,
    ) {
        if self.role == role {
            self.add(labels, value);
        }
    }

    /// Adds a sample unless it is 0: there are many of these, and most never occur.
    fn add_if_any(&mut self, labels: &[(&'static str, &str)], count: u64) {
        if count > 0 {
            self.add(labels, Count(count));
        }
    }

    /// Includes reasons that have not occurred yet: Prometheus does not count the first value of a
    /// series as an increase, so that alerts would overlook the first resets of a port.
    fn ends(&mut self, outcome: Phase) {
        for &reason in CloseReason::ALL.iter().filter(|reason| reason.phase() == outcome) {
            let labels = [("reason", reason.id()), ("class", reason.class().name())];
            let count = self.totals.counters.ended(reason);
            match (self.role, outcome, reason.class()) {
                // Nearly all of these occur only on clients, or never.
                (Role::Server, Phase::Handshake, _) | (.., Class::Notable | Class::Unknown) => {
                    self.add_if_any(&labels, count);
                }
                _ => self.add(&labels, Count(count)),
            }
        }
    }
}

/// Calls `each` for every row.
pub(super) fn per_row(metrics: &Metrics, samples: &mut Samples, each: fn(&mut RowSamples<'_>)) {
    for (labels, totals) in &metrics.rows {
        let port = labels.port.map_or(OTHER.to_owned(), |port| port.to_string());
        each(&mut RowSamples { metrics, role: labels.role, port: &port, totals, samples });
    }
}
