//! Writes Markdown.

/// The first line of a generated page.
pub(crate) const GENERATED: &str = "<!-- Generated from the code by `cargo xtask docs`. -->\n\n";

const END: &str = "<!-- end of generated -->\n";

/// A table.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&headings.iter().map(|&heading| heading.to_owned()).collect::<Vec<_>>());
    table += &line(&vec!["---".to_owned(); headings.len()]);
    for row in rows {
        assert_eq!(row.len(), headings.len(), "{row:?}");
        table += &line(&row.iter().map(|cell| in_a_cell(cell)).collect::<Vec<_>>());
    }
    table
}

fn in_a_cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn code(text: &str) -> String {
    format!("`{text}`")
}

/// `text` with the content of each of these sections replaced, between its markers.
pub(crate) fn with_sections(text: &str, sections: &[(&str, String)]) -> String {
    sections.iter().fold(text.to_owned(), |text, (name, section)| {
        let begin = format!("<!-- generated: {name} -->\n");
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no line {begin:?}"));
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("no {END:?}: {name}"));
        assert!(!after.contains(&begin), "{begin:?} occurs twice");
        format!("{before}{begin}\n{section}\n{END}{after}")
    })
}

#[test]
fn generated_sections_are_replaced_in_place() {
    let text = "a\n<!-- generated: x -->\nold\n<!-- end of generated -->\nb\n";
    let new = with_sections(text, &[("x", "new\n".into())]);
    assert_eq!(new, "a\n<!-- generated: x -->\n\nnew\n\n<!-- end of generated -->\nb\n");
    assert_eq!(with_sections(&new, &[("x", "new\n".into())]), new);
}
