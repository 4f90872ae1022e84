//! One side of a comparison: an interval, or the sum of reports read from JSON.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

use super::{buckets::Buckets, measure::Measure};
use crate::{
    findings::RowFindings,
    output::{
        column::Value as Cell, port_columns::COLUMNS, port_row::PortRow, report::RowSelection,
    },
    tcp::close_reason::{Class, CloseReason},
    trace::session::Session,
    tracker::Snapshot,
};

/// The supported version of reports.
const SCHEMA: u64 = 1;

/// The name of a row, as its report groups rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowName {
    /// Client or server.
    pub role: String,
    /// The port, destination, owner or namespace.
    pub what: String,
}

/// One side of a comparison.
#[derive(Debug, Default, PartialEq)]
pub struct Side {
    /// Kernel, synfin and the settings of the system, by name.
    pub host: BTreeMap<String, String>,
    /// Length in seconds.
    pub seconds: f64,
    /// The rows, by name.
    pub rows: BTreeMap<RowName, Row>,
    /// Counts are lower bounds.
    pub lower_bounds: bool,
    /// The grouping of rows (`--by`).
    by: Option<String>,
}

/// Why reports cannot be read.
#[derive(Debug, Error)]
pub enum SideError {
    /// A line is not a report.
    #[error("line {0} is not a report of synfin: `synfin report -o json` writes one per line")]
    NoReport(usize),
    /// A report has another version.
    #[error("line {0} is a report of schema {1}, not {SCHEMA}: another version of synfin wrote it")]
    OtherSchema(usize, Value),
    /// A report groups its rows differently from those before.
    #[error("line {0} groups rows by {1}, the lines before by {2}")]
    OtherRows(usize, String, String),
    /// There is no report.
    #[error("it contains no report")]
    Nothing,
}

/// A row, added up over all intervals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub(super) established: u64,
    pub(super) adopted: u64,
    pub(super) failed: u64,
    pub(super) abnormal: u64,
    pub(super) retransmitted: u64,
    pub(super) time_wait_entered: u64,
    pub(super) listener_drops: Option<u64>,
    pub(super) resets: Option<u64>,
    pub(super) clean: Buckets,
    pub(super) lifetime: Buckets,
    /// Counts of close reasons.
    pub(super) reasons: BTreeMap<String, u64>,
    owner: Option<String>,
}

impl Row {
    /// Connections that were established, adopted or failed.
    pub(super) fn connections(&self) -> u64 {
        self.established.saturating_add(self.adopted).saturating_add(self.failed)
    }

    /// Connections that failed or ended abnormally.
    pub(super) fn bad(&self) -> u64 {
        let bad = self.reasons.iter().filter(|(reason, _)| is_bad(reason));
        bad.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }

    /// The process that owns the sockets; `None` if unknown.
    pub(super) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The share of connections, per thousand.
    pub(super) fn share(&self, count: u64) -> Option<Measure> {
        Measure::share(count, self.connections())
    }

    /// The number of events per thousand connections.
    pub(super) fn events(&self, count: u64) -> Option<Measure> {
        Measure::events(count, self.connections())
    }

    fn add(&mut self, row: &impl ReportRow) {
        let add = |sum: &mut u64, key| *sum = sum.saturating_add(row.count(key).unwrap_or(0));
        add(&mut self.established, "established");
        add(&mut self.adopted, "adopted");
        add(&mut self.failed, "failed");
        add(&mut self.abnormal, "abnormal");
        add(&mut self.retransmitted, "handshake.retransmitted.count");
        add(&mut self.time_wait_entered, "time_wait.entered");
        for (sum, key) in
            [(&mut self.listener_drops, "listener.drops"), (&mut self.resets, "resets.count")]
        {
            if let Some(count) = row.count(key) {
                *sum = Some(sum.unwrap_or(0).saturating_add(count));
            }
        }
        self.owner = row.text("owner").or(self.owner.take());
        self.clean.add(row.buckets("handshake.clean.buckets"));
        self.lifetime.add(row.buckets("lifetime.buckets"));
        for reasons in ["failures", "closes"] {
            for (reason, count) in row.counts(reasons).into_iter().filter(|(_, count)| *count > 0) {
                let sum = self.reasons.entry(reason).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }
}

/// Whether something went wrong with connections that end for this reason.
pub(super) fn is_bad(reason: &str) -> bool {
    CloseReason::from_id(reason).is_some_and(|reason| reason.class() == Class::Abnormal)
}

/// A row of a report, either in memory or read from JSON. Values are found by the key of their
/// column; unknown or missing values are `None` or empty.
trait ReportRow {
    /// A whole number.
    fn count(&self, key: &'static str) -> Option<u64>;
    /// Counts by name.
    fn counts(&self, key: &'static str) -> Vec<(String, u64)>;
    /// The buckets of a histogram: upper bound and count.
    fn buckets(&self, key: &'static str) -> Vec<(u64, u64)>;
    /// Text, or a number as text.
    fn text(&self, key: &'static str) -> Option<String>;
}

impl ReportRow for PortRow {
    fn count(&self, key: &'static str) -> Option<u64> {
        match cell(self, key) {
            Cell::Int(count) => Some(count),
            _ => None,
        }
    }

    fn counts(&self, key: &'static str) -> Vec<(String, u64)> {
        match cell(self, key) {
            Cell::Counts(counts) => {
                counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn buckets(&self, key: &'static str) -> Vec<(u64, u64)> {
        match cell(self, key) {
            Cell::Buckets(buckets) => buckets,
            _ => Vec::new(),
        }
    }

    fn text(&self, key: &'static str) -> Option<String> {
        match cell(self, key) {
            Cell::Word(word) | Cell::UnknownWord(word) => Some(word.to_owned()),
            Cell::Text(text) | Cell::Id(text) => Some(text),
            Cell::Int(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

fn cell(row: &PortRow, key: &str) -> Cell {
    let column = COLUMNS.iter().find(|column| column.info.key == key);
    debug_assert!(column.is_some(), "a report has no column {key}");
    column.map_or(Cell::Unknown, |column| column.value(row))
}

impl ReportRow for Value {
    fn count(&self, key: &'static str) -> Option<u64> {
        nested(self, key)?.as_u64()
    }

    fn counts(&self, key: &'static str) -> Vec<(String, u64)> {
        let counts = nested(self, key).and_then(Self::as_object).into_iter().flatten();
        counts.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0))).collect()
    }

    fn buckets(&self, key: &'static str) -> Vec<(u64, u64)> {
        let buckets = nested(self, key).and_then(Self::as_array).into_iter().flatten();
        buckets.filter_map(|bucket| bucket[0].as_u64().zip(bucket[1].as_u64())).collect()
    }

    fn text(&self, key: &'static str) -> Option<String> {
        match nested(self, key)? {
            Self::String(text) => Some(text.clone()),
            Self::Null => None,
            other => Some(other.to_string()),
        }
    }
}

fn nested<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(object, |object, part| object.get(part))
}

impl Side {
    /// The side of one interval, equal to [`Self::of_lines`] of its report in JSON.
    pub fn of(session: &Session, snapshot: &Snapshot, rows: &RowSelection) -> Self {
        let mut side = Self {
            by: Some(rows.by.name().to_owned()),
            // Rounded as in a report.
            seconds: Cell::Seconds(snapshot.seconds()).to_json().as_f64().unwrap_or(0.0),
            lower_bounds: snapshot.events.are_lower_bounds(),
            ..Self::default()
        };
        for (name, value) in [("kernel", &session.kernel), ("synfin", &session.synfin)] {
            side.host.insert(name.to_owned(), value.clone());
        }
        side.host.extend(session.sysctls.clone());
        let none = RowFindings::default();
        for row in PortRow::with_findings(session, snapshot, rows.by, &none) {
            if rows.includes(&row.row) {
                side.rows.entry(RowName::of(&row, rows.by.name())).or_default().add(&row);
            }
        }
        side
    }

    /// The sum of reports in JSON, one per line.
    ///
    /// # Errors
    ///
    /// A line is not a report of this schema, or there is no report.
    pub fn of_lines(text: &str) -> Result<Self, SideError> {
        let mut side = Self::default();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (index, line) in lines {
            let report = serde_json::from_str(line).map_err(|_| SideError::NoReport(index + 1))?;
            side.add(&report, index + 1)?;
        }
        if side.by.is_none() { Err(SideError::Nothing) } else { Ok(side) }
    }

    /// Adds a report; `line` is its line number.
    fn add(&mut self, report: &Value, line: usize) -> Result<(), SideError> {
        let (Some(rows), Some(by)) = (report["ports"].as_array(), report["by"].as_str()) else {
            return Err(SideError::NoReport(line));
        };
        if report["schema"] != SCHEMA {
            return Err(SideError::OtherSchema(line, report["schema"].clone()));
        }
        match &self.by {
            Some(before) if before != by => {
                return Err(SideError::OtherRows(line, by.into(), before.clone()));
            }
            _ => self.by = Some(by.into()),
        }
        self.seconds += report["interval"]["seconds"].as_f64().unwrap_or(0.0);
        self.lower_bounds |= report["events"]["lower_bounds"] == true;
        let host = &report["host"];
        let plain = ["kernel", "synfin"].into_iter().map(|name| (name.to_owned(), &host[name]));
        let sysctls = host["sysctls"].as_object().into_iter().flatten();
        let settings = plain.chain(sysctls.map(|(name, value)| (name.clone(), value)));
        self.host.extend(settings.filter_map(|(name, value)| Some((name, value.as_str()?.into()))));
        for row in rows {
            self.rows.entry(RowName::of(row, by)).or_default().add(row);
        }
        Ok(())
    }
}

impl RowName {
    fn of(row: &impl ReportRow, by: &str) -> Self {
        let text = |key| row.text(key);
        let or_dash = |key| text(key).unwrap_or_else(|| "-".to_owned());
        let what = match (by, text("remote")) {
            ("remote", Some(remote)) if remote.contains(':') => {
                format!("[{remote}]:{}", or_dash("port"))
            }
            ("remote", Some(remote)) => format!("{remote}:{}", or_dash("port")),
            ("owner", _) => or_dash("owner"),
            ("netns", _) => text("netns_name").unwrap_or_else(|| or_dash("netns")),
            _ => format!(":{}", or_dash("port")),
        };
        Self { role: or_dash("role"), what }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(by: &str, row: Value) -> String {
        json!({ "schema": 1, "by": by, "interval": { "seconds": 2.0 }, "host": {}, "events": {}, "ports": [row] })
            .to_string()
    }

    #[test]
    fn intervals_add_up() {
        let row = |count: u64, bound: u64| {
            json!({ "role": "client", "port": 80, "established": count,
                "failures": { "connect_timeout": 1, "connect_refused_rst": 0 }, "failed": 1,
                "handshake": { "clean": { "buckets": [[10, count], [bound, 1]] } } })
        };
        let lines = [report("port", row(3, 100)), report("port", row(5, 900))].join("\n");
        let side = Side::of_lines(&lines).unwrap();
        assert_eq!(side.seconds, 4.0);
        let name = RowName { role: "client".into(), what: ":80".into() };
        let row = &side.rows[&name];
        assert_eq!((row.established, row.failed, row.connections()), (8, 2, 10));
        assert_eq!(row.reasons, BTreeMap::from([("connect_timeout".to_owned(), 2)]));
        assert_eq!([0.5, 0.9, 1.0].map(|q| row.clean.quantile(q)), [10.0, 100.0, 900.0].map(Some));
        assert_eq!(row.share(row.failed).map(|share| share.value), Some(200.0));
        // Only servers have drops: unknown is not 0.
        assert_eq!(row.listener_drops, None);
    }

    #[test]
    fn errors_name_the_line() {
        let good = report("port", json!({ "role": "client", "port": 80 }));
        let error = |text: &str| Side::of_lines(text).unwrap_err().to_string();
        assert!(error("").contains("contains no report"));
        assert!(error(&format!("{good}\n{{}}")).starts_with("line 2 is not a report"));
        assert!(error(&good.replace("\"schema\":1", "\"schema\":7")).contains("of schema 7"));
        let other = report("owner", json!({ "role": "client" }));
        assert!(error(&format!("{good}\n{other}")).contains("by owner, the lines before by port"));
    }
}
