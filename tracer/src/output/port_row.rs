//! A port's row with its interval, and the values that its columns derive.

use synfin_common::{port_count::SynQueueEvent, reset::ResetReason, state::TcpState};

use crate::{
    findings::{RowFindings, Severity},
    output::column::Value,
    tcp::{
        close_reason::{Class, CloseReason, Phase},
        coverage::{Accuracy, Coverage, OptionalHook},
        group_by::By,
        role::Role,
    },
    trace::{
        session::Session,
        time::{ClockAnchor, Nanos, date},
    },
    tracker::{Ephemeral, LatencyHistogram, RowSnapshot, RowStats, Snapshot},
};

/// A row with the interval that it is about.
#[derive(Clone)]
pub struct PortRow {
    /// The row.
    pub row: RowSnapshot,
    /// The interval.
    pub interval: Interval,
    /// The most urgent finding in the row.
    pub(crate) finding: Option<Trouble>,
}

/// The most urgent finding of a row: how urgent, and its id.
pub(crate) type Trouble = (Severity, &'static str);

/// An interval of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// End of the interval (CLOCK_MONOTONIC, nanoseconds).
    pub end: Nanos,
    /// Its length in seconds.
    pub seconds: f64,
    /// Whether counts per second are known, see [`Snapshot::has_rates`].
    pub has_rates: bool,
    /// Converts times of CLOCK_MONOTONIC to dates.
    pub clock: ClockAnchor,
    /// The optional hooks that were attached.
    pub coverage: Coverage,
}

impl Interval {
    /// The interval of a snapshot.
    pub(crate) fn of(session: &Session, snapshot: &Snapshot) -> Self {
        Self {
            end: snapshot.end,
            seconds: snapshot.seconds(),
            has_rates: snapshot.has_rates(),
            clock: session.clock,
            coverage: session.coverage,
        }
    }
}

impl PortRow {
    /// All rows of an interval, in the order of their names.
    pub(crate) fn all(session: &Session, snapshot: &Snapshot, by: By) -> Vec<Self> {
        Self::with_findings(session, snapshot, by, &RowFindings::of(session, snapshot))
    }

    /// The same if the findings are known already, or not wanted.
    pub(crate) fn with_findings(
        session: &Session,
        snapshot: &Snapshot,
        by: By,
        findings: &RowFindings,
    ) -> Vec<Self> {
        let interval = Interval::of(session, snapshot);
        let row = |row: RowSnapshot| {
            let here = findings.in_row(&row.identity.name, by);
            let finding =
                here.max_by_key(|it| (it.severity, it.count, std::cmp::Reverse(it.rule.id)));
            let finding = finding.map(|finding| (finding.severity, finding.rule.id));
            Self { row, interval, finding }
        };
        snapshot.rows(by).into_iter().map(row).collect()
    }

    /// A row of this interval, without findings.
    pub(crate) fn new(row: RowSnapshot, session: &Session, snapshot: &Snapshot) -> Self {
        Self::of(row, Interval::of(session, snapshot))
    }

    /// A row of an interval, without findings.
    pub fn of(row: RowSnapshot, interval: Interval) -> Self {
        Self { row, interval, finding: None }
    }

    /// The same row with nothing counted in it.
    pub(crate) fn emptied(&self) -> Self {
        let identity = self.row.identity.clone();
        let row = RowSnapshot { identity, stats: RowStats::default() };
        Self { row, finding: None, ..*self }
    }

    /// Connections that went wrong: failed or ended abnormally.
    pub fn bad(&self) -> u64 {
        self.row.bad()
    }

    /// Handshakes that began at a server: those that entered a SYN queue, and children that did not
    /// (SYN cookies, Fast Open). Unknown without [`OptionalHook::SynQueue`].
    pub(super) fn attempts_at_server(&self) -> Value {
        let counters = &self.row.stats.counters;
        let with_a_place = counters.syn_queue(SynQueueEvent::Entered);
        let attempts = (counters.attempts + with_a_place)
            .saturating_sub(counters.syn_queue(SynQueueEvent::Completed));
        self.known_with(OptionalHook::SynQueue, Value::Int(attempts))
    }

    /// Number of handshakes in SYN queues to which this happened.
    pub(super) fn syn_queue_count(&self, what: SynQueueEvent) -> Value {
        let count = self.row.stats.counters.syn_queue(what);
        self.known_with(OptionalHook::SynQueue, self.server_only(count))
    }

    /// A value that is known only with an optional hook.
    pub(super) fn known_with(&self, hook: OptionalHook, value: Value) -> Value {
        if self.interval.coverage.has(hook) { value } else { Value::Unknown }
    }

    /// The accuracy of the times that connections waited for accept().
    pub(super) fn accept_wait_accuracy(&self) -> Value {
        let accuracy = match (self.row.identity.role, self.row.stats.counters.accept_waits()) {
            (Role::Client | Role::Unknown, _) => return Value::Unknown,
            _ if self.interval.coverage.has(OptionalHook::AcceptWait) => Accuracy::Exact,
            (Role::Server, 0) => Accuracy::Unknown,
            (Role::Server, _) => Accuracy::Inferred,
        };
        Value::Word(accuracy.name())
    }

    /// The lower and the upper bound of a value of these times, which are equal if it is exact.
    fn accept_wait_bounds(
        &self,
        of: impl Fn(&LatencyHistogram) -> Option<u64>,
    ) -> Option<(u64, u64)> {
        let counters = &self.row.stats.counters;
        if self.interval.coverage.has(OptionalHook::AcceptWait) {
            let exact = of(&counters.accept_wait)?;
            return Some((exact, exact));
        }
        Some((of(&counters.accept_wait_at_least)?, of(&counters.accept_wait_at_most)?))
    }

    /// A value of these times. An inferred one is known if nearly all connections allow an estimate.
    pub(super) fn accept_wait(&self, of: impl Fn(&LatencyHistogram) -> Option<u64>) -> Value {
        let counters = &self.row.stats.counters;
        let Some((at_least, at_most)) = self.accept_wait_bounds(&of) else {
            return Value::Unknown;
        };
        if self.interval.coverage.has(OptionalHook::AcceptWait) {
            return Value::Micros(at_most);
        }
        let (estimated, all) = (counters.accept_wait.count(), counters.accept_waits());
        match of(&counters.accept_wait) {
            Some(estimate) if estimated >= all - all / 20 => {
                Value::MicrosAbout(estimate.clamp(at_least, at_most))
            }
            _ => Value::MicrosAtMost(at_most),
        }
    }

    pub(super) fn accept_wait_at_least(&self, quantile: f64) -> Value {
        let bounds = self.accept_wait_bounds(|waits| waits.quantile(quantile));
        Value::known(bounds, |(at_least, _)| Value::Micros(at_least))
    }

    pub(super) fn accept_wait_at_most(&self, quantile: f64) -> Value {
        let bounds = self.accept_wait_bounds(|waits| waits.quantile(quantile));
        Value::known(bounds, |(_, at_most)| Value::Micros(at_most))
    }

    /// Count per second; unknown if the interval has no rates.
    pub(super) fn rate(&self, count: u64) -> Value {
        if self.interval.has_rates {
            Value::Float(count as f64 / self.interval.seconds)
        } else {
            Value::Unknown
        }
    }

    pub(super) fn age_of_oldest(&self, state: TcpState) -> Value {
        Value::known(self.row.stats.oldest(state), |oldest| {
            let us = self.interval.end.saturating_sub(oldest.since) / 1000;
            Value::micros(us, oldest.at_least)
        })
    }

    pub(super) fn may_be_older(&self, state: TcpState) -> Value {
        Value::known(self.row.stats.oldest(state), |oldest| Value::Bool(oldest.at_least))
    }

    pub(super) fn owner_of_oldest(&self, state: TcpState) -> Value {
        let owner = self.row.stats.oldest(state).and_then(|oldest| oldest.owner.as_ref());
        Value::known(owner, |owner| Value::Text(owner.label.name.to_string()))
    }

    pub(super) fn pid_of_oldest(&self, state: TcpState) -> Value {
        let owner = self.row.stats.oldest(state).and_then(|oldest| oldest.owner.as_ref());
        Value::known(owner.and_then(|owner| owner.pid), |pid| Value::Int(pid.into()))
    }

    pub(super) fn date(&self, time: Option<Nanos>) -> Value {
        Value::known(time, |time| Value::Text(date(self.interval.clock.date(time))))
    }

    /// Resets sent without a connection, by reason.
    pub(super) fn resets(&self) -> Value {
        let count = |&reason: &ResetReason| (reason.name(), self.row.stats.counters.resets(reason));
        Value::Counts(ResetReason::ALL.iter().map(count).collect())
    }

    pub(super) fn ephemeral(&self, column: impl FnOnce(&Ephemeral) -> Value) -> Value {
        Value::known(self.row.stats.ephemeral.as_ref(), column)
    }

    /// The most urgent finding, or else the most frequent abnormal reason.
    pub(super) fn why(&self) -> Option<&'static str> {
        let reason = || self.most_frequent_abnormal_reason().map(CloseReason::id);
        self.finding.map(|(_, id)| id).or_else(reason)
    }

    /// The most frequent abnormal reason.
    fn most_frequent_abnormal_reason(&self) -> Option<CloseReason> {
        let bad = CloseReason::ALL.iter().filter(|reason| reason.class() == Class::Abnormal);
        bad.copied()
            .filter(|&reason| self.row.stats.counters.ended(reason) > 0)
            .max_by_key(|&reason| self.row.stats.counters.ended(reason))
    }

    pub(super) fn ended(&self, phase: Phase) -> Value {
        let reasons = CloseReason::ALL.iter().filter(|reason| reason.phase() == phase);
        Value::Counts(
            reasons.map(|&reason| (reason.id(), self.row.stats.counters.ended(reason))).collect(),
        )
    }

    /// A count of a server; unknown for other roles.
    pub(super) fn server_only(&self, count: u64) -> Value {
        match self.row.identity.role {
            Role::Server => Value::Int(count),
            Role::Client | Role::Unknown => Value::Unknown,
        }
    }
}
