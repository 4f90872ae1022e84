//! `cargo xtask ci`: all that a change has to pass.

use std::process::ExitCode;

use crate::{lint, test, workspace::Workspace};

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    lint::run(workspace)?;
    test::run(workspace, &test::Options::default())
}
