//! The samples in README.md and docs: what follows `$ synfin …` there is what it prints.
//! `TRYCMD=overwrite` writes what it prints now.
//!
//! Samples of live traffic are in blocks marked `console,ignore`; other blocks name their language.

use std::{env, fs, path::Path};

#[test]
fn samples_in_readme_and_docs_match_the_program() {
    // The samples name files from the root on; no other test of this binary has a relative path.
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("the root");
    let readme = fs::read_to_string("README.md").expect("README.md");
    assert!(readme.matches("```console\n$ synfin ").count() > 2, "there are samples to be run");
    let cases = trycmd::TestCases::new();
    cases.register_bin("synfin", Path::new(env!("CARGO_BIN_EXE_synfin")));
    cases.case("README.md").case("docs/*.md");
}
