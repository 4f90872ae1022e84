//! Golden files: what was once looked at and found right. `UPDATE_GOLDEN=1` writes them anew.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub(crate) fn golden_file(name: &str) -> String {
    fs::read_to_string(golden_path(name)).unwrap_or_default()
}

/// Compares text with a golden file, or writes that anew.
pub(crate) fn compare(name: &str, text: &str) {
    let path = golden_path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, text).unwrap();
    }
    let expected = golden_file(name);
    let differing = text.lines().zip(expected.lines()).position(|(new, old)| new != old);
    assert!(
        text == expected,
        "{name} differs from line {} on (UPDATE_GOLDEN=1 accepts it):\n{text}",
        differing.unwrap_or(text.lines().count().min(expected.lines().count())) + 1,
    );
}
