//! `cargo xtask test`: runs all tests, kernel tests included, and adds up their results.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    process::{Command, ExitCode, Stdio},
};

use anyhow::Context as _;

use crate::{
    deny, ebpf, fuzz, manifest, packages, portable, python, root,
    summary::Summary,
    tidy, vm,
    workspace::{Workspace, find_program, say},
};

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Do not rebuild the eBPF programs to compare them with the committed objects
    #[arg(long)]
    no_rebuild: bool,
    /// Do not run the fuzz targets (ARGS imply this)
    #[arg(long)]
    no_fuzz: bool,
    /// Do not run the kernel tests on other kernels (ARGS imply this)
    #[arg(long)]
    no_vm: bool,
    /// Arguments for the test programs, as after `cargo test --`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    tidy::run(workspace)?;
    if options.no_rebuild {
        manifest::verify(&workspace.root)?;
    } else {
        ebpf::check(workspace)?;
    }
    provide_programs(workspace);
    deny::check_offline(workspace)?;
    if options.args.is_empty() {
        portable::run(workspace)?;
    }

    // All test programs run even if one fails, so that the total covers all of them.
    let test =
        workspace.cargo().args(["test", "--workspace", "--profile", "testing", "--no-fail-fast"]);
    let test = test.args(root::cargo_options("the kernel tests")?);
    let skipped = workspace.root.join(SKIPPED);
    fs::create_dir_all(skipped.parent().unwrap_or(&workspace.root))?;
    fs::write(&skipped, "")?;
    let test = test.env("SYNFIN_TEST_SKIPPED", &skipped);
    let mut cargo = Command::from(test.arg("--").args(&options.args))
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = cargo.stdout.take().context("cargo test has no output")?;
    let mut summaries = copy_output(output, &mut io::stdout().lock())?;
    let status = cargo.wait()?;
    if !status.success() && summaries.iter().all(|summary| summary.failed == 0) {
        say(format!("no test failed, but cargo test did ({status}): see its error above"));
    }
    if options.args.is_empty() && !options.no_fuzz {
        summaries.push(fuzz::brief(workspace)?);
    }
    if options.args.is_empty() && !options.no_vm {
        summaries.push(vm::brief(workspace)?);
    }
    let skipped = fs::read_to_string(&skipped)?;
    print!("{skipped}");
    let total = summaries.into_iter().sum::<Summary>().with_skipped(skipped.lines().count() as u64);
    println!("{total}");
    let success = status.success() && total.failed == 0;
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The file in which tests declare themselves as skipped; the harness counts them as passed.
const SKIPPED: &str = "target/skipped-tests";

/// Programs that tests call, and their Debian packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("tcpdump", "tcpdump"),
    ("tmux", "tmux"),
    ("prometheus", "prometheus"),
];

/// Installs missing programs. If that fails, the tests that need a program fail and name it.
fn provide_programs(workspace: &Workspace) {
    let missing = PROGRAMS.iter().filter(|(program, _)| find_program(program).is_none());
    let packages: Vec<_> = missing.map(|&(_, package)| package).collect();
    for provided in
        [packages::install(&workspace.sh, &packages, "tests"), python::provide(workspace)]
    {
        if let Err(error) = provided {
            say(format!("{error:#}"));
        }
    }
}

/// Copies the output of the test programs while they run, and returns their summaries.
fn copy_output(mut from: impl Read, to: &mut impl Write) -> io::Result<Vec<Summary>> {
    let mut summaries = Vec::new();
    let mut line = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let length = from.read(&mut chunk)?;
        if length == 0 {
            return Ok(summaries);
        }
        to.write_all(&chunk[..length])?;
        to.flush()?;
        for &byte in &chunk[..length] {
            if byte == b'\n' {
                summaries.extend(Summary::parse(&String::from_utf8_lossy(&line)));
                line.clear();
            } else {
                line.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.50s
";

    #[test]
    fn summaries_of_all_test_programs_add_up() {
        let mut shown = Vec::new();
        let total: Summary = copy_output(OUTPUT.as_bytes(), &mut shown).unwrap().into_iter().sum();
        assert_eq!(shown, OUTPUT.as_bytes());
        assert_eq!(total, Summary { passed: 12, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_summary_survives_being_read_in_pieces() {
        struct OneByteAtATime<'a>(&'a [u8]);
        impl Read for OneByteAtATime<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(&mut buffer[..1])
            }
        }
        let output = OneByteAtATime(OUTPUT.as_bytes());
        assert_eq!(copy_output(output, &mut io::sink()).unwrap().len(), 2);
    }
}
