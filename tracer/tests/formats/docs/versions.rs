//! The columns of each file format with their types: a machine-readable list, which a format version
//! must not break.

use std::collections::BTreeMap;

use synfin::{
    analysis::registries::registries,
    output::{
        column::{ColumnInfo, Visibility},
        column_kind::ColumnKind,
    },
};

/// Path of the list.
pub(crate) const FILE: &str = "docs/schema/columns.csv";

/// The commands whose output is kept in files.
const COMMANDS: [&str; 3] = ["connections", "trace", "report"];

/// All columns: command, version, name, type, whether it may be null, unit, format.
pub(crate) fn list() -> String {
    let mut list = "command,schema,column,type,nullable,unit,form\n".to_owned();
    for command in COMMANDS {
        let registries = registries().into_iter().filter(|registry| registry.command == command);
        let columns: Vec<_> = registries.flat_map(|registry| registry.columns).collect();
        let versions = columns.iter().filter_map(|info| match info.kind {
            ColumnKind::Version(version) => Some(version),
            _ => None,
        });
        let [version] = versions.collect::<Vec<_>>()[..] else {
            panic!("several versions of {command}");
        };
        for info in &columns {
            for (column, kind) in csv_columns(info) {
                let form = match info.visibility {
                    Visibility::Json | Visibility::Footer => "JSON",
                    _ => "CSV and JSON",
                };
                let unit = info.kind.unit().unwrap_or_default();
                let nullable = info.nullable;
                list += &format!("{command},{version},{column},{kind},{nullable},{unit},{form}\n");
            }
        }
    }
    list
}

/// The CSV columns of a column: one for each of its counts.
fn csv_columns(info: &ColumnInfo) -> Vec<(String, &'static str)> {
    let kind = match info.kind {
        ColumnKind::Counts(words) => {
            let words = (words.all)().into_iter();
            return words.map(|word| (format!("{}.{word}", info.key), "integer")).collect();
        }
        ColumnKind::Version(_) | ColumnKind::Number | ColumnKind::Count(_) | ColumnKind::Micros => {
            "integer"
        }
        ColumnKind::Float(_) | ColumnKind::Seconds => "number",
        ColumnKind::Bool => "boolean",
        ColumnKind::Time => "timestamp",
        ColumnKind::Word(_) | ColumnKind::Text | ColumnKind::Address => "text",
        ColumnKind::Texts => "list of texts",
        ColumnKind::TextByName => "texts by name",
        ColumnKind::Buckets => "list of pairs of integers",
    };
    vec![(info.key.to_owned(), kind)]
}

/// The columns that readers of the old list would miss in the new one.
pub(crate) fn broken(old: &str, new: &str) -> Vec<String> {
    let new: BTreeMap<_, _> = rows(new).collect();
    let versions: BTreeMap<_, _> =
        new.keys().map(|[command, version, _]| (command, version)).collect();
    let kept =
        rows(old).filter(|([command, version, _], _)| versions.get(command) == Some(&version));
    let mut broken = Vec::new();
    for (name, was) in kept {
        let Some(is) = new.get(&name) else {
            broken.push(format!("{} has no {} any longer", name[0], name[2]));
            continue;
        };
        for (what, (was, is)) in ["type", "nullable", "unit", "form"].iter().zip(was.iter().zip(is))
        {
            // A column may stop being nullable.
            if was != is && (*what, *was) != ("nullable", "true") {
                broken.push(format!("{what} of {} in {} is {is:?}, not {was:?}", name[2], name[0]));
            }
        }
    }
    broken
}

/// The names of each column, and its properties.
fn rows(list: &str) -> impl Iterator<Item = ([&str; 3], [&str; 4])> {
    list.lines().skip(1).map(|line| {
        let cells: Vec<_> = line.split(',').collect();
        let [command, version, name, rest @ ..] = &cells[..] else { panic!("{line}") };
        ([*command, *version, *name], rest.try_into().expect("a complete row"))
    })
}

#[test]
fn a_format_version_keeps_its_columns() {
    const HEADING: &str = "command,schema,column,type,nullable,unit,form\n";
    let list = |rows: &[&str]| HEADING.to_owned() + &rows.join("\n");
    let old = list(&["trace,1,a,integer,false,bytes,JSON", "trace,1,b,text,true,,JSON"]);
    let broken_by = |rows: &[&str]| broken(&old, &list(rows));
    let none: [&str; 0] = [];
    assert_eq!(broken(&old, &old), none);
    assert_eq!(broken("", &old), none);
    let [a, b] = ["trace,1,a,integer,false,bytes,JSON", "trace,1,b,text,true,,JSON"];
    assert_eq!(broken_by(&["trace,1,c,text,true,,JSON", b, a]), none, "one more, in another order");
    assert_eq!(broken_by(&[a, "trace,1,b,text,false,,JSON"]), none, "known now");
    assert_eq!(broken_by(&["trace,2,c,text,true,,JSON"]), none, "another version");
    for changed in [
        "trace,1,c,integer,false,bytes,JSON",
        "trace,1,a,text,false,bytes,JSON",
        "trace,1,a,integer,true,bytes,JSON",
        "trace,1,a,integer,false,segments,JSON",
    ] {
        assert_eq!(broken_by(&[changed, b]).len(), 1, "{changed}");
    }
}
