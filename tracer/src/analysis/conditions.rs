//! `--fail-on`: what a figure must not be, for scripts and load tests. Pure.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    message::exit::Exit,
    output::{
        column::{Column, ColumnInfo, Value},
        column_kind::ColumnKind,
        port_columns::{COLUMNS, PortRow},
        report::{EVENTS, HEADER, Header},
    },
    tcp::{group_by::By, role::Role},
    trace::session::Session,
    tracker::{Events, Snapshot},
};

/// A condition, as it was typed: `server:8080.handshake.clean.p99_us>50000`, `abnormal>0`.
#[derive(Clone)]
pub(crate) struct FailOn {
    text: String,
    subject: Subject,
    comparison: Comparison,
    bound: f64,
}

/// Whose figure it is about. Of a figure that is a count for each of several words, one of these.
#[derive(Clone, Copy)]
enum Subject {
    Rows(RowSelector, &'static Column<PortRow>, Option<&'static str>),
    Header(&'static Column<Header>, Option<&'static str>),
    Events(&'static Column<Events>),
}

/// Which rows, put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowSelector {
    All,
    Of(Role),
    One(Role, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Equal,
    Other,
    AtLeast,
    More,
}

impl Comparison {
    /// How they are written, the longer ones first.
    const WRITTEN: [(&'static str, Self); 7] = [
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("==", Self::Equal),
        ("!=", Self::Other),
        ("<", Self::Less),
        (">", Self::More),
        ("=", Self::Equal),
    ];

    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Less => value < bound,
            Self::AtMost => value <= bound,
            Self::Equal => value == bound,
            Self::Other => value != bound,
            Self::AtLeast => value >= bound,
            Self::More => value > bound,
        }
    }
}

/// What came of a condition in a report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The figure is not so.
    Holds,
    /// It is: its value, as a table shows it.
    Violated(String),
    /// It has no value: nothing happened that it could be a figure of.
    Unknown,
}

impl FailOn {
    /// Whether it is so in this report.
    pub(crate) fn judge(&self, session: &Arc<Session>, snapshot: &Snapshot) -> Verdict {
        let value = match self.subject {
            Subject::Rows(which, column, word) => {
                let rows = which.rows(session, snapshot);
                let mut values = rows.iter().map(|row| one_of(column.value(row), word));
                values.find(|value| *value != Value::Unknown).unwrap_or(Value::Unknown)
            }
            Subject::Header(column, word) => {
                let header = Header::new(session, snapshot, By::Port);
                one_of(column.value(&header), word)
            }
            Subject::Events(column) => column.value(&snapshot.events),
        };
        match number(&value) {
            None => Verdict::Unknown,
            Some(number) if self.comparison.holds(number, self.bound) => {
                Verdict::Violated(value.to_plain())
            }
            Some(_) => Verdict::Holds,
        }
    }
}

impl RowSelector {
    /// The rows put together, and where clients and servers are, once as each: not every figure is
    /// one of either.
    fn rows(self, session: &Arc<Session>, snapshot: &Snapshot) -> Vec<PortRow> {
        let roles = match self {
            Self::All => vec![Role::Client, Role::Server],
            Self::Of(role) | Self::One(role, _) => vec![role],
        };
        let rows = roles.into_iter().filter_map(|role| {
            snapshot.sum(role, |page_role, port| match self {
                Self::All => true,
                Self::Of(role) => page_role == role,
                Self::One(role, wanted) => page_role == role && port == Some(wanted),
            })
        });
        rows.map(|row| PortRow::new(row, session, snapshot)).collect()
    }
}

/// Of counts, the one by this name.
fn one_of(value: Value, word: Option<&str>) -> Value {
    match (value, word) {
        (Value::Counts(counts), Some(word)) => {
            let count = counts.into_iter().find(|(name, _)| *name == word);
            Value::known(count, |(_, count)| Value::Int(count))
        }
        (value, _) => value,
    }
}

fn number(value: &Value) -> Option<f64> {
    match *value {
        Value::Int(number) | Value::Micros(number) | Value::MicrosAtLeast(number) => {
            Some(number as f64)
        }
        Value::Float(number) | Value::Seconds(number) => Some(number),
        Value::Bool(is_so) => Some(f64::from(u8::from(is_so))),
        _ => None,
    }
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a condition is [ROWS.]FIGURE, one of < <= == != >= >, and a number: \
             abnormal>0, server:8080.handshake.clean.p99_us>50000";
        let place = text.find(['<', '>', '=', '!']).ok_or(FORM)?;
        let (column, rest) = text.split_at(place);
        let written = Comparison::WRITTEN.iter().find(|(sign, _)| rest.starts_with(sign));
        let &(sign, comparison) = written.ok_or(FORM)?;
        let bound = rest[sign.len()..].trim();
        let bound: f64 = bound.parse().map_err(|_| format!("{bound:?} is no number; {FORM}"))?;
        if !bound.is_finite() {
            return Err(format!("{bound} is no number to compare with"));
        }
        let subject = Subject::from_str(column.trim())?;
        Ok(Self { text: text.to_owned(), subject, comparison, bound })
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (which, key) = RowSelector::split(text)?;
        if let Some((column, word)) = named(COLUMNS, key)? {
            return Ok(Self::Rows(which, column, word));
        }
        if which == RowSelector::All {
            if let Some((column, word)) = named(HEADER, key)? {
                return Ok(Self::Header(column, word));
            }
            if let Some((column, _)) = named(EVENTS, key)? {
                return Ok(Self::Events(column));
            }
        }
        Err(not_known(key))
    }
}

impl RowSelector {
    /// The rows that are named first, if any, and the figure.
    fn split(text: &str) -> Result<(Self, &str), String> {
        for role in [Role::Server, Role::Client] {
            let Some(rest) = text.strip_prefix(role.name()) else { continue };
            if let Some(key) = rest.strip_prefix('.') {
                return Ok((Self::Of(role), key));
            }
            if let Some(rest) = rest.strip_prefix(':') {
                let (port, key) = rest.split_once('.').ok_or("a port is followed by .FIGURE")?;
                let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
                return Ok((Self::One(role, port), key));
            }
        }
        Ok((Self::All, text))
    }
}

/// A figure, and if it counts by words, which of these is meant.
type Named<T> = (&'static Column<T>, Option<&'static str>);

/// The figure of this name.
fn named<T>(columns: &'static [Column<T>], key: &str) -> Result<Option<Named<T>>, String> {
    if let Some(column) = columns.iter().find(|column| column.info.key == key) {
        return match column.info.kind {
            ColumnKind::Counts(words) => Err(format!(
                "{key} is a count for each {}: name one, as in {key}.{}",
                words.name,
                (words.all)()[0],
            )),
            kind if is_number(kind) => Ok(Some((column, None))),
            kind => Err(format!("{key} is no number, but {}", kind.form())),
        };
    }
    let Some((parent, word)) = key.rsplit_once('.') else { return Ok(None) };
    let Some(column) = columns.iter().find(|column| column.info.key == parent) else {
        return Ok(None);
    };
    let ColumnKind::Counts(words) = column.info.kind else { return Ok(None) };
    match (words.all)().into_iter().find(|known| *known == word) {
        Some(word) => Ok(Some((column, Some(word)))),
        None => {
            Err(format!("{word:?} is no {}; they are {}", words.name, (words.all)().join(", ")))
        }
    }
}

fn is_number(kind: ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Count(_)
            | ColumnKind::Float(_)
            | ColumnKind::Micros
            | ColumnKind::Seconds
            | ColumnKind::Bool
    )
}

fn not_known(key: &str) -> String {
    let of = |info: &ColumnInfo| info.key;
    let keys = COLUMNS.iter().map(|column| of(&column.info));
    let keys = keys.chain(EVENTS.iter().map(|column| of(&column.info)));
    let nearest = keys.max_by(|one, other| {
        let alike = |known: &str| strsim::jaro_winkler(known, key);
        alike(one).total_cmp(&alike(other))
    });
    let hint = nearest.map(|nearest| format!(": is {nearest} meant?")).unwrap_or_default();
    format!("there is no figure {key:?}{hint} `synfin explain` lists them")
}

impl fmt::Debug for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Of records, more than one in this many must not be missing for figures to be trusted.
const TRUSTED: u64 = 10_000;

/// What has come of all conditions so far.
#[derive(Debug, Default)]
pub(crate) struct ConditionSet {
    conditions: Vec<FailOn>,
    /// Those that had a value at some time.
    judged: Vec<bool>,
    violated: bool,
    connections: bool,
    records: u64,
    missing: u64,
}

impl ConditionSet {
    pub(crate) fn new(conditions: Vec<FailOn>) -> Self {
        let judged = vec![false; conditions.len()];
        Self { conditions, judged, ..Self::default() }
    }

    /// Judges a report, and returns what is to be said about it.
    pub(crate) fn take(&mut self, session: &Arc<Session>, snapshot: &Snapshot) -> Vec<String> {
        if self.conditions.is_empty() {
            return Vec::new();
        }
        let Events { seen, lost, missed, gaps, .. } = snapshot.events;
        self.records = self.records.saturating_add(seen);
        self.missing = [lost, missed, gaps].into_iter().fold(self.missing, u64::saturating_add);
        self.connections |= snapshot.has_connections();
        let mut said = Vec::new();
        for (condition, judged) in self.conditions.iter().zip(&mut self.judged) {
            let verdict = condition.judge(session, snapshot);
            *judged |= verdict != Verdict::Unknown;
            if let Verdict::Violated(value) = verdict {
                said.push(format!("--fail-on '{}': it is {value}", condition.text));
                self.violated = true;
            }
        }
        said
    }

    /// How the run ends by that, and why if it is not plain.
    pub(crate) fn end(&self) -> (Exit, Option<String>) {
        let inconclusive = |why: String| (Exit::Inconclusive, Some(format!("inconclusive: {why}")));
        let unknown = self.conditions.iter().zip(&self.judged).find(|(_, judged)| !**judged);
        if self.conditions.is_empty() {
            (Exit::Done, None)
        } else if self.violated {
            (Exit::Violated, None)
        } else if self.missing > self.records / TRUSTED {
            inconclusive(format!(
                "{} of {} records are missing, more than one in {TRUSTED}",
                self.missing, self.records
            ))
        } else if !self.connections {
            inconclusive("no connection was seen".to_owned())
        } else if let Some((condition, _)) = unknown {
            inconclusive(format!("nothing happened that '{}' is about", condition.text))
        } else {
            (Exit::Done, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        FailOn::from_str(text).expect_err("a mistake")
    }

    #[test]
    fn conditions_are_read_as_people_write_them() {
        for text in [
            "abnormal>0",
            "server:8080.handshake.clean.p99_us > 50000",
            "client.failures.connect_timeout>=1",
            "closes.reset_by_peer==2",
            "events.lost!=0",
            "host.counters.ListenOverflows>0",
            "new_per_s<0.5",
            "established=0",
        ] {
            assert!(FailOn::from_str(text).is_ok(), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn mistakes_are_told_with_what_is_meant() {
        for (text, says) in [
            ("abnormal", "a condition is"),
            ("abnormal>", "is no number"),
            ("abnormal>many", "is no number"),
            ("abnormal>inf", "to compare with"),
            ("abnormal!0", "a condition is"),
            ("abnormale>0", "is abnormal meant?"),
            ("server:http.abnormal>0", "is no port"),
            ("server:80>0", "followed by"),
            ("owner>0", "is no number, but text"),
            ("failures>0", "name one, as in failures."),
            ("failures.gremlins>0", "is no reason"),
            ("server:80.events.lost>0", "there is no figure"),
        ] {
            assert!(refused(text).contains(says), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn comparisons_mean_what_they_say() {
        let of = |sign: &str| Comparison::WRITTEN.iter().find(|(written, _)| *written == sign);
        let holds = |sign, value| of(sign).expect("a sign").1.holds(value, 2.0);
        let table = ["<", "<=", "==", "=", "!=", ">=", ">"]
            .map(|sign| [1.0, 2.0, 3.0].map(|value| holds(sign, value)));
        assert_eq!(
            table,
            [
                [true, false, false],
                [true, true, false],
                [false, true, false],
                [false, true, false],
                [true, false, true],
                [false, true, true],
                [false, false, true],
            ]
        );
    }
}
