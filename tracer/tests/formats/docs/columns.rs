//! Generates the page of all columns and of the TCP states in their values.

use synfin::{
    analysis::registries::{Registry, registries},
    output::column::{ColumnInfo, Visibility},
    tcp::state,
};
use synfin_common::state::TcpState;

use super::markdown::{GENERATED, code, table};

/// The page.
pub(crate) fn page() -> String {
    let mut page = format!(
        "{GENERATED}# Figures\n\n\
         A figure has one name: its key is its path in JSON and its column in CSV, and a table \
         shows some of them under a heading. CSV has a column for each part of what is counted by \
         name (`closes.reset_by_peer`), and the version of the form and the interval's start and \
         end before a row of the report ([files.md](files.md) has more about files). `synfin explain \
         WORD` says the same on a terminal.\n"
    );
    for Registry { command, of, columns } in registries() {
        page += &format!("\n## Of {of}: `synfin {command}`\n\n");
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
