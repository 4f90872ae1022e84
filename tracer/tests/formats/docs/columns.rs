//! Generates the page of all columns and of the TCP states in their values.

use synfin::{
    analysis::registries::{Registry, registries},
    output::column::{ColumnInfo, Reports, Visibility},
    tcp::state,
};
use synfin_common::state::TcpState;

use super::markdown::{GENERATED, code, table};

/// The page.
pub(crate) fn page() -> String {
    let mut page = format!(
        "{GENERATED}# Columns\n\n\
         The key of a column is its path in JSON and its name in CSV; tables show some columns \
         under a heading. CSV splits counts by name (`closes.reset_by_peer`), and a row of the \
         report begins with the format version and the start and end of the interval (see \
         [files.md](files.md)). `synfin explain WORD` prints the same descriptions.\n"
    );
    for Registry { command, of, columns } in registries() {
        page += &format!("\n## Columns of {of}: `synfin {command}`\n\n");
        let headings = ["key", "heading", "value", "unit", "shown in", "meaning"];
        page += &table(&headings, columns.iter().map(row));
    }
    page += "\n## TCP states\n\n";
    let states = TcpState::ALL
        .map(|state| vec![code(state.name()), state::title(state), state::meaning(state).into()]);
    page + &table(&["state", "", "meaning"], states)
}

fn row(info: &ColumnInfo) -> Vec<String> {
    let null = if info.nullable { " or null" } else { "" };
    let shown = match info.visibility {
        Visibility::Table(_) => "tables",
        Visibility::In(Reports::Single, _) => "tables of a single report",
        Visibility::In(Reports::Several, _) => "tables at intervals",
        Visibility::Wide(_) | Visibility::Grouped(..) => "wide tables",
        Visibility::Footer => "footer, JSON",
        Visibility::Data => "CSV, JSON",
        Visibility::Json => "JSON",
    };
    vec![
        code(info.key),
        info.title.into(),
        format!("{}{null}", info.kind.form()),
        info.kind.unit().unwrap_or_default().into(),
        shown.into(),
        info.help.into(),
    ]
}
