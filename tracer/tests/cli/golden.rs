//! Golden files: reviewed output. `SNAPSHOTS=overwrite` writes the present output, for `git diff` to
//! show.

use std::path::{Path, PathBuf};

use snapbox::{Assert, Data};

pub(crate) fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares text with a golden file, byte by byte.
#[track_caller]
pub(crate) fn assert_golden(name: &str, text: &str) {
    let golden = Data::read_from(&golden_path(name), None).raw();
    Assert::new().action_env("SNAPSHOTS").eq(text, golden);
}
