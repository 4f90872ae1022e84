//! What the screen shows: the data as it came, and the view of it, which keys change.

use std::{cmp::Reverse, collections::VecDeque, sync::Arc};

use super::{
    connection_history::ConnectionHistory,
    history::{History, Rates},
    rows::{self, ShownRow, TableColumn},
    update::{Mailbox, SelfUsage, Update},
};
use crate::{
    analysis::diagnose::{Finding, diagnose},
    host::services::Services,
    output::report::Rows,
    tcp::group_by::By,
    trace::session::Session,
    tracker::{RowName, RowSnapshot, Snapshot},
};

/// Connections that ended and are kept: bad ones, and others.
const ENDED: [usize; 2] = [4096, 2048];

/// What has come from the tracker, put together.
#[derive(Clone, Default)]
pub(crate) struct Data {
    pub(crate) history: History,
    pub(crate) living: Vec<Arc<ConnectionHistory>>,
    /// Bad ones and others, each in the order of their ends.
    ended: [VecDeque<Arc<ConnectionHistory>>; 2],
    pub(crate) own: SelfUsage,
    pub(crate) findings: Vec<Finding>,
}

impl Data {
    /// Those that went wrong, the latest first; those that live; all others.
    fn connections(&self) -> impl Iterator<Item = &Arc<ConnectionHistory>> {
        let [bad, others] = &self.ended;
        bad.iter().rev().chain(&self.living).chain(others.iter().rev())
    }
}

/// Which of the views is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// The table of rows.
    #[default]
    Rows,
    /// One row, and its connections.
    Row(RowName),
    /// One connection's connection, and how far it is scrolled.
    Connection(RowName, usize),
    /// What is wrong.
    Findings(usize),
    Help,
}

/// The column by which rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// What went wrong, then what goes on.
    #[default]
    Trouble,
    /// The column of this figure.
    Column(&'static str),
}

/// All of it.
pub(crate) struct Model {
    pub(crate) session: Arc<Session>,
    data: Data,
    /// What is looked at while it is paused.
    frozen: Option<Box<Data>>,
    pub(crate) view: View,
    /// The view before help or the findings.
    pub(crate) before: View,
    pub(crate) asked: Rows,
    pub(crate) sort: Sort,
    pub(crate) reversed: bool,
    /// Since the start instead of lately.
    pub(crate) totals: bool,
    /// Text that rows must have; typed at the moment if `typing`.
    pub(crate) filter: String,
    pub(crate) typing: bool,
    /// Without lines and colours, to be copied.
    pub(crate) plain: bool,
    pub(crate) colours: bool,
    pub(crate) columns: Vec<TableColumn>,
    wide: bool,
    pub(crate) services: Services,
    /// By the present grouping, filter and order.
    pub(crate) rows: Vec<ShownRow>,
    pub(crate) selected: Option<RowName>,
    /// The connection that is selected in its row's list.
    pub(crate) selected_connection: usize,
    /// The one whose connection is shown.
    pub(crate) shown: Option<Arc<ConnectionHistory>>,
    /// The trace is over: what is shown stays so.
    pub(crate) is_over: bool,
}

/// How the screen begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) asked: Rows,
    pub(crate) wide: bool,
    pub(crate) colours: bool,
    /// Names for ports.
    pub(crate) services: Services,
}

impl Model {
    pub(crate) fn new(options: Options) -> Self {
        let Options { asked, wide, colours, services } = options;
        Self {
            session: Arc::default(),
            data: Data::default(),
            frozen: None,
            view: View::Rows,
            before: View::Rows,
            sort: Sort::Trouble,
            reversed: false,
            totals: false,
            filter: String::new(),
            typing: false,
            plain: false,
            colours,
            columns: rows::columns(asked.by, wide),
            wide,
            asked,
            services,
            rows: Vec::new(),
            selected: None,
            selected_connection: 0,
            shown: None,
            is_over: false,
        }
    }

    /// Takes what has come since; tells whether that was anything.
    pub(crate) fn look(&mut self, slot: &Mailbox) -> bool {
        let is_over = slot.is_over();
        let (session, update) = slot.take();
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

    /// The next interval is over.
    pub(crate) fn take(&mut self, update: Update) {
        let Update { snapshot, living, ended, own } = update;
        let rates = rates(&snapshot);
        self.data.history.add(snapshot, rates);
        self.data.living = living;
        self.data.own = own;
        for history in ended {
            let at = usize::from(!history.is_bad());
            self.data.ended[at].push_back(history);
            if self.data.ended[at].len() > ENDED[at] {
                self.data.ended[at].pop_front();
            }
        }
        self.data.findings = diagnose(&self.session, self.data.history.minute());
        if self.frozen.is_none() {
            self.renew();
            self.follow_shown();
        }
    }

    /// The connection whose connection is shown has gone on.
    fn follow_shown(&mut self) {
        let Some(shown) = &self.shown else { return };
        if let Some(later) = self.data.connections().find(|history| history.is_same(shown)) {
            self.shown = Some(later.clone());
        }
    }

    /// What is looked at.
    pub(crate) fn data(&self) -> &Data {
        self.frozen.as_deref().unwrap_or(&self.data)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    pub(crate) fn pause(&mut self, pause: bool) {
        if pause != self.is_paused() {
            self.frozen = pause.then(|| Box::new(self.data.clone()));
            self.renew();
        }
    }

    /// Puts the rows together in another way.
    pub(crate) fn regroup(&mut self, by: By) {
        self.asked.by = by;
        self.columns = rows::columns(by, self.wide);
        self.selected = None;
    }

    /// Makes the rows anew, after the data or what is asked of it has changed.
    pub(crate) fn renew(&mut self) {
        let by = self.asked.by;
        let mut rows = rows::rows(&self.session, &self.data().history, by, self.totals);
        let wanted = self.filter.to_lowercase();
        rows.retain(|row| {
            let of = row.over(self.totals);
            self.asked.show(&of.row) && (wanted.is_empty() || self.text_of(row).contains(&wanted))
        });
        match self.sort {
            Sort::Trouble => rows.sort_by_key(|row| {
                let of = row.over(self.totals);
                Reverse((
                    of.bad(),
                    row.refresh.row.stats.gauges.open,
                    of.row.stats.counters.established,
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

    /// What a filter looks for it in.
    fn text_of(&self, row: &ShownRow) -> String {
        let cells = self.columns.iter().filter(|column| column.is_text() || column.is_port());
        let mut text: Vec<_> =
            cells.map(|column| row.value(column, self.totals).to_plain()).collect();
        text.extend(row.name.port.and_then(|port| self.services.name(port)).map(str::to_owned));
        text.join(" ").to_lowercase()
    }

    /// Where the selected row is.
    pub(crate) fn selected_index(&self) -> usize {
        let is_selected = |row: &ShownRow| Some(&row.name) == self.selected.as_ref();
        self.rows.iter().position(is_selected).unwrap_or(0)
    }

    /// The row of the view, as it is now.
    pub(crate) fn row(&self, name: &RowName) -> Option<&ShownRow> {
        self.rows.iter().find(|row| row.name == *name)
    }

    /// The row's connections.
    pub(crate) fn connections_of(&self, name: &RowName) -> Vec<&Arc<ConnectionHistory>> {
        let by = self.asked.by;
        self.data().connections().filter(|history| history.is_of(by, name)).collect()
    }
}

/// Text upwards, and numbers with the largest first.
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
