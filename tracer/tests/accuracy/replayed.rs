//! Replays a recording and describes the result like [`super::expected`].

use synfin::{
    output::{
        column::Value,
        port_columns::COLUMNS,
        port_row::{Interval, PortRow},
    },
    tcp::{
        coverage::{Coverage, OptionalHook},
        group_by::By,
        handshake::Handshake,
        role::Role,
    },
    trace::{
        decode::decode,
        recording::{Frame, Reader},
        time::ClockAnchor,
    },
    tracker::{Change, ChangeKinds, Closed, Connection, Limits, Tracker},
};

use super::expected::{SERVER, Scenario};

/// The results of a scenario.
pub(crate) struct Replayed {
    /// The connections, sorted by their lines.
    pub(crate) connections: Vec<ReplayedConnection>,
    rows: Vec<PortRow>,
    coverage: Coverage,
    /// Hook runs that the kernel skipped, which make the results unreliable.
    pub(crate) missed: u64,
    /// Event counts that do not balance.
    troubles: Vec<String>,
}

/// The result for one connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplayedConnection {
    /// A line in the form of [`Scenario::synfin`].
    pub(crate) line: String,
    /// Duration of the handshake in microseconds; `None` if not measured.
    pub(crate) took_us: Option<u32>,
}

impl Replayed {
    /// Replays a recording with all hooks that it has.
    pub(crate) fn of(recording: &[u8]) -> Self {
        Self::by(recording, |coverage| coverage)
    }

    /// Replays a recording with its tracepoints only.
    pub(crate) fn inferred(recording: &[u8]) -> Self {
        Self::by(recording, |coverage| coverage.only(&[OptionalHook::Resets]))
    }

    fn by(recording: &[u8], limit: impl Fn(Coverage) -> Coverage) -> Self {
        let mut ended = Ended::default();
        let mut tracker: Option<Tracker> = None;
        let (mut clock, mut coverage) = (ClockAnchor::default(), Coverage::default());
        for frame in Reader::new(recording).expect("a recording") {
            let frame = frame.expect("a whole recording");
            if let Frame::Session(session) = &frame {
                clock = session.clock;
                let start = clock.monotonic_ns;
                let filters = vec![session.filter.clone()];
                let new = Tracker::new(Limits::default(), start)
                    .with_changes(ChangeKinds::CLOSED)
                    .with_filters(filters);
                coverage = limit(session.coverage);
                tracker = Some(new.with_coverage(coverage));
            } else {
                let tracker = tracker.as_mut().expect("the session is first");
                decode(&frame, |input| tracker.apply(&input));
                ended.take(tracker);
            }
        }
        let mut tracker = tracker.expect("a session");
        tracker.finish();
        ended.take(&mut tracker);
        Self::at_end(&mut tracker, (clock, coverage), ended)
    }

    fn at_end(
        tracker: &mut Tracker,
        (clock, coverage): (ClockAnchor, Coverage),
        Ended(mut connections): Ended,
    ) -> Self {
        connections.extend(tracker.open().map(|(_, connection)| open(connection)));
        let snapshot = tracker.take_snapshot();
        connections.sort();
        let events = tracker.events();
        let mut troubles = Vec::new();
        if events.gaps > 0 || events.lost > 0 || events.unreadable > 0 || events.in_flight() != 0 {
            troubles.push(format!("the event counts do not balance: {events:?}"));
        }
        let seconds = (snapshot.end - snapshot.start) as f64 / 1e9;
        let interval = Interval {
            end: snapshot.end,
            seconds,
            has_rates: snapshot.has_rates(),
            clock,
            coverage,
        };
        let rows = snapshot.rows(By::Port).into_iter();
        let rows = rows.map(|row| PortRow::of(row, interval)).collect();
        Self { connections, rows, coverage, missed: events.missed, troubles }
    }

    /// Lists the differences from the expected results.
    pub(crate) fn differences(&self, scenario: &Scenario) -> Vec<String> {
        let mut differences = self.troubles.clone();
        if self.missed > 0 {
            differences.push(format!("{} runs of hooks were skipped", self.missed));
        }
        let lines: Vec<_> = self.connections.iter().map(|seen| seen.line.as_str()).collect();
        if !lines.iter().copied().eq(scenario.synfin.iter().map(|line| self.known(line))) {
            let wanted = scenario.synfin.join(" | ");
            differences.push(format!("synfin says {}, not {wanted}", lines.join(" | ")));
        }
        let (least, most) = scenario.took;
        for us in self.connections.iter().filter_map(|seen| seen.took_us) {
            if !(least * 1000..=most * 1000).contains(&us) {
                differences.push(format!("a handshake took {us} us, not {least} to {most} ms"));
            }
        }
        let shown = scenario.syn_queue.filter(|_| self.coverage.has(OptionalHook::SynQueue));
        let names =
            ["entered", "completed", "dropped", "expired"].map(|it| format!("syn_queue.{it}"));
        let counts = names.iter().zip(shown.into_iter().flatten());
        let syn_queue = counts.map(|(column, wanted)| ("server", SERVER, column.as_str(), wanted));
        for (role, port, column, wanted) in scenario.columns.iter().copied().chain(syn_queue) {
            match self.value(role, port, column) {
                Ok(value) if value == Value::Int(wanted) => {}
                Ok(value) => {
                    differences
                        .push(format!("{column} of {role} {port} is {value:?}, not {wanted}"));
                }
                Err(error) => differences.push(error),
            }
        }
        differences
    }

    /// An expected line without the uncertainty that an optional hook removes: such a scenario fills
    /// the table.
    fn known<'a>(&self, line: &'a str) -> &'a str {
        match line.strip_suffix(" TIME_WAIT?") {
            Some(without) if self.coverage.has(OptionalHook::TimeWait) => without,
            _ => line,
        }
    }

    /// The value of a row's column.
    pub(crate) fn value(&self, role: &str, port: u16, key: &str) -> Result<Value, String> {
        let of = |key: &str, row: &PortRow| {
            let values = COLUMNS.iter().map(|column| (column.info.key, column.value(row)));
            let mut values = values.filter_map(|(name, value)| match value {
                // Each of several counts has a name of its own after the column's.
                Value::Counts(counts) => {
                    let word = key.strip_prefix(name)?.strip_prefix('.')?;
                    let (_, count) = counts.into_iter().find(|(name, _)| *name == word)?;
                    Some(Value::Int(count))
                }
                value => (name == key).then_some(value),
            });
            values.next().ok_or_else(|| format!("no column {key}"))
        };
        let mut found = None;
        for row in &self.rows {
            let its_port = if port == 0 { Value::Unknown } else { Value::Int(port.into()) };
            let is_it = of("port", row)? == its_port;
            if is_it && row.row.identity.role.name() == role {
                found = Some(of(key, row)?);
            }
        }
        found.ok_or_else(|| format!("no row for {role} {port}, expected for {key}"))
    }
}

#[derive(Default)]
struct Ended(Vec<ReplayedConnection>);

impl Ended {
    fn take(&mut self, tracker: &mut Tracker) {
        for change in tracker.drain_changes() {
            if let Change::Closed(closed) = change {
                self.closed(&closed);
            }
        }
    }

    fn closed(&mut self, closed: &Closed) {
        let time_wait = match closed.time_wait {
            Some(true) => " TIME_WAIT",
            Some(false) => "",
            None => " TIME_WAIT?",
        };
        let end = format!("{}{time_wait}", closed.reason.id());
        self.0.push(connection(closed.role, closed.handshake, &end));
    }
}

fn open(connection: &Connection) -> ReplayedConnection {
    self::connection(
        connection.role,
        connection.handshake,
        &format!("open {}", connection.state.name()),
    )
}

fn connection(role: Role, handshake: Option<Handshake>, end: &str) -> ReplayedConnection {
    let took_us = handshake.and_then(|handshake| handshake.us());
    ReplayedConnection { line: format!("{} {} {end}", role.name(), class(handshake)), took_us }
}

fn class(handshake: Option<Handshake>) -> String {
    match handshake {
        None => "-".to_owned(),
        Some(Handshake::Unmeasured(cause)) => format!("unmeasured({})", cause.name()),
        Some(known) => known.class().to_owned(),
    }
}
