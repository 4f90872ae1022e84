//! Runs the samples in README.md and docs: the lines after `$ synfin …` are its output.
//! `TRYCMD=overwrite` writes the present output.
//!
//! Samples of live traffic are in blocks marked `console,ignore`; other blocks name their language.

use std::{env, fs, path::Path};

#[test]
fn samples_in_readme_and_docs_match_the_program() {
    // The samples' paths start at the root; no other test of this binary has a relative path.
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("the root");
    let readme = fs::read_to_string("README.md").expect("README.md");
    assert!(readme.matches("```console\n$ synfin ").count() > 2, "README.md has too few samples");
    let cases = trycmd::TestCases::new();
    cases.register_bin("synfin", Path::new(env!("CARGO_BIN_EXE_synfin")));
    cases.case("README.md").case("docs/*.md");
}
