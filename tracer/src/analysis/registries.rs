//! The columns of every output, for `explain` and the documentation.

use crate::{
    analysis::diagnosis,
    output::{
        column::{Column, ColumnInfo},
        connection, finding,
        port_columns::COLUMNS,
        report, transition,
    },
};

/// The columns of one kind of output.
pub struct Registry {
    /// The command that prints them.
    pub command: &'static str,
    /// What a row or an object of them describes.
    pub of: &'static str,
    /// Descriptions of the columns, in their order.
    pub columns: Vec<ColumnInfo>,
}

/// All columns of all outputs.
pub fn registries() -> [Registry; 6] {
    fn column_infos<T>(columns: &[Column<T>]) -> Vec<ColumnInfo> {
        columns.iter().map(|column| column.info).collect()
    }
    let whole = [column_infos(report::HEADER), column_infos(report::EVENTS)].concat();
    [
        Registry {
            command: "report",
            of: "a role and service port",
            columns: column_infos(COLUMNS),
        },
        Registry { command: "report", of: "the report as a whole", columns: whole },
        Registry {
            command: "connections",
            of: "a connection",
            columns: column_infos(connection::COLUMNS),
        },
        Registry {
            command: "trace",
            of: "a transition",
            columns: column_infos(transition::COLUMNS),
        },
        Registry { command: "diagnose", of: "a finding", columns: column_infos(finding::COLUMNS) },
        Registry {
            command: "diagnose",
            of: "the diagnosis as a whole",
            columns: column_infos(diagnosis::COLUMNS),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::column::Visibility;

    #[test]
    fn every_column_has_a_unique_name_and_a_help_text() {
        for Registry { columns, .. } in registries() {
            for (index, column) in columns.iter().enumerate() {
                assert!(column.help.ends_with('.'), "{}", column.key);
                let is_in_no_table =
                    matches!(column.visibility, Visibility::Data | Visibility::Json);
                assert_eq!(column.title.is_empty(), is_in_no_table, "{}", column.key);
                for other in &columns[index + 1..] {
                    assert_ne!(column.key, other.key);
                    let nested = |a: &str, b: &str| {
                        b.strip_prefix(a).is_some_and(|rest| rest.starts_with('.'))
                    };
                    assert!(
                        !nested(column.key, other.key) && !nested(other.key, column.key),
                        "{}",
                        other.key
                    );
                }
            }
        }
    }
}
