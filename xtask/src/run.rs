//! `cargo xtask run` and the commands of synfin: builds it with stable Rust and runs it as root.

use std::{
    env, ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf, process::Command,
};

use anyhow::Context as _;

use crate::{ebpf, root, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build the eBPF programs too, instead of using the committed objects
    #[arg(long)]
    fresh_ebpf: bool,
    /// Build without optimization
    #[arg(long)]
    debug: bool,
    /// Arguments for synfin
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Options {
    /// Options for `synfin ARGS…`, optimized, with the committed objects.
    pub(crate) fn with_args(args: Vec<OsString>) -> Self {
        Self { fresh_ebpf: false, debug: false, args }
    }
}

/// Replaces this process by `synfin`, so it returns only on failure.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let profile = if options.debug { "dev" } else { "release" };
    let mut build = workspace.cargo().args(["build", "--package", "synfin", "--profile", profile]);
    if options.fresh_ebpf {
        build = build.env("SYNFIN_EBPF_DIR", ebpf::build(workspace)?);
    }
    build.run()?;

    let synfin = built_program(if options.debug { "debug" } else { "release" })?;
    let mut command = match root::prefix("synfin")? {
        [] => Command::new(&synfin),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(&synfin);
            command
        }
    };
    Err(command.args(&options.args).exec())
        .with_context(|| format!("cannot start {}", synfin.display()))
}

/// The path of the program. Cargo built xtask in `<target>/debug`, for any target directory.
fn built_program(profile_dir: &str) -> anyhow::Result<PathBuf> {
    let xtask = env::current_exe().context("cannot find cargo's target directory")?;
    let target = xtask.ancestors().nth(2).context("xtask was not started by `cargo xtask`")?;
    Ok(target.join(profile_dir).join("synfin"))
}
