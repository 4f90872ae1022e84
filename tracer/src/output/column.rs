//! Columns: one definition of each value gives its name, type and help in tables, JSON and CSV.

use serde_json::{Map, Value as Json};

use crate::tcp::group_by::By;
pub use crate::{
    output::{column_kind::ColumnKind, value::Value},
    tcp::labels::Enumeration,
};

/// A column of rows of type `T`.
pub struct Column<T> {
    /// Its description.
    pub info: ColumnInfo,
    /// Returns its value in a row.
    pub(crate) get: fn(&T) -> Value,
}

/// The description of a column, independent of the type of its rows.
#[derive(Clone, Copy, Debug)]
pub struct ColumnInfo {
    /// The name: JSON path, CSV column, sort key.
    pub key: &'static str,
    /// The heading in tables; empty if no table shows it.
    pub title: &'static str,
    /// The type of its values.
    pub kind: ColumnKind,
    /// Whether a value may be unknown or absent.
    pub nullable: bool,
    /// The outputs that show it.
    pub visibility: Visibility,
    /// What it means and how it is determined. `kind` has the unit.
    pub help: &'static str,
}

impl ColumnInfo {
    /// The type, the unit and whether it may be null, in words.
    pub fn value(&self) -> String {
        let unit = self.kind.unit().map(|unit| format!(", {unit}")).unwrap_or_default();
        let null = if self.nullable { "; null if there is none" } else { "" };
        format!("{}{unit}{null}", self.kind.form())
    }

    fn allows(&self, value: &Value) -> bool {
        match value {
            Value::Unknown | Value::Multiple(_) | Value::MicrosAtMost(_) => self.nullable,
            value => self.kind.allows(value),
        }
    }
}

impl<T> Column<T> {
    /// The value in a row.
    pub fn value(&self, item: &T) -> Value {
        let value = (self.get)(item);
        debug_assert!(self.info.allows(&value), "{}: {value:?}", self.info.key);
        value
    }
}

/// A table of columns: key, title, kind, visibility, help and value of each.
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

/// The outputs that show a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Every table, JSON and CSV.
    Table(Width),
    /// Tables of these reports, wide tables, JSON and CSV.
    In(Reports, Width),
    /// Wide tables, JSON and CSV.
    Wide(Width),
    /// Wide tables, tables grouped by it, JSON and CSV.
    Grouped(By, Width),
    /// JSON and CSV.
    Data,
    /// JSON, and the line below a table.
    Footer,
    /// JSON only, since it has no flat form.
    Json,
}

impl Visibility {
    const fn is_in_csv(self) -> bool {
        !matches!(self, Self::Footer | Self::Json)
    }

    /// The outputs in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table(_) => "every table, JSON and CSV",
            Self::In(Reports::Single, _) => {
                "the table of a single report and wide tables (-w), JSON and CSV"
            }
            Self::In(Reports::Several, _) => {
                "tables at intervals and wide tables (-w), JSON and CSV"
            }
            Self::Wide(_) => "wide tables (-w), JSON and CSV",
            Self::Grouped(..) => "wide tables (-w) and those grouped by it (--by), JSON and CSV",
            Self::Data => "JSON and CSV",
            Self::Footer => "the footer of a table, and JSON",
            Self::Json => "JSON",
        }
    }
}

/// How many reports a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// One, at the end.
    Single,
    /// One at each interval, or more than one row as they come.
    Several,
}

/// Alignment and least width of a column in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Left-aligned, for text.
    Left(usize),
    /// Right-aligned, for numbers.
    Right(usize),
}

/// The columns of `item` as JSON, nested at the dots in their keys.
pub fn to_object<T>(columns: &[Column<T>], item: &T) -> Map<String, Json> {
    let mut object = Map::new();
    for column in columns {
        let mut parts: Vec<_> = column.info.key.split('.').collect();
        let Some(last) = parts.pop() else { continue };
        let mut place = &mut object;
        for part in parts {
            let child = place.entry(part).or_insert_with(|| Json::Object(Map::new()));
            // A test ensures that no key is a prefix of another.
            let Json::Object(child) = child else { return object };
            place = child;
        }
        place.insert(last.to_owned(), column.value(item).to_json());
    }
    object
}

/// The CSV headings. A column of counts by name becomes one CSV column per name.
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

/// The CSV cells of `item`.
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
    fn unknown_values_leave_cells_empty() {
        const SIDES: Enumeration = Enumeration { name: "side", all: || vec!["left", "right"] };
        const COLUMNS: &[Column<Option<u64>>] = columns! {
            "sides" "" Counts(SIDES) or null, Visibility::Data, "On either side.",
                |count| Value::known(*count, |count| Value::Counts(vec![("left", count), ("right", 0)]));
            "sum" "" Number or null, Visibility::Data, "Both.", |count| Value::known(*count, Value::Int);
        };
        assert_eq!(to_headings(COLUMNS), ["sides.left", "sides.right", "sum"]);
        assert_eq!(to_cells(COLUMNS, &Some(3)), ["3", "0", "3"]);
        assert_eq!(to_cells(COLUMNS, &None), ["", "", ""]);
    }
}
