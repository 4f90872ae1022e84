//! The state of the screen: the received data, and the view of it, which keys change.

use std::{cmp::Reverse, collections::VecDeque, sync::Arc};

use super::{
    connection_history::ConnectionHistory,
    history::{History, Rates},
    rows::{self, ShownRow, TableColumn},
    update::{Mailbox, SelfUsage, Update},
};
use crate::{
    findings::{Finding, RowFindings},
    host::services::Services,
    output::report::RowSelection,
    tcp::group_by::By,
    trace::{session::Session, time::Nanos},
    tracker::{RowName, RowSnapshot, Snapshot},
};

/// Maximum number of closed connections kept: abnormal ones, and others.
const CLOSED_LIMITS: [usize; 2] = [4096, 2048];

/// The data of all updates so far.
#[derive(Clone, Default)]
pub(crate) struct Data {
    pub(crate) history: History,
    pub(crate) open: Vec<Arc<ConnectionHistory>>,
    /// Closed connections, abnormal ones and others, each ordered by the time of the close.
    closed: [VecDeque<Arc<ConnectionHistory>>; 2],
    pub(crate) usage: SelfUsage,
    /// The findings of the last minute in each row.
    in_rows: RowFindings,
    /// The same, joined.
    pub(crate) findings: Vec<Finding>,
}

impl Data {
    /// Abnormally closed connections, latest first; then open ones; then other closed ones.
    fn connections(&self) -> impl Iterator<Item = &Arc<ConnectionHistory>> {
        let [abnormal, others] = &self.closed;
        abnormal.iter().rev().chain(&self.open).chain(others.iter().rev())
    }
}

/// The current view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// The table of rows.
    #[default]
    Rows,
    /// One row and its connections.
    Row(RowName),
    /// The timeline of a connection of this row, and the scroll position.
    Connection(RowName, usize),
    /// The findings, and the scroll position.
    Findings(usize),
    Help,
}

/// The sort order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// By the number of abnormal closes, then by activity.
    #[default]
    Abnormal,
    /// By the column with this key.
    Column(&'static str),
}

/// The data and the view.
pub(crate) struct Model {
    pub(crate) session: Arc<Session>,
    data: Data,
    /// The data shown while the screen is paused.
    frozen: Option<Box<Data>>,
    pub(crate) view: View,
    /// The view to return to from the help or the findings.
    pub(crate) previous_view: View,
    pub(crate) selection: RowSelection,
    pub(crate) sort: Sort,
    pub(crate) reversed: bool,
    /// Show totals since the start instead of recent values.
    pub(crate) totals: bool,
    /// Text that the rows must contain; the user is editing it if `typing`.
    pub(crate) filter: String,
    pub(crate) typing: bool,
    /// Without lines and colours, for copying.
    pub(crate) plain: bool,
    pub(crate) colours: bool,
    pub(crate) columns: Vec<TableColumn>,
    wide: bool,
    pub(crate) services: Services,
    /// The rows by the current grouping, filter and order.
    pub(crate) rows: Vec<ShownRow>,
    pub(crate) selected: Option<RowName>,
    /// Index of the selected connection in its row's list.
    pub(crate) selected_connection: usize,
    /// The connection that `View::Connection` shows.
    pub(crate) shown: Option<Arc<ConnectionHistory>>,
    /// Whether the trace has ended, so that no updates follow.
    pub(crate) is_over: bool,
}

/// Initial options of the screen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) selection: RowSelection,
    pub(crate) wide: bool,
    pub(crate) colours: bool,
    /// Service names of ports; empty: ports are shown as numbers only.
    pub(crate) services: Services,
}

impl Model {
    pub(crate) fn new(options: Options) -> Self {
        let Options { selection, wide, colours, services } = options;
        Self {
            session: Arc::default(),
            data: Data::default(),
            frozen: None,
            view: View::Rows,
            previous_view: View::Rows,
            sort: Sort::Abnormal,
            reversed: false,
            totals: false,
            filter: String::new(),
            typing: false,
            plain: false,
            colours,
            columns: rows::columns(selection.by, wide),
            wide,
            selection,
            services,
            rows: Vec::new(),
            selected: None,
            selected_connection: 0,
            shown: None,
            is_over: false,
        }
    }

    /// Takes what is in the mailbox. Returns whether anything changed.
    pub(crate) fn receive(&mut self, mailbox: &Mailbox) -> bool {
        let is_over = mailbox.is_over();
        let (session, update) = mailbox.take();
        let is_new = session.is_some() || update.is_some() || is_over != self.is_over;
        if let Some(session) = session {
            self.session = session;
        }
        if let Some(update) = update {
            self.take(update);
        }
        self.is_over = is_over;
        is_new
    }

    /// Adds an update to the data.
    pub(crate) fn take(&mut self, update: Update) {
        let Update { snapshot, open, closed, usage } = update;
        let rates = rates(&snapshot);
        self.data.history.add(snapshot, rates);
        self.data.open = open;
        self.data.usage = usage;
        for history in closed {
            let at = usize::from(!history.is_bad());
            self.data.closed[at].push_back(history);
            if self.data.closed[at].len() > CLOSED_LIMITS[at] {
                self.data.closed[at].pop_front();
            }
        }
        self.data.in_rows = RowFindings::of(&self.session, self.data.history.minute());
        self.data.findings = self.data.in_rows.clone().joined();
        if self.frozen.is_none() {
            self.update_rows();
            self.follow_shown();
        }
    }

    /// Updates the connection that is shown from the latest data.
    fn follow_shown(&mut self) {
        let Some(shown) = &self.shown else { return };
        if let Some(later) =
            self.data.connections().find(|history| history.is_same_connection(shown))
        {
            self.shown = Some(later.clone());
        }
    }

    /// The data to show: the frozen data while the screen is paused.
    pub(crate) fn data(&self) -> &Data {
        self.frozen.as_deref().unwrap_or(&self.data)
    }

    /// Whether the first interval is not complete yet, so that nothing is known.
    pub(crate) fn is_collecting(&self) -> bool {
        self.data().history.last().end == 0
    }

    /// The end of the last interval, or the start of the trace before that (CLOCK_MONOTONIC);
    /// `None` before the trace begins.
    pub(crate) fn time(&self) -> Option<Nanos> {
        let end = self.data().history.last().end;
        let time = if end == 0 { self.session.clock.monotonic_ns } else { end };
        (time != 0).then_some(time)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    pub(crate) fn pause(&mut self, pause: bool) {
        if pause != self.is_paused() {
            self.frozen = pause.then(|| Box::new(self.data.clone()));
            self.update_rows();
        }
    }

    /// Groups the rows by another key.
    pub(crate) fn regroup(&mut self, by: By) {
        self.selection.by = by;
        self.columns = rows::columns(by, self.wide);
        self.selected = None;
    }

    /// Rebuilds the rows after a change of the data, grouping, filter or order.
    pub(crate) fn update_rows(&mut self) {
        let by = self.selection.by;
        let Data { history, in_rows, .. } = self.data();
        let mut rows = rows::rows(&self.session, history, in_rows, by, self.totals);
        let wanted = self.filter.to_lowercase();
        rows.retain(|row| {
            let values = row.recent_or_total(self.totals);
            self.selection.includes(&values.row)
                && (wanted.is_empty() || self.text_of(row).contains(&wanted))
        });
        match self.sort {
            Sort::Abnormal => rows.sort_by_key(|row| {
                let values = row.recent_or_total(self.totals);
                Reverse((
                    values.finding.map(|(severity, _)| severity),
                    values.bad(),
                    row.refresh.row.stats.gauges.open,
                    values.row.stats.counters.established,
                ))
            }),
            Sort::Column(key) => {
                if let Some(column) = self.columns.iter().find(|column| column.key() == key) {
                    sort(&mut rows, column, self.totals);
                }
            }
        }
        if self.reversed {
            rows.reverse();
        }
        self.rows = rows;
    }

    /// The text of a row that the filter searches.
    fn text_of(&self, row: &ShownRow) -> String {
        let cells = self.columns.iter().filter(|column| column.is_text() || column.is_port());
        let mut text: Vec<_> =
            cells.map(|column| row.value(column, self.totals).to_plain()).collect();
        text.extend(row.name.port.and_then(|port| self.services.name(port)).map(str::to_owned));
        text.join(" ").to_lowercase()
    }

    /// Index of the selected row; 0 if it is not among the rows.
    pub(crate) fn selected_index(&self) -> usize {
        let is_selected = |row: &ShownRow| Some(&row.name) == self.selected.as_ref();
        self.rows.iter().position(is_selected).unwrap_or(0)
    }

    /// The current row of this name, or `None` if it is not among the rows.
    pub(crate) fn row(&self, name: &RowName) -> Option<&ShownRow> {
        self.rows.iter().find(|row| row.name == *name)
    }

    /// The connections of a row that are kept.
    pub(crate) fn connections_of(&self, name: &RowName) -> Vec<&Arc<ConnectionHistory>> {
        let by = self.selection.by;
        self.data().connections().filter(|history| history.belongs_to(by, name)).collect()
    }
}

/// Sorts text in ascending order and numbers in descending order.
fn sort(rows: &mut [ShownRow], column: &TableColumn, totals: bool) {
    let value = |row: &ShownRow| row.value(column, totals);
    if column.is_text() {
        rows.sort_by(|one, other| rows::order(&value(one), &value(other)));
    } else {
        rows.sort_by(|one, other| rows::order(&value(other), &value(one)));
    }
}

fn rates(snapshot: &Snapshot) -> Rates {
    let rows = snapshot.rows(By::Netns);
    let seconds = snapshot.seconds().max(1e-3);
    let sum = |count: fn(&RowSnapshot) -> u64| rows.iter().map(count).sum::<u64>() as f64 / seconds;
    Rates { new: sum(RowSnapshot::new_connections), bad: sum(RowSnapshot::bad) }
}
