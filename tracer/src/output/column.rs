//! A figure: one thing that can be shown, under one name everywhere. Registries of figures feed
//! the tables, JSON and CSV alike.

use serde_json::{Map, Value as Json};

use crate::tcp::group_by::By;
pub use crate::{
    output::{column_kind::ColumnKind, value::Value},
    tcp::labels::Enumeration,
};

/// A figure of a `T`.
pub struct Column<T> {
    /// What is said about it.
    pub info: ColumnInfo,
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
    pub visibility: Visibility,
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
        debug_assert!(self.info.allows(&value), "{}: {value:?}", self.info.key);
        value
    }
}

/// A registry: per figure its name, title, kind, place, meaning and value.
macro_rules! columns {
    (@may_be) => { false };
    (@may_be null) => { true };
    ($($key:tt $title:literal $kind:ident $(($of:expr))? $(or $null:ident)?,
        $visibility:expr, $help:expr, $get:expr;)*) => {
        &[$($crate::output::column::Column {
            info: $crate::output::column::ColumnInfo {
                key: $key,
                title: $title,
                kind: $crate::output::column_kind::ColumnKind::$kind $(($of))?,
                nullable: $crate::output::column::columns!(@may_be $($null)?),
                visibility: $visibility,
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

/// The figures of `item` as nested JSON, by the dots in their names.
pub fn to_object<T>(columns: &[Column<T>], item: &T) -> Map<String, Json> {
    let mut object = Map::new();
    for column in columns {
        let mut parts: Vec<_> = column.info.key.split('.').collect();
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
    for info in in_csv(columns).map(|column| column.info) {
        match info.kind {
            ColumnKind::Counts(words) => {
                headings.extend((words.all)().iter().map(|word| format!("{}.{word}", info.key)));
            }
            _ => headings.push(info.key.to_owned()),
        }
    }
    headings
}

/// The cells of `item` in these columns.
pub fn to_cells<T>(columns: &[Column<T>], item: &T) -> Vec<String> {
    let mut cells = Vec::new();
    for column in in_csv(columns) {
        match (column.value(item), column.info.kind) {
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
    columns.iter().filter(|column| column.info.visibility.is_in_csv())
}

#[cfg(test)]
mod tests {
    use super::*;

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
