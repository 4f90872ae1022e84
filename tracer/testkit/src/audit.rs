//! A tracker whose row statistics are checked in every snapshot and over all snapshots.

use std::collections::BTreeMap;

use synfin::{
    findings::diagnose,
    output::{
        column::to_object,
        port_columns::COLUMNS,
        port_row::{Interval, PortRow},
    },
    tcp::{
        close_reason::{CloseReason, Phase},
        coverage::Coverage,
        group_by::By,
        handshake::Unmeasured,
        role::Role,
    },
    trace::{
        event::Input,
        ids::SockId,
        session::Session,
        time::{ClockAnchor, Nanos},
    },
    tracker::{
        Change, ChangeKinds, Closed, Common, Connection, Counters, InferredAccept,
        LatencyHistogram, Limits, Origin, RowSnapshot, RowStats, Snapshot, Tables, Tracker,
    },
};
use synfin_common::{port_count::SynQueueEvent, state::TcpState};

use crate::is_record;

/// The key that statistics are summed by: a row, or all rows of a role where idle rows are evicted.
type Account = (Role, Option<u16>);

/// Statistics that add up over intervals, by name.
type Sums = BTreeMap<String, u64>;

/// A tracker whose row statistics are checked at every snapshot.
pub struct AuditedTracker {
    /// The tracker under test.
    pub tracker: Tracker,
    limits: Limits,
    coverage: Coverage,
    reported: Reported,
    /// Number of records applied.
    given: u64,
    /// Pending and open connections of each row in the last snapshot.
    brought_forward: BTreeMap<Account, (u64, u64)>,
    last_end: Nanos,
    /// Sums over all snapshots.
    totals: BTreeMap<Account, Sums>,
    /// All snapshots merged into one.
    pub whole: Snapshot,
    /// The printed report of each snapshot.
    pub reports: Vec<String>,
}

/// The changes that the tracker has reported.
#[derive(Default)]
struct Reported {
    ended: BTreeMap<CloseReason, u64>,
    /// Closes since the last snapshot.
    unaudited: BTreeMap<CloseReason, u64>,
    after_loss: Vec<Closed>,
}

impl Reported {
    fn take(&mut self, tracker: &mut Tracker) {
        for change in tracker.drain_changes() {
            match change {
                Change::Transition { .. } => {}
                Change::Established { connection, .. } => Self::established(&connection),
                Change::Closed(closed) => self.closed(&closed),
                Change::Accepted(InferredAccept { born, after, by, at, .. }) => {
                    let at = at.unwrap_or(by);
                    assert!(born <= after && after <= at && at <= by, "{born} {after} {at} {by}");
                }
            }
        }
    }

    fn established(connection: &Connection) {
        assert!(connection.handshake.is_some(), "established without a handshake: {connection:?}");
    }

    fn closed(&mut self, closed: &Closed) {
        *self.ended.entry(closed.reason).or_default() += 1;
        *self.unaudited.entry(closed.reason).or_default() += 1;
        let established = closed.reason.phase() == Phase::Established;
        let observed = closed.origin == Origin::Observed;
        assert!(established || closed.handshake.is_none(), "failed after a handshake: {closed:?}");
        assert!(
            !observed || !established || closed.handshake.is_some(),
            "no handshake: {closed:?}"
        );
        assert_eq!(observed, closed.opened.is_some(), "{closed:?}");
        if closed.origin == Origin::AfterLoss {
            self.after_loss.push(closed.clone());
        }
    }
}

impl AuditedTracker {
    /// Creates a tracker whose trace starts at `start`.
    #[must_use]
    pub fn new(limits: Limits, coverage: Coverage, start: Nanos) -> Self {
        Self {
            tracker: Tracker::new(limits, start)
                .with_changes(ChangeKinds::ALL)
                .with_coverage(coverage),
            limits,
            coverage,
            reported: Reported::default(),
            given: 0,
            brought_forward: BTreeMap::new(),
            last_end: start,
            totals: BTreeMap::new(),
            whole: Snapshot::default(),
            reports: Vec::new(),
        }
    }

    /// Applies the next input.
    ///
    /// # Panics
    ///
    /// If the tracker then has more connections than the limit allows.
    pub fn take(&mut self, input: &Input) {
        self.given += u64::from(is_record(input));
        self.tracker.apply(input);
        self.reported.take(&mut self.tracker);
        let open = self.tracker.open().count();
        assert!(open <= self.limits.connections.max(1), "{open} connections are tracked");
    }

    /// Number of connections that closed for this reason.
    #[must_use]
    pub fn ended(&self, reason: CloseReason) -> u64 {
        self.reported.ended.get(&reason).copied().unwrap_or(0)
    }

    /// Number of connections that were found after a loss, open and closed.
    #[must_use]
    pub fn found_after_loss(&self) -> usize {
        let alive =
            self.tracker.open().filter(|(_, connection)| connection.origin == Origin::AfterLoss);
        self.reported.after_loss.len() + alive.count()
    }

    /// The open connections.
    #[must_use]
    pub fn open(&self) -> BTreeMap<SockId, &Connection> {
        self.tracker.open().collect()
    }

    /// The sums over all snapshots, without zeros.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Account, Sums> {
        let mut totals = self.totals.clone();
        totals.retain(|_, sums| !sums.is_empty());
        totals
    }

    /// The sum of these statistics over all rows and snapshots.
    #[must_use]
    pub fn total(&self, columns: &[&str]) -> u64 {
        let counts = self.totals.values().flatten();
        counts.filter(|(name, _)| columns.contains(&name.as_str())).map(|(_, count)| count).sum()
    }

    fn account(&self, row: &RowSnapshot) -> Account {
        let rows_stay = self.limits.rows >= Limits::default().rows;
        let port = match row.identity.port {
            Common::One(port) if rows_stay => Some(port),
            _ => None,
        };
        (row.identity.role, port)
    }

    /// Takes a snapshot and checks it.
    ///
    /// # Panics
    ///
    /// If its row statistics do not balance.
    pub fn snapshot(&mut self) -> Snapshot {
        let snapshot = self.tracker.take_snapshot();
        assert_eq!(snapshot.start, self.last_end, "intervals follow one another");
        assert!(snapshot.end >= snapshot.start);
        self.last_end = snapshot.end;

        let rows = snapshot.rows(By::Port);
        rows.iter().for_each(audit);
        self.audit_intervals(&rows);
        self.whole.merge_next(&snapshot);
        self.audit_whole(&rows);
        self.audit_closes(&rows);
        self.audit_tables(&snapshot, &rows);
        self.audit_events(&snapshot);
        self.reports.push(report(&snapshot, self.coverage));
        snapshot
    }

    /// Ends the trace.
    ///
    /// # Panics
    ///
    /// If a close is still pending, or the row statistics do not balance.
    pub fn finish(&mut self) {
        self.tracker.finish();
        self.reported.take(&mut self.tracker);
        let snapshot = self.snapshot();
        assert_eq!(snapshot.tables.pending_closes, 0);
    }

    /// Checks that each interval starts with the gauges at the end of the one before.
    fn audit_intervals(&mut self, rows: &[RowSnapshot]) {
        let mut accounts: BTreeMap<Account, [(u64, u64); 2]> = BTreeMap::new();
        for row in rows {
            let [start, end] = accounts.entry(self.account(row)).or_default();
            for (sum, gauges) in [(start, row.stats.gauges_at_start), (end, row.stats.gauges)] {
                *sum = (sum.0 + gauges.pending, sum.1 + gauges.open);
            }
        }
        for row in rows {
            let totals = self.totals.entry(self.account(row)).or_default();
            add(totals, sums(&row.stats.counters));
        }
        let mut brought_forward = std::mem::take(&mut self.brought_forward);
        for (&account, &[start, end]) in &accounts {
            let before = brought_forward.remove(&account).unwrap_or_default();
            assert_eq!(before, start, "brought forward to {account:?}");
            self.brought_forward.insert(account, end);

            let sums = &self.totals[&account];
            let sum = |name: &str| sums.get(name).copied().unwrap_or(0);
            let (pending, open) = end;
            let attempts_over = sum("failed") + sum("established") + sum("discarded");
            assert_eq!(sum("attempts"), pending + attempts_over, "{account:?}: {sums:?}");
            let connections = sum("established") + sum("adopted");
            assert_eq!(connections, open + sum("closed"), "{account:?}: {sums:?}");
        }
        assert!(
            brought_forward.values().all(|&balance| balance == (0, 0)),
            "rows with connections are missing: {brought_forward:?}"
        );
    }

    /// Checks that the merged snapshot has the sums of all snapshots and the gauges of the last one.
    fn audit_whole(&self, last: &[RowSnapshot]) {
        let now = |rows: &[RowSnapshot]| {
            let mut now: BTreeMap<_, [u64; 3]> = BTreeMap::new();
            for row in rows {
                let gauges =
                    [row.stats.gauges.pending, row.stats.gauges.open, row.stats.time_wait_now];
                let sums = now.entry(self.account(row)).or_default();
                sums.iter_mut().zip(gauges).for_each(|(sum, gauge)| *sum += gauge);
            }
            now.retain(|_, gauges| *gauges != [0; 3]);
            now
        };
        let rows = self.whole.rows(By::Port);
        assert_eq!(now(&rows), now(last), "gauges");
        let mut totals: BTreeMap<_, Sums> = BTreeMap::new();
        for row in &rows {
            add(totals.entry(self.account(row)).or_default(), sums(&row.stats.counters));
        }
        totals.retain(|_, sums| !sums.is_empty());
        assert_eq!(totals, self.totals(), "the sums over all snapshots");
    }

    /// Checks that the row statistics count exactly the closes that were reported.
    fn audit_closes(&mut self, rows: &[RowSnapshot]) {
        let ended = |reason| rows.iter().map(|row| row.stats.counters.ended(reason)).sum();
        let counted: BTreeMap<_, u64> = CloseReason::ALL
            .iter()
            .map(|&reason| (reason, ended(reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counted, std::mem::take(&mut self.reported.unaudited));
    }

    fn audit_tables(&self, snapshot: &Snapshot, rows: &[RowSnapshot]) {
        let in_rows: u64 =
            rows.iter().map(|row| row.stats.gauges.pending + row.stats.gauges.open).sum();
        let Tables { connections, pending_closes, .. } = snapshot.tables;
        assert_eq!(connections, self.tracker.open().count() as u64, "open connections");
        assert_eq!(in_rows, connections + pending_closes);
        let old = self.tracker.open().filter(|(_, connection)| connection.is_preexisting());
        let most = old.count() as u64 + pending_closes;
        let in_rows: u64 = rows.iter().map(|row| row.stats.gauges.preexisting).sum();
        assert!(in_rows <= most, "{in_rows} connections older than the trace, not {most}");
        // Each role has one additional row for all other ports.
        let rows = rows.len();
        assert!(
            rows <= self.limits.rows + Role::ALL.len(),
            "{rows} rows, limit {}",
            self.limits.rows
        );
    }

    fn audit_events(&self, snapshot: &Snapshot) {
        let events = self.tracker.events();
        let known = events.delivered + self.tracker.held_records();
        assert_eq!(known, self.given, "records given, and delivered or held");
        assert!(events.in_flight() >= 0, "{events:?}");
        // Sums of impossible counters saturate.
        if [events.seen, events.lost, events.filtered].iter().all(|&count| count < 1 << 60) {
            assert_eq!(snapshot.events.in_flight(), events.in_flight(), "{:?}", snapshot.events);
        }
        assert!(snapshot.events.delivered <= events.delivered);
    }
}

/// Checks the invariants of a row in one interval.
fn audit(row: &RowSnapshot) {
    let RowStats { counters, gauges, gauges_at_start: start, .. } = &row.stats;
    assert_eq!(
        start.pending + counters.attempts,
        gauges.pending + counters.failed() + counters.established + counters.discarded,
        "attempts: {row:?}"
    );
    assert_eq!(
        start.open + counters.established + counters.adopted,
        gauges.open + counters.closed(),
        "connections: {row:?}"
    );
    for (outcome, sum) in
        [(Phase::Handshake, counters.failed()), (Phase::Established, counters.closed())]
    {
        assert_eq!(sum, counters.sum(|reason| reason.phase() == outcome), "{outcome:?}: {row:?}");
    }
    assert_eq!(
        counters.established,
        counters.clean.count() + counters.retransmitted.count() + counters.unmeasured_total(),
        "handshakes: {row:?}"
    );
    assert_eq!(
        TcpState::ALL.iter().map(|&state| gauges.state(state)).sum::<u64>(),
        gauges.pending + gauges.open,
        "states: {row:?}"
    );
    assert!(gauges.preexisting <= gauges.open, "older than the trace: {row:?}");
    assert!(counters.time_wait_entered + counters.time_wait_overflowed <= counters.closed());
    assert!(row.stats.time_wait_peak >= row.stats.time_wait_now, "TIME_WAIT: {row:?}");
    assert!(row.stats.accept_peak == 0 || row.identity.role == Role::Server);
    let waits = counters.accept_wait.count();
    match counters.accept_wait_at_least.count() {
        0 => assert!(waits <= counters.attempts + start.pending + start.open),
        // Inferred waits can belong to connections that closed in an earlier interval.
        inferred => assert!(waits <= inferred, "{row:?}"),
    }
    assert_eq!(counters.accept_wait_at_least.count(), counters.accept_wait_at_most.count());
    for durations in [
        &counters.clean,
        &counters.retransmitted,
        &counters.lifetime,
        &counters.idle,
        &counters.accept_wait,
        &counters.accept_wait_at_least,
        &counters.accept_wait_at_most,
    ] {
        let counted: u64 = durations.buckets().iter().map(|(_, count)| count).sum();
        assert_eq!(counted, durations.count());
    }
}

fn sums(counters: &Counters) -> Sums {
    let mut sums: Sums = [
        ("attempts", counters.attempts),
        ("discarded", counters.discarded),
        ("established", counters.established),
        ("adopted", counters.adopted),
        ("failed", counters.failed()),
        ("closed", counters.closed()),
        ("TIME_WAIT entered", counters.time_wait_entered),
        ("TIME_WAIT overflowed", counters.time_wait_overflowed),
        ("bytes sent", counters.bytes_sent),
        ("bytes received", counters.bytes_received),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into();
    for &reason in CloseReason::ALL {
        sums.insert(reason.id().to_owned(), counters.ended(reason));
    }
    for cause in Unmeasured::ALL {
        sums.insert(cause.name().to_owned(), counters.unmeasured(cause));
    }
    for what in SynQueueEvent::ALL {
        sums.insert(format!("{what:?}"), counters.syn_queue(what));
    }
    let mut durations = |name: &str, durations: &LatencyHistogram| {
        for (bound, count) in durations.buckets() {
            sums.insert(format!("{name} up to {bound}"), count);
        }
    };
    durations("clean", &counters.clean);
    durations("retransmitted", &counters.retransmitted);
    durations("lifetime", &counters.lifetime);
    durations("idle", &counters.idle);
    durations("accept wait", &counters.accept_wait);
    durations("accept wait at least", &counters.accept_wait_at_least);
    durations("accept wait at most", &counters.accept_wait_at_most);
    sums
}

fn add(totals: &mut Sums, sums: Sums) {
    for (name, count) in sums.into_iter().filter(|(_, count)| *count > 0) {
        let total = totals.entry(name).or_default();
        *total = total.saturating_add(count);
    }
}

/// Every column of every row, in each format.
fn report(snapshot: &Snapshot, coverage: Coverage) -> String {
    let mut lines = vec![format!("{:?} {:?}", snapshot.events, snapshot.tables)];
    let interval = Interval {
        end: snapshot.end,
        seconds: (snapshot.end - snapshot.start) as f64 / 1e9,
        has_rates: snapshot.has_rates(),
        clock: ClockAnchor::default(),
        coverage,
    };
    for row in snapshot.rows(By::Port) {
        let row = PortRow::of(row, interval);
        lines.push(serde_json::Value::Object(to_object(COLUMNS, &row)).to_string());
        lines.extend(COLUMNS.iter().map(|column| column.value(&row).to_plain()));
    }
    let findings = diagnose(&Session::default(), snapshot);
    lines.extend(findings.iter().map(|it| format!("{} {} {}", it.place(None), it.title, it.seen)));
    lines.join("\n")
}
