//! All metrics. A new one is added here, and is then in every form.

use super::{
    Collect::{Host, Row},
    Durations,
    Kind::{Counter, Gauge, Histogram},
    Metric, Metrics, OTHER, Samples,
    Value::{Count, Durations as Took, Number},
    series::Totals,
};
use crate::{
    output::port_columns::living_states,
    tcp::{
        close_reason::{CloseReason, Phase},
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
    "synfin_info" Gauge, "Always 1: the version of synfin and the kernel that it watches.",
        Host(|metrics, samples| {
            let session = &metrics.session;
            samples.add(&[("version", &session.synfin), ("kernel", &session.kernel)], Count(1));
        });
    "synfin_handshake_duration_seconds" Histogram, "Handshakes: SYN to SYN-ACK for a client, SYN-ACK to ACK for a server, as the kernel measured them; those in which something was sent twice apart.",
        Row(|row| {
            let counters = &row.totals.counters;
            for (class, took) in [("clean", &counters.clean), ("retransmitted", &counters.retransmitted)] {
                row.add(&[("class", class)], Took(Durations::from(took)));
            }
        });
    "synfin_handshakes_unmeasured_total" Counter, "Handshakes whose time cannot be known.",
        Row(|row| {
            for cause in Unmeasured::ALL {
                row.add_if_any(&[("cause", cause.name())], row.totals.counters.unmeasured(cause));
            }
        });
    "synfin_connection_attempts_total" Counter, "Connections that clients of this host began.",
        Row(|row| row.add_of(Role::Client, Count(row.totals.counters.attempts)));
    "synfin_connections_established_total" Counter, "Handshakes that got through.",
        Row(|row| row.add(&[], Count(row.totals.counters.established)));
    "synfin_connections_adopted_total" Counter, "Connections first seen when they were established: older than the trace, or their birth was lost.",
        Row(|row| row.add(&[], Count(row.totals.counters.adopted)));
    "synfin_connection_failures_total" Counter, "Connections that ended before they were established, by reason (synfin explain REASON).",
        Row(|row| row.ends(Phase::Handshake));
    "synfin_connections_closed_total" Counter, "Established connections that ended, by reason (synfin explain REASON).",
        Row(|row| row.ends(Phase::Established));
    "synfin_connections" Gauge, "Living connections by state.",
        Row(|row| {
            for state in living_states() {
                let count = row.totals.now.gauges.state(state);
                row.add(&[("state", state.name())], Count(count));
            }
        });
    "synfin_time_wait_sockets" Gauge, "Sockets in TIME_WAIT.",
        Row(|row| row.add(&[], Count(row.totals.now.time_wait)));
    "synfin_time_wait_entered_total" Counter, "Entries into TIME_WAIT.",
        Row(|row| row.add(&[], Count(row.totals.counters.time_wait_entered)));
    "synfin_time_wait_overflowed_total" Counter, "Entries into TIME_WAIT that the kernel's full table prevented (net.ipv4.tcp_max_tw_buckets).",
        Row(|row| row.add(&[], Count(row.totals.counters.time_wait_overflowed)));
    "synfin_accept_queue_length" Gauge, "Connections waiting for accept(), at the last survey.",
        Row(|row| row.add_of(Role::Server, Count(row.totals.now.scanned.accept_queue)));
    "synfin_accept_queue_limit" Gauge, "How many may wait on one listener, the least if they differ; 0: nobody listens.",
        Row(|row| row.add_of(Role::Server, Count(row.totals.now.scanned.accept_limit)));
    "synfin_half_open_handshakes" Gauge, "Handshakes that wait for their last ACK, at the last survey.",
        Row(|row| row.add_of(Role::Server, Count(row.totals.now.scanned.half_open)));
    "synfin_stalled_connections" Gauge, "Connections that retransmit and are not answered, at the last survey.",
        Row(|row| row.add(&[], Count(row.totals.now.scanned.stalled)));
    "synfin_listener_drops_total" Counter, "What listeners dropped, for whatever reason (sk_drops).",
        Row(|row| row.add_of(Role::Server, Count(row.totals.counters.listener_drops)));
    "synfin_synack_retransmits_total" Counter, "SYN-ACKs that were sent again.",
        Row(|row| row.add_of(Role::Server, Count(row.totals.counters.synack_retransmits)));
    "synfin_resets_without_connection_total" Counter, "Resets sent with no connection behind them; since Linux 6.10, which tells of all.",
        Row(|row| {
            if row.metrics.shows(OptionalHook::Resets) {
                row.add_of(Role::Server, Count(row.totals.counters.resets_total()));
            }
        });
    "synfin_ephemeral_ports_used_ratio" Gauge, "Ports that are taken toward the destination where most are, as a share of all.",
        Row(|row| {
            if let Some(share) = row.totals.now.ephemeral_share {
                row.add_of(Role::Client, Number(share));
            }
        });
    "synfin_sent_bytes_total" Counter, "Payload that the peers acknowledged, of ended connections.",
        Row(|row| row.add(&[], Count(row.totals.counters.bytes_sent)));
    "synfin_received_bytes_total" Counter, "Payload received, of ended connections.",
        Row(|row| row.add(&[], Count(row.totals.counters.bytes_received)));
    "synfin_events_total" Counter, "What became of the kernel side's records; missed and gaps are those that never were.",
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
    "synfin_kernel_events_total" Counter, "What the kernel itself counted in the surveyed namespaces (/proc/net/netstat).",
        Host(|metrics, samples| {
            for (counter, count) in KERNEL_COUNTERS.into_iter().zip(metrics.kernel_counts) {
                samples.add(&[("counter", counter)], Count(count));
            }
        });
    "synfin_tracked_connections" Gauge, "Living connections in the table.",
        Host(|metrics, samples| samples.add(&[], Count(metrics.connections)));
    "synfin_evicted_connections_total" Counter, "Connections that made room for others in the full table (--max-connections).",
        Host(|metrics, samples| samples.add(&[], Count(metrics.evicted)));
    "synfin_survey_age_seconds" Gauge, "How long ago the survey that is longest ago began, of all namespaces in which something happens.",
        Host(|metrics, samples| {
            if let Some(age) = metrics.survey_age {
                samples.add(&[], Number(age as f64 / 1e9));
            }
        });
};

/// A row whose samples are collected.
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
        if self.role == role {
            self.add(&[], value);
        }
    }

    /// There are many of these, of which most never happen.
    fn add_if_any(&mut self, labels: &[(&'static str, &str)], count: u64) {
        if count > 0 {
            self.add(labels, Count(count));
        }
    }

    /// Those that did not happen yet as well: what begins with more than 0 is no increase to
    /// Prometheus, and the first resets of a port would be none to any alert.
    fn ends(&mut self, outcome: Phase) {
        for &reason in CloseReason::ALL.iter().filter(|reason| reason.phase() == outcome) {
            let labels = [("reason", reason.id()), ("class", reason.class().name())];
            let count = self.totals.counters.ended(reason);
            match (self.role, outcome) {
                // Hardly any of these can happen to a server.
                (Role::Server, Phase::Handshake) => self.add_if_any(&labels, count),
                _ => self.add(&labels, Count(count)),
            }
        }
    }
}

/// Gives every row to `each`.
pub(super) fn per_row(metrics: &Metrics, samples: &mut Samples, each: fn(&mut RowSamples<'_>)) {
    for (labels, totals) in &metrics.rows {
        let port = labels.port.map_or(OTHER.to_owned(), |port| port.to_string());
        each(&mut RowSamples { metrics, role: labels.role, port: &port, totals, samples });
    }
}
