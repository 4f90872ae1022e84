//! Generates documentation from the code: commands, columns, reasons, exit status and JSON schemas.
//! `UPDATE_DOCS=1`, which `cargo xtask docs` sets, writes the files.

mod columns;
mod commands;

mod findings;
mod links;
mod markdown;
mod metrics;
mod reasons;
#[path = "../../schema/mod.rs"]
mod schema;
mod schemas;
#[expect(dead_code, reason = "the page does not show all that the kernel test demands")]
#[path = "../../situations/mod.rs"]
mod tried;
mod versions;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The directory of generated files only.
const FOLDER: &str = "docs/schema";

#[test]
fn generated_pages_are_up_to_date() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &Path| fs::read_to_string(root.join(file)).unwrap_or_default();

    let files = generated(|file| read(file.as_ref()));
    let broken =
        versions::broken(&read(versions::FILE.as_ref()), &files[Path::new(versions::FILE)]);
    assert!(
        broken.is_empty(),
        "{}\nThis breaks the format: raise its SCHEMA version and describe it in CHANGELOG.md",
        broken.join("\n")
    );
    let mut wrong = Vec::new();
    for (file, text) in &files {
        let old = read(file);
        if *text == old {
            continue;
        }
        if update {
            write(&root.join(file), text).unwrap();
        } else {
            let same = text.lines().zip(old.lines()).take_while(|(new, old)| new == old).count();
            wrong.push(format!("{} differs from line {} on", file.display(), same + 1));
        }
    }
    for file in files_in(&root, FOLDER.as_ref()) {
        if files.contains_key(&file) {
            continue;
        }
        if update {
            fs::remove_file(root.join(&file)).unwrap();
        } else {
            wrong.push(format!("{} is no longer generated", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nrun `cargo xtask docs`", wrong.join("\n"));
}

/// All generated files; `read` gives the present text of those that are generated in part.
fn generated(read: impl Fn(&str) -> String) -> BTreeMap<PathBuf, String> {
    let sections =
        [("commands", commands::in_brief()), ("exit status", commands::exit_status_in_brief())];
    let mut files: BTreeMap<PathBuf, String> = [
        ("docs/guide.md", markdown::with_sections(&read("docs/guide.md"), &sections)),
        ("docs/commands.md", commands::page()),
        ("docs/columns.md", columns::page()),
        ("docs/findings.md", findings::page()),
        (
            "docs/metrics.md",
            markdown::with_sections(&read("docs/metrics.md"), &[("metrics", metrics::table())]),
        ),
        ("docs/reasons.md", reasons::page()),
        (versions::FILE, versions::list()),
    ]
    .map(|(file, text)| (file.into(), text))
    .into();
    files.extend(schemas::all());
    files
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

fn files_in(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(folder)).into_iter().flatten();
    entries.map(|entry| folder.join(entry.unwrap().file_name())).collect()
}
