//! A figure: one thing that can be shown, under one name everywhere. Registries of figures feed
//! the tables, JSON and CSV alike.

use serde_json::{Map, Number, Value as Json};

use crate::{message::escape::escape_control, tcp::group_by::By};
pub use crate::{output::column_kind::ColumnKind, tcp::labels::Enumeration};

/// A figure of a `T`.
pub struct Column<T> {
    /// What is said about it.
    pub about: ColumnInfo,
    /// Its value.
    pub(crate) get: fn(&T) -> Value,
}

/// What is said about a figure, whatever it is a figure of.
#[derive(Clone, Copy, Debug)]
pub struct ColumnInfo {
    /// Its name: JSON path, CSV column, sort key.
    pub key: &'static str,
    /// Its heading in a table; empty if no table has it.
    pub title: &'static str,
    /// What its values are like.
    pub kind: ColumnKind,
    /// Whether its value may be unknown, or none.
    pub nullable: bool,
    /// Where it is shown.
    pub shown: Visibility,
    /// What it means, and how it is known. The unit is its kind's.
    pub help: &'static str,
}

impl ColumnInfo {
    /// What its values are like, in words: form, unit, and whether there may be none.
    pub fn value(&self) -> String {
        let unit = self.kind.unit().map(|unit| format!(", {unit}")).unwrap_or_default();
        let null = if self.nullable { "; null if there is none" } else { "" };
        format!("{}{unit}{null}", self.kind.form())
    }

    fn allows(&self, value: &Value) -> bool {
        match value {
            Value::Unknown | Value::Multiple(_) => self.nullable,
            value => self.kind.allows(value),
        }
    }
}

impl<T> Column<T> {
    /// Its value, which is of the kind that it declares.
    pub fn value(&self, item: &T) -> Value {
        let value = (self.get)(item);
        debug_assert!(self.about.allows(&value), "{}: {value:?}", self.about.key);
        value
    }
}

/// A registry: per figure its name, title, kind, place, meaning and value.
macro_rules! columns {
    (@may_be) => { false };
    (@may_be null) => { true };
    ($($key:literal $title:literal $kind:ident $(($of:expr))? $(or $null:ident)?,
        $shown:expr, $help:expr, $get:expr;)*) => {
        &[$($crate::output::column::Column {
            about: $crate::output::column::ColumnInfo {
                key: $key,
                title: $title,
                kind: $crate::output::column_kind::ColumnKind::$kind $(($of))?,
                nullable: $crate::output::column::columns!(@may_be $($null)?),
                shown: $shown,
                help: $help,
            },
            get: $get,
        },)*]
    };
}
pub(crate) use columns;

/// Where a figure is shown, besides JSON and CSV, where all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// In every table.
    Table(Width),
    /// In wide tables.
    Wide(Width),
    /// In wide tables, and in those whose rows are put together by it.
    Grouped(By, Width),
    /// Only in JSON and CSV.
    Data,
    /// In JSON, and under a table.
    Footer,
    /// Only in JSON, having no flat form.
    Json,
}

/// As much of a container's id as its runtime shows.
const ID_SHOWN: usize = 12;

impl Visibility {
    const fn is_in_csv(self) -> bool {
        !matches!(self, Self::Footer | Self::Json)
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table(_) => "every table, JSON and CSV",
            Self::Wide(_) => "wide tables (-w), JSON and CSV",
            Self::Grouped(..) => "wide tables (-w) and those grouped by it (--by), JSON and CSV",
            Self::Data => "JSON and CSV",
            Self::Footer => "the footer of a table, and JSON",
            Self::Json => "JSON",
        }
    }
}

/// How a column stands in a table, and its least width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Text.
    Left(usize),
    /// Numbers.
    Right(usize),
}

/// The value of a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not known, or there is none.
    Unknown,
    /// A count, a number.
    Int(u64),
    /// A share or a rate.
    Float(f64),
    /// A duration in microseconds.
    Micros(u64),
    /// A duration in microseconds that may be longer.
    MicrosAtLeast(u64),
    /// A duration in seconds.
    Seconds(f64),
    /// Yes or no.
    Bool(bool),
    /// A word of ours.
    Word(&'static str),
    /// Text from elsewhere, which may hold anything.
    Text(String),
    /// A long name made by a machine, of which a table shows the beginning.
    Id(String),
    /// This many values, where a number is expected: null but for the eyes.
    Multiple(usize),
    /// Texts from elsewhere.
    Texts(Vec<String>),
    /// Texts from elsewhere, each under its name.
    TextByName(Vec<(String, String)>),
    /// A count for each of a fixed set of names.
    Counts(Vec<(&'static str, u64)>),
    /// Buckets of a histogram: upper bound in microseconds (inclusive), count.
    Buckets(Vec<(u64, u64)>),
}

impl Value {
    /// A value, or [`Value::Unknown`].
    pub fn known<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Unknown, make)
    }

    /// As JSON. Counts of zero are there as well, so that every line has the same fields: readers
    /// take the form of all from the first ones.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Unknown | Self::Multiple(_) => Json::Null,
            Self::Int(value) | Self::Micros(value) | Self::MicrosAtLeast(value) => (*value).into(),
            Self::Float(value) => rounded(*value, 1e3),
            Self::Seconds(value) => rounded(*value, 1e6),
            Self::Bool(value) => (*value).into(),
            Self::Word(word) => (*word).into(),
            Self::Text(text) | Self::Id(text) => text.as_str().into(),
            Self::Texts(texts) => texts.as_slice().into(),
            Self::TextByName(texts) => {
                let texts = texts.iter();
                Json::Object(
                    texts.map(|(name, text)| (name.clone(), text.as_str().into())).collect(),
                )
            }
            Self::Counts(counts) => Json::Object(
                counts.iter().map(|&(name, count)| (name.to_owned(), count.into())).collect(),
            ),
            Self::Buckets(buckets) => Json::Array(
                buckets.iter().map(|&(bound, count)| vec![bound, count].into()).collect(),
            ),
        }
    }

    /// As a cell of CSV.
    pub fn to_cell(&self) -> String {
        match self {
            Self::Unknown
            | Self::Multiple(_)
            | Self::Texts(_)
            | Self::TextByName(_)
            | Self::Counts(_)
            | Self::Buckets(_) => String::new(),
            Self::Text(text) | Self::Id(text) => escape_control(text),
            Self::Word(word) => (*word).to_owned(),
            other => other.to_json().to_string(),
        }
    }

    /// For the eyes.
    pub fn to_plain(&self) -> String {
        match self {
            Self::Unknown => "-".to_owned(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) if *value == 0.0 => "0".to_owned(),
            Self::Float(value) if *value < 10.0 => format!("{value:.1}"),
            Self::Float(value) => format!("{value:.0}"),
            Self::Micros(us) => micros(*us),
            Self::MicrosAtLeast(us) => format!("≥{}", micros(*us)),
            Self::Seconds(value) => format!("{value:.1}s"),
            Self::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
            Self::Word(word) => (*word).to_owned(),
            Self::Text(text) => escape_control(text),
            Self::Id(id) => escape_control(&id.chars().take(ID_SHOWN).collect::<String>()),
            Self::Multiple(values) => format!("×{values}"),
            Self::Counts(counts) => {
                let present = counts.iter().filter(|(_, count)| *count > 0);
                let listed: Vec<_> =
                    present.map(|(name, count)| format!("{name}:{count}")).collect();
                if listed.is_empty() { "-".to_owned() } else { listed.join(" ") }
            }
            Self::Texts(_) | Self::TextByName(_) | Self::Buckets(_) => String::new(),
        }
    }
}

/// The figures of `item` as nested JSON, by the dots in their names.
pub fn to_object<T>(columns: &[Column<T>], item: &T) -> Map<String, Json> {
    let mut object = Map::new();
    for column in columns {
        let mut parts: Vec<_> = column.about.key.split('.').collect();
        let Some(last) = parts.pop() else { continue };
        let mut place = &mut object;
        for part in parts {
            let child = place.entry(part).or_insert_with(|| Json::Object(Map::new()));
            // A figure is either a value or the path of others, which a test holds.
            let Json::Object(child) = child else { return object };
            place = child;
        }
        place.insert(last.to_owned(), column.value(item).to_json());
    }
    object
}

/// The names of the CSV columns: a figure with counts is one column per name.
pub fn to_headings<T>(columns: &[Column<T>]) -> Vec<String> {
    let mut headings = Vec::new();
    for about in in_csv(columns).map(|column| column.about) {
        match about.kind {
            ColumnKind::Counts(words) => {
                headings.extend((words.all)().iter().map(|word| format!("{}.{word}", about.key)));
            }
            _ => headings.push(about.key.to_owned()),
        }
    }
    headings
}

/// The cells of `item` in these columns.
pub fn to_cells<T>(columns: &[Column<T>], item: &T) -> Vec<String> {
    let mut cells = Vec::new();
    for column in in_csv(columns) {
        match (column.value(item), column.about.kind) {
            (Value::Counts(counts), _) => {
                cells.extend(counts.iter().map(|(_, count)| count.to_string()));
            }
            (unknown, ColumnKind::Counts(words)) => {
                cells.extend((words.all)().iter().map(|_| unknown.to_cell()));
            }
            (value, _) => cells.push(value.to_cell()),
        }
    }
    cells
}

fn in_csv<T>(columns: &[Column<T>]) -> impl Iterator<Item = &Column<T>> {
    columns.iter().filter(|column| column.about.shown.is_in_csv())
}

/// A number in this many parts of one; no number is null.
fn rounded(value: f64, parts: f64) -> Json {
    Number::from_f64((value * parts).round() / parts).map_or(Json::Null, Json::Number)
}

/// A duration with three significant digits.
fn micros(us: u64) -> String {
    let scaled = |value: f64, unit: &str| match value {
        value if value < 10.0 => format!("{value:.2}{unit}"),
        value if value < 100.0 => format!("{value:.1}{unit}"),
        value => format!("{value:.0}{unit}"),
    };
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => scaled(us as f64 / 1e3, "ms"),
        1_000_000..3_600_000_000 => scaled(us as f64 / 1e6, "s"),
        _ => scaled(us as f64 / 3.6e9, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits() {
        let shown = [7, 999, 1_000, 30_338, 1_051_000, 75_000_000, 7_200_000_000].map(micros);
        assert_eq!(shown, ["7us", "999us", "1.00ms", "30.3ms", "1.05s", "75.0s", "2.00h"]);
    }

    #[test]
    fn what_is_not_known_moves_no_column() {
        const SIDES: Enumeration = Enumeration { name: "side", all: || vec!["left", "right"] };
        const FIGURES: &[Column<Option<u64>>] = columns! {
            "sides" "" Counts(SIDES) or null, Visibility::Data, "On either side.",
                |count| Value::known(*count, |count| Value::Counts(vec![("left", count), ("right", 0)]));
            "sum" "" Number or null, Visibility::Data, "Both.", |count| Value::known(*count, Value::Int);
        };
        assert_eq!(to_headings(FIGURES), ["sides.left", "sides.right", "sum"]);
        assert_eq!(to_cells(FIGURES, &Some(3)), ["3", "0", "3"]);
        assert_eq!(to_cells(FIGURES, &None), ["", "", ""]);
    }
}
