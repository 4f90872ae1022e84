//! A tracker with a fake kernel as its input.

use synfin::{
    tcp::{
        close_reason::CloseReason,
        coverage::{Coverage, OptionalHook},
        group_by::By,
        role::Role,
    },
    trace::{event::Input, filter::Filter, time::Nanos},
    tracker::{
        Change, ChangeKinds, Closed, Common, Connection, InferredAccept, Limits, RowSnapshot,
        Tracker,
    },
};

use crate::{ELSEWHERE, FakeKernel, HERE, Receiver, SECOND};

/// A tracker, and the closes and accepts that it has reported.
pub struct Tracked {
    /// The tracker under test.
    pub tracker: Tracker,
    /// The closed connections that it has reported.
    pub closed: Vec<Closed>,
    /// The connections that it has inferred to be accepted.
    pub accepted: Vec<InferredAccept>,
}

impl Receiver for Tracked {
    fn receive(&mut self, input: Input) {
        self.apply(&input);
    }
}

/// The coverage with all optional hooks.
#[must_use]
pub fn all_hooks() -> Coverage {
    Coverage::from_names(&OptionalHook::ALL.map(OptionalHook::name))
}

impl Tracked {
    /// Wraps this tracker.
    #[must_use]
    pub fn new(tracker: Tracker) -> Self {
        let kinds = ChangeKinds { accepted: true, ..ChangeKinds::CLOSED };
        let tracker = tracker.with_changes(kinds);
        Self { tracker, closed: Vec::new(), accepted: Vec::new() }
    }

    /// Applies the next input.
    pub fn apply(&mut self, input: &Input) {
        self.tracker.apply(input);
        self.take_changes();
    }

    /// Ends the trace.
    pub fn finish(&mut self) {
        self.tracker.finish();
        self.take_changes();
    }

    fn take_changes(&mut self) {
        for change in self.tracker.drain_changes() {
            match change {
                Change::Closed(closed) => self.closed.push(closed),
                Change::Accepted(accepted) => self.accepted.push(accepted),
                Change::Transition { .. } | Change::Established { .. } => {}
            }
        }
    }

    /// The close reasons of all closed connections, in order.
    #[must_use]
    pub fn reasons(&self) -> Vec<CloseReason> {
        self.closed.iter().map(|closed| closed.reason).collect()
    }

    /// Returns the only open connection.
    ///
    /// # Panics
    ///
    /// If there is none, or more than one.
    #[must_use]
    pub fn only_connection(&self) -> &Connection {
        let open: Vec<_> = self.tracker.open().collect();
        match open[..] {
            [(_, connection)] => connection,
            _ => panic!("expected one connection, found {open:?}"),
        }
    }

    /// Number of records that must have been lost because others contradict one another.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.tracker.events().gaps
    }

    /// The rows of a report at this time.
    pub fn rows(&mut self) -> Vec<RowSnapshot> {
        self.tracker.take_snapshot().rows(By::Port)
    }

    /// Returns the row of a port.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn row(&mut self, role: Role, port: u16) -> RowSnapshot {
        let rows = self.rows();
        let mut found = rows
            .into_iter()
            .filter(|row| (row.identity.role, &row.identity.port) == (role, &Common::One(port)));
        found.next().unwrap_or_else(|| panic!("no row for {} {port}", role.name()))
    }

    /// Returns the only row.
    ///
    /// # Panics
    ///
    /// If there is none, or more than one.
    #[track_caller]
    pub fn only_row(&mut self) -> RowSnapshot {
        let mut rows = self.rows();
        assert_eq!(rows.len(), 1, "expected one row, found {rows:?}");
        rows.remove(0)
    }
}

/// A traced fake kernel; each report is a microsecond after the one before.
pub type TracedKernel = FakeKernel<Tracked>;

impl TracedKernel {
    const START: Nanos = 1_000 * SECOND;

    /// Traced from the start, without a scan.
    #[must_use]
    pub fn traced() -> Self {
        Self::with_limits(Limits::default())
    }

    /// Traced by a tracker with these limits.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self::new(Self::START, Tracked::new(Tracker::new(limits, Self::START)))
    }

    /// Traced with this filter.
    #[must_use]
    pub fn filtered(filter: Filter) -> Self {
        let tracker = Tracker::new(Limits::default(), Self::START).with_filters(vec![filter]);
        Self::new(Self::START, Tracked::new(tracker))
    }

    /// Traced after scans of all namespaces that found no sockets.
    #[must_use]
    pub fn scanned() -> Self {
        let mut kernel = Self::traced();
        kernel.scan(HERE, &[]);
        kernel.scan(ELSEWHERE, &[]);
        kernel
    }

    /// Adds all optional hooks to the tracker's coverage.
    #[must_use]
    pub fn with_all_hooks(mut self) -> Self {
        let tracker = std::mem::replace(&mut self.tracker, Tracker::new(Limits::default(), 0));
        self.tracker = tracker.with_coverage(all_hooks());
        self
    }
}
