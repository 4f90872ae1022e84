//! `--fail-on`: conditions on values of a report, for scripts and load tests.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    message::suggest::did_you_mean,
    output::{
        column::{Column, ColumnInfo, Value},
        column_kind::ColumnKind,
        port_columns::COLUMNS,
        port_row::PortRow,
        report::{EVENTS, HEADER, Header},
    },
    tcp::{group_by::By, role::Role},
    trace::session::Session,
    tracker::{Common, Events, RowIdentity, RowSnapshot, Snapshot},
};

/// Number of rows that a message names.
const NAMED: usize = 3;

/// A condition as typed: `server:8080.handshake.clean.p99_us>50000`, `bad>0`.
#[derive(Clone)]
pub(crate) struct Condition {
    text: String,
    subject: Subject,
    comparison: Comparison,
    bound: f64,
}

/// The value that a condition is about. A column with counts by name needs one of the names.
#[derive(Clone, Copy)]
enum Subject {
    Rows(RowSelector, &'static Column<PortRow>, Option<&'static str>),
    Header(&'static Column<Header>, Option<&'static str>),
    Events(&'static Column<Events>),
}

/// The rows whose sum a condition is about.
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
    /// The operators, longer ones first.
    const OPERATORS: [(&'static str, Self); 7] = [
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

/// The result of a condition in a report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The condition is false.
    False,
    /// The condition is true.
    True {
        /// The value as a table shows it.
        value: String,
        /// The rows that make it true, with their values; empty if it is not about rows.
        rows: String,
    },
    /// The value is unknown: nothing happened that it measures.
    Unknown,
}

impl Condition {
    /// Whether the condition is about a count per second, which a single look cannot show.
    pub(crate) fn is_about_a_rate(&self) -> bool {
        let Subject::Rows(_, column, _) = self.subject else { return false };
        column.info.kind.unit().is_some_and(|unit| unit.ends_with("per second"))
    }

    /// Evaluates the condition in this report.
    pub(crate) fn evaluate(&self, session: &Arc<Session>, snapshot: &Snapshot) -> Outcome {
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
            None => Outcome::Unknown,
            Some(number) if self.comparison.holds(number, self.bound) => Outcome::True {
                value: value.to_plain(),
                rows: self.rows(session, snapshot).unwrap_or_default(),
            },
            Some(_) => Outcome::False,
        }
    }

    /// The rows for which the condition holds by themselves, or else all that contribute to the value, the
    /// largest values first; `None` if it is not about rows.
    fn rows(&self, session: &Arc<Session>, snapshot: &Snapshot) -> Option<String> {
        let Subject::Rows(which, column, word) = self.subject else { return None };
        let mut rows: Vec<_> = snapshot
            .rows(By::Port)
            .into_iter()
            .filter(|row| which.includes(row.identity.role, row.identity.name.port))
            .filter_map(|row| {
                let place = place(&row);
                let value = one_of(column.value(&PortRow::new(row, session, snapshot)), word);
                Some((number(&value)?, format!("{place} {}", value.to_plain())))
            })
            .collect();
        let holds = |value| self.comparison.holds(value, self.bound);
        if rows.iter().any(|&(value, _)| holds(value)) {
            rows.retain(|&(value, _)| holds(value));
        } else {
            rows.retain(|&(value, _)| value != 0.0);
        }
        rows.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let more = rows.len().saturating_sub(NAMED);
        let mut rows: Vec<_> = rows.into_iter().take(NAMED).map(|(_, row)| row).collect();
        rows.extend((more > 0).then(|| format!("and {more} more")));
        Some(rows.join(", "))
    }
}

/// A row by its role, port and owner: `server :443 (nginx)`.
fn place(row: &RowSnapshot) -> String {
    let RowIdentity { role, port, owner, .. } = &row.identity;
    let mut place = role.name().to_owned();
    if let Common::One(port) = port {
        place += &format!(" :{port}");
    }
    match owner {
        Common::Unknown => {}
        Common::One(name) => place += &format!(" ({name})"),
        Common::Several(count) => place += &format!(" (×{count})"),
    }
    place
}

impl RowSelector {
    /// The sums of the rows. Each role has a separate sum, since some columns exist for one role
    /// only.
    fn rows(self, session: &Arc<Session>, snapshot: &Snapshot) -> Vec<PortRow> {
        let roles = match self {
            Self::All => vec![Role::Client, Role::Server, Role::Unknown],
            Self::Of(role) | Self::One(role, _) => vec![role],
        };
        let rows = roles
            .into_iter()
            .filter_map(|role| snapshot.sum(role, |row_role, port| self.includes(row_role, port)));
        rows.map(|row| PortRow::new(row, session, snapshot)).collect()
    }

    fn includes(self, row_role: Role, port: Option<u16>) -> bool {
        match self {
            Self::All => true,
            Self::Of(role) => row_role == role,
            Self::One(role, wanted) => row_role == role && port == Some(wanted),
        }
    }
}

/// The count with this name, if the value is counts by name.
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
        Value::Int(number)
        | Value::Micros(number)
        | Value::MicrosAtLeast(number)
        | Value::MicrosForecast(number) => Some(number as f64),
        Value::Float(number) | Value::Seconds(number) => Some(number),
        Value::Bool(value) => Some(f64::from(u8::from(value))),
        _ => None,
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a condition is [ROWS.]COLUMN, one of < <= == != >= >, and a number: \
             bad>0, server:8080.handshake.clean.p99_us>50000";
        let place = text.find(['<', '>', '=', '!']).ok_or(FORM)?;
        let (column, rest) = text.split_at(place);
        let written = Comparison::OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign));
        let &(sign, comparison) = written.ok_or(FORM)?;
        let bound = rest[sign.len()..].trim();
        let bound: f64 = bound.parse().map_err(|_| format!("{bound:?} is not a number; {FORM}"))?;
        if !bound.is_finite() {
            return Err(format!("{bound} is not a number to compare with"));
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
        Err(unknown_column(key))
    }
}

impl RowSelector {
    /// Splits `ROWS.COLUMN`; without `ROWS.` the condition is about all rows.
    fn split(text: &str) -> Result<(Self, &str), String> {
        for role in [Role::Server, Role::Client] {
            let Some(rest) = text.strip_prefix(role.name()) else { continue };
            if let Some(key) = rest.strip_prefix('.') {
                return Ok((Self::Of(role), key));
            }
            if let Some(rest) = rest.strip_prefix(':') {
                let (port, key) = rest.split_once('.').ok_or("a port is followed by .COLUMN")?;
                let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
                return Ok((Self::One(role, port), key));
            }
        }
        Ok((Self::All, text))
    }
}

/// A column, and one of its names if it holds counts by name.
type Named<T> = (&'static Column<T>, Option<&'static str>);

/// Finds a column by its key, or by its heading in tables.
fn named<T>(columns: &'static [Column<T>], key: &str) -> Result<Option<Named<T>>, String> {
    let is_it = |column: &&Column<T>| [column.info.key, column.info.title].contains(&key);
    if let Some(column) = columns.iter().find(|column| is_it(column) && !key.is_empty()) {
        return match column.info.kind {
            ColumnKind::Counts(words) => Err(format!(
                "{key} has a count for each {}: name one, as in {key}.{}",
                words.name,
                (words.all)()[0],
            )),
            kind if is_number(kind) => Ok(Some((column, None))),
            kind => Err(format!("{key} is not a number, but {}", kind.form())),
        };
    }
    let Some((parent, word)) = key.rsplit_once('.') else { return Ok(None) };
    let Some(column) = columns.iter().find(|column| column.info.key == parent) else {
        return Ok(None);
    };
    let ColumnKind::Counts(words) = column.info.kind else { return Ok(None) };
    match (words.all)().into_iter().find(|known| *known == word) {
        Some(word) => Ok(Some((column, Some(word)))),
        None => Err(format!(
            "{word:?} is not a {}; expected one of {}",
            words.name,
            (words.all)().join(", ")
        )),
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

fn unknown_column(key: &str) -> String {
    let names = |info: &ColumnInfo| [info.key, info.title];
    let rows = COLUMNS.iter().flat_map(|column| names(&column.info));
    let events = EVENTS.iter().flat_map(|column| names(&column.info));
    let meant = did_you_mean(key, rows.chain(events).filter(|name| !name.is_empty()));
    format!("there is no column {key:?}; {meant}`synfin explain` lists all")
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Condition::from_str(text).expect_err("an error")
    }

    #[test]
    fn conditions_are_parsed() {
        for text in [
            "abnormal>0",
            "server:8080.handshake.clean.p99_us > 50000",
            "client.failures.connect_timeout>=1",
            "closes.reset_by_peer==2",
            "events.lost!=0",
            "host.counters.ListenOverflows>0",
            "new_per_s<0.5",
            "established=0",
            "BAD>0",
            "server:443.OPEN>100",
        ] {
            assert!(Condition::from_str(text).is_ok(), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn errors_suggest_what_was_meant() {
        for (text, message) in [
            ("abnormal", "a condition is"),
            ("abnormal>", "is not a number"),
            ("abnormal>many", "is not a number"),
            ("abnormal>inf", "to compare with"),
            ("abnormal!0", "a condition is"),
            ("abnormale>0", "did you mean abnormal"),
            ("server:http.abnormal>0", "is not a port"),
            ("server:80>0", "followed by"),
            ("owner>0", "is not a number, but text"),
            ("failures>0", "name one, as in failures."),
            ("failures.gremlins>0", "is not a reason"),
            ("server:80.events.lost>0", "there is no column"),
        ] {
            assert!(refused(text).contains(message), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn comparisons_follow_their_operators() {
        let of = |sign: &str| Comparison::OPERATORS.iter().find(|(written, _)| *written == sign);
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
