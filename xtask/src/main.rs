//! Everything that is done to this repository, as `cargo xtask COMMAND`: this file is the list of
//! commands, and each has a file of its own.

mod accuracy;
mod bench;
mod ci;
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
mod test;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;

use crate::workspace::{Workspace, say};

#[derive(clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Builds, runs and checks synfin")]
enum Command {
    /// Build synfin and run it as root
    Run(run::Options),
    /// Run `synfin report 2`: a table that refreshes
    Watch(SynfinArgs),
    /// Run `synfin report`
    Report(SynfinArgs),
    /// Run `synfin trace`
    Trace(SynfinArgs),
    /// Run `synfin connections`
    Connections(SynfinArgs),
    /// Run `synfin record`
    Record(SynfinArgs),
    /// Run `synfin serve`
    Serve(SynfinArgs),
    /// Run `synfin diagnose`
    Diagnose(SynfinArgs),
    /// Run `synfin compare`
    Compare(SynfinArgs),
    /// Run `synfin anonymize`
    Anonymize(SynfinArgs),
    /// Run `synfin explain`
    Explain(SynfinArgs),
    /// Run `synfin doctor`
    Doctor(SynfinArgs),
    /// Run every test there is, kernel tests included
    Test(test::Options),
    /// Give the decoder, the recording reader, the tracker and the outputs whatever bytes
    Fuzz(fuzz::Options),
    /// Check formatting, clippy and documentation
    Lint,
    /// Check the house rules that no compiler knows
    Tidy,
    /// Do all that a change has to pass: lint, tidy and test
    Ci,
    /// Measure what synfin costs and withstands, and write docs/performance.md
    Bench(bench::Options),
    /// Write the parts of README.md and docs that say what the code says
    Docs(docs::Options),
    /// Play every fate of a connection again, and write docs/accuracy.md
    Accuracy,
    /// Build the eBPF objects that are committed in tracer/ebpf
    Ebpf(ebpf::Options),
    /// Make millions of connections: all are in the report, and synfin takes no more memory
    Soak(soak::Options),
    /// Try synfin on other kernels, in virtual machines
    Vm(vm::Options),
}

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
struct SynfinArgs {
    /// What follows the command's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    if rustc::is_wrapped() {
        return rustc::become_it();
    }
    if let Some(code) = vm::guest::play_part() {
        return code;
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
    let synfin = |command: &[&str], SynfinArgs { args }| {
        run::run(&workspace, &run::Options::of_command(command, args))
    };
    match command {
        Command::Run(options) => run::run(&workspace, &options)?,
        Command::Watch(args) => synfin(&["report", "2"], args)?,
        Command::Report(args) => synfin(&["report"], args)?,
        Command::Trace(args) => synfin(&["trace"], args)?,
        Command::Connections(args) => synfin(&["connections"], args)?,
        Command::Record(args) => synfin(&["record"], args)?,
        Command::Serve(args) => synfin(&["serve"], args)?,
        Command::Diagnose(args) => synfin(&["diagnose"], args)?,
        Command::Compare(args) => synfin(&["compare"], args)?,
        Command::Anonymize(args) => synfin(&["anonymize"], args)?,
        Command::Explain(args) => synfin(&["explain"], args)?,
        Command::Doctor(args) => synfin(&["doctor"], args)?,
        Command::Test(options) => return test::run(&workspace, &options),
        Command::Fuzz(options) => return fuzz::run(&workspace, &options),
        Command::Lint => lint::run(&workspace)?,
        Command::Tidy => tidy::run(&workspace)?,
        Command::Ci => return ci::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options)?,
        Command::Docs(options) => docs::run(&workspace, &options)?,
        Command::Accuracy => accuracy::run(&workspace)?,
        Command::Ebpf(options) => ebpf::run(&workspace, &options)?,
        Command::Soak(options) => soak::run(&workspace, &options)?,
        Command::Vm(options) => return vm::run(&workspace, &options),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Command::command().debug_assert();
    }
}
