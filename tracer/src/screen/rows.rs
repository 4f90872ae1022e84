//! The rows of the screen's table: rates over the last refresh and percentiles over the last
//! minute, or totals since the start.

use std::cmp::Ordering;

use super::history::History;
use crate::{
    findings::RowFindings,
    output::{
        column::{Column, Value, Visibility},
        column_kind::ColumnKind,
        port_columns::COLUMNS,
        port_row::PortRow,
    },
    tcp::group_by::By,
    trace::session::Session,
    tracker::{RowName, Snapshot},
};

/// A column, and the period that it covers unless totals are shown.
pub(crate) struct TableColumn {
    pub(crate) column: &'static Column<PortRow>,
    period: Period,
    /// Whether names are truncated to keep this column on a narrow screen.
    pub(crate) is_first: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Period {
    /// The last refresh, for rates and current values.
    Refresh,
    /// The last minute, for percentiles, shares and reasons, which need more connections.
    Minute,
}

/// The ten standard columns.
const SHOWN: [(&str, Period); 10] = [
    ("role", Period::Minute),
    ("port", Period::Minute),
    ("owner", Period::Minute),
    ("new_per_s", Period::Refresh),
    ("bad_per_s", Period::Refresh),
    ("handshake.clean.p99_us", Period::Minute),
    ("handshake.retransmitted_pct", Period::Minute),
    ("open", Period::Refresh),
    ("time_wait.now", Period::Refresh),
    ("why", Period::Minute),
];

/// The columns of the table: the standard ones and those that identify rows grouped `by` the key,
/// or all columns of tables if `wide`.
pub(crate) fn columns(by: By, wide: bool) -> Vec<TableColumn> {
    let is_of_rows = |column: &Column<PortRow>| matches!(column.info.visibility, Visibility::Grouped(group, _) if group == by);
    let period = |column: &Column<PortRow>| {
        SHOWN.iter().find(|(key, _)| *key == column.info.key).map(|&(_, period)| period)
    };
    // In the order of `COLUMNS`, with the columns of the screen's table first.
    let (first, more): (Vec<_>, Vec<_>) = COLUMNS
        .iter()
        .filter(|column| {
            !matches!(
                column.info.visibility,
                Visibility::Data | Visibility::Footer | Visibility::Json
            )
        })
        .partition(|&column| period(column).is_some() || is_of_rows(column));
    let column = |is_first| {
        move |column| TableColumn {
            column,
            period: period(column).unwrap_or(Period::Minute),
            is_first,
        }
    };
    let more = if wide { more } else { Vec::new() };
    first.into_iter().map(column(true)).chain(more.into_iter().map(column(false))).collect()
}

impl TableColumn {
    /// Whether the column is sorted as text.
    pub(crate) fn is_text(&self) -> bool {
        matches!(
            self.column.info.kind,
            ColumnKind::Word(_) | ColumnKind::Text | ColumnKind::Address
        )
    }

    pub(crate) fn is_port(&self) -> bool {
        self.key() == "port"
    }

    pub(crate) fn key(&self) -> &'static str {
        self.column.info.key
    }
}

/// A row over each period.
pub(crate) struct ShownRow {
    pub(crate) name: RowName,
    pub(crate) refresh: PortRow,
    pub(crate) minute: PortRow,
    pub(crate) total: PortRow,
}

impl ShownRow {
    /// The row by which the table is sorted and filtered: recent values, or the total with
    /// `totals`.
    pub(crate) fn recent_or_total(&self, totals: bool) -> &PortRow {
        if totals { &self.total } else { &self.minute }
    }

    /// The value of a cell; with `totals`, since the start.
    pub(crate) fn value(&self, column: &TableColumn, totals: bool) -> Value {
        let row = match column.period {
            _ if totals => &self.total,
            Period::Refresh => &self.refresh,
            Period::Minute => &self.minute,
        };
        column.column.value(row)
    }
}

/// All rows with data for the last minute, which has these findings; with `totals`, since the start.
pub(crate) fn rows(
    session: &Session,
    history: &History,
    in_rows: &RowFindings,
    by: By,
    totals: bool,
) -> Vec<ShownRow> {
    let port_rows = |snapshot: &Snapshot, findings: &RowFindings| {
        PortRow::with_findings(session, snapshot, by, findings)
    };
    // Only the rows by which the table is sorted show findings.
    let none = RowFindings::default();
    let of_total =
        if totals { RowFindings::of(session, history.total()) } else { RowFindings::default() };
    let last = port_rows(history.last(), &none);
    let minute = port_rows(history.minute(), in_rows);
    let total = port_rows(history.total(), &of_total);
    let find = |rows: &[PortRow], name: &RowName| {
        let at = rows.binary_search_by(|row| row.row.identity.name.cmp(name)).ok()?;
        Some(rows[at].clone())
    };
    let names = if totals { &total } else { &minute };
    let shown = names.iter().map(|row| {
        let name = row.row.identity.name.clone();
        ShownRow {
            refresh: find(&last, &name).unwrap_or_else(|| row.emptied()),
            minute: find(&minute, &name).unwrap_or_else(|| row.emptied()),
            total: find(&total, &name).unwrap_or_else(|| row.emptied()),
            name,
        }
    });
    shown.collect()
}

/// The ascending order of a column: unknown values first, then by number or text.
pub(crate) fn order(one: &Value, other: &Value) -> Ordering {
    number(one).total_cmp(&number(other)).then_with(|| text(one).cmp(&text(other)))
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Int(number) | Value::Micros(number) | Value::MicrosAtLeast(number) => *number as f64,
        Value::Float(number) | Value::Seconds(number) => *number,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Unknown => -1.0,
        _ => 0.0,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Word(_)
        | Value::UnknownWord(_)
        | Value::Text(_)
        | Value::Id(_)
        | Value::Multiple(_) => value.to_plain(),
        _ => String::new(),
    }
}
