//! `cargo xtask COMMAND` builds, runs and checks synfin. This file lists the commands; each has a
//! file of its own.

mod accuracy;
mod bench;
mod ci;
mod deny;
mod docs;
mod ebpf;
mod fuzz;
mod lint;
mod manifest;
mod packages;
mod pins;
mod portable;
mod python;
mod root;
mod run;
mod rustc;
mod soak;
mod summary;
mod test;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use anyhow::bail;
use clap::Parser as _;

use crate::workspace::{Workspace, say};

#[derive(clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Builds, runs and checks synfin")]
#[command(after_help = format!("Run synfin's commands: {}", SYNFIN_COMMANDS.join(", ")))]
enum Command {
    /// Build synfin and run it as root
    Run(run::Options),
    /// Run all tests, kernel tests included
    Test(test::Options),
    /// Fuzz the decoder, the recording reader, the tracker and the output formats
    Fuzz(fuzz::Options),
    /// Check formatting, clippy and documentation
    Lint,
    /// Check the sources by rules that rustc and clippy do not have
    Tidy,
    /// Check the licences, versions, sources and advisories of all dependencies
    Deny,
    /// Run every check that a change has to pass: lint, tidy and test
    Ci,
    /// Measure synfin's overhead and limits, and write docs/performance.md
    Bench(bench::Options),
    /// Generate the parts of docs that follow from the code
    Docs(docs::Options),
    /// Play the accuracy scenarios, and write docs/accuracy.md
    Accuracy,
    /// Build the committed eBPF objects in tracer/ebpf
    Ebpf(ebpf::Options),
    /// Make millions of connections, and check that none is lost and memory does not grow
    Soak(soak::Options),
    /// Run the kernel tests on other kernels, in virtual machines
    Vm(vm::Options),
    /// Command of synfin and its arguments
    #[command(external_subcommand)]
    Synfin(Vec<OsString>),
}

/// The commands of synfin, which build it and run it as root; `watch` is `report 2`.
const SYNFIN_COMMANDS: [&str; 13] = [
    "anonymize",
    "compare",
    "completions",
    "connections",
    "diagnose",
    "doctor",
    "explain",
    "record",
    "report",
    "serve",
    "top",
    "trace",
    "watch",
];

fn main() -> ExitCode {
    if rustc::is_wrapped() {
        return rustc::exec();
    }
    match execute(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::open()?;
    match command {
        Command::Run(options) => run::run(&workspace, &options)?,
        Command::Test(options) => return test::run(&workspace, &options),
        Command::Fuzz(options) => return fuzz::run(&workspace, &options),
        Command::Lint => lint::run(&workspace)?,
        Command::Tidy => tidy::run(&workspace)?,
        Command::Deny => deny::run(&workspace)?,
        Command::Ci => return ci::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options)?,
        Command::Docs(options) => docs::run(&workspace, &options)?,
        Command::Accuracy => accuracy::run(&workspace)?,
        Command::Ebpf(options) => ebpf::run(&workspace, &options)?,
        Command::Soak(options) => soak::run(&workspace, &options)?,
        Command::Vm(options) => return vm::run(&workspace, &options),
        Command::Synfin(args) => run_synfin(&workspace, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `synfin COMMAND ARGS…`, optimized.
fn run_synfin(workspace: &Workspace, mut args: Vec<OsString>) -> anyhow::Result<()> {
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    if !SYNFIN_COMMANDS.contains(&command) {
        bail!("there is no command {command}: see `cargo xtask help`");
    }
    if command == "watch" {
        args.splice(..1, ["report".into(), "2".into()]);
    }
    run::run(workspace, &run::Options::with_args(args))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Command::command().debug_assert();
    }

    #[test]
    fn commands_of_synfin_accept_all_of_its_arguments() {
        let command = Command::parse_from(["cargo xtask", "trace", "-p", "80", "--help"]);
        let Command::Synfin(args) = command else { panic!("parsed as another command") };
        assert_eq!(args, ["trace", "-p", "80", "--help"]);
    }
}
