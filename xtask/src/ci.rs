//! `cargo xtask ci`: all that a change has to pass.

use std::process::ExitCode;

use crate::{lint, test, tidy, workspace::Workspace};

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    // Also part of the tests, but quicker than all else.
    tidy::run(workspace)?;
    lint::run(workspace)?;
    test::run(workspace, &test::Options::default())
}
