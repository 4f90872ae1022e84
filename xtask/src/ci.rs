//! `cargo xtask ci`: every check that a change has to pass.

use std::process::ExitCode;

use crate::{lint, test, tidy, workspace::Workspace};

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    // The tests include `tidy`, but it is the quickest check.
    tidy::run(workspace)?;
    lint::run(workspace)?;
    test::run(workspace, &test::Options::default())
}
