//! `cargo xtask fuzz`: runs libFuzzer on the targets in `tracer/fuzz`, minimizes the failing inputs,
//! and stores them as regressions that every test run replays.
//!
//! The fuzzed code has no unsafe code, so it needs no sanitizers, and hence neither a nightly nor
//! cargo-fuzz. libFuzzer itself needs a C++ compiler.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};
use xshell::cmd;

use crate::{
    packages,
    summary::Summary,
    workspace::{Workspace, find_program, say},
};

const PACKAGE: &str = "tracer/fuzz";
/// Inputs that made a target fail, in a directory for each target; `tracer/tests/formats/fuzz.rs`
/// replays them.
const REGRESSIONS: &str = "tracer/fuzz/regressions";
/// The target directory of instrumented builds, which also has the corpora.
const TARGET_DIR: &str = "target/fuzz";

/// The instrumentation that libFuzzer needs: coverage of edges, and operands of comparisons.
const RUSTFLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Time for each target in a test run.
const BRIEF_TIME: Duration = Duration::from_secs(5);
/// Time to minimize an input.
const MINIMIZE_SECONDS: u64 = 20;
/// An input that takes longer is a failure.
const TIMEOUT_SECONDS: u64 = 20;
/// Longer inputs find no more failures, and are slow.
const LONGEST_INPUT: usize = 8192;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Target in tracer/fuzz/fuzz_targets; by default all
    target: Option<String>,
    /// Time to fuzz each target (10s, 5m …)
    #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    time: Duration,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    provide_compiler(workspace)?;
    let targets = targets(&workspace.root)?;
    let targets = match &options.target {
        None => targets,
        Some(target) if targets.contains(target) => vec![target.clone()],
        Some(unknown) => {
            bail!("there is no fuzz target {unknown}; the targets are {}", targets.join(", "))
        }
    };
    let summary = Fuzzer::build(workspace)?.fuzz_all(&targets, options.time)?;
    println!("{summary}");
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fuzzes every target for a few seconds; the test run includes this.
pub(crate) fn brief(workspace: &Workspace) -> anyhow::Result<Summary> {
    let targets = targets(&workspace.root)?;
    if let Err(error) = provide_compiler(workspace) {
        say(format!("SKIPPED: the fuzz targets were NOT run.\n{error:#}"));
        return Ok(Summary { skipped: targets.len() as u64, ..Summary::default() });
    }
    Fuzzer::build(workspace)?.fuzz_all(&targets, BRIEF_TIME)
}

fn provide_compiler(workspace: &Workspace) -> anyhow::Result<()> {
    if env::var_os("CXX").is_some() || find_program("c++").is_some() {
        return Ok(());
    }
    packages::install(&workspace.sh, &["g++"], "fuzz targets")
}

/// The names of the targets' files.
fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join(PACKAGE).join("fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let (Some("rs"), Some(name)) =
            (path.extension().and_then(OsStr::to_str), path.file_stem().and_then(OsStr::to_str))
        {
            targets.push(name.to_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

struct Fuzzer<'a> {
    root: &'a Path,
    /// The directory of the instrumented programs.
    programs: PathBuf,
}

/// An input that made a target fail.
struct Finding {
    /// The path of the input relative to the root.
    kept: PathBuf,
    /// The target's error message.
    message: String,
}

impl<'a> Fuzzer<'a> {
    /// Builds the targets, and writes their seeds into their corpora.
    fn build(workspace: &'a Workspace) -> anyhow::Result<Self> {
        say("building the fuzz targets");
        let sh = &workspace.sh;
        let manifest = format!("{PACKAGE}/Cargo.toml");
        let host = cmd!(sh, "rustc --print host-tuple").quiet().read()?;
        workspace
            .cargo()
            .args(["build", "--quiet", "--release", "--locked", "--manifest-path", &manifest])
            // With `--target`, build scripts and macros are not instrumented.
            .args(["--target", &host, "--target-dir", TARGET_DIR])
            .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
            .run()?;
        let programs = workspace.root.join(TARGET_DIR).join(host).join("release");
        let fuzzer = Self { root: &workspace.root, programs };
        let (seeds, corpora) = (fuzzer.programs.join("seeds"), fuzzer.folder("corpus"));
        cmd!(sh, "{seeds} {corpora}").quiet().run()?;
        Ok(fuzzer)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(TARGET_DIR).join(name)
    }

    fn fuzz_all(&self, targets: &[String], time: Duration) -> anyhow::Result<Summary> {
        let mut summary = Summary::default();
        for target in targets {
            match self.fuzz(target, time)? {
                Ok(inputs) => {
                    println!("fuzz target {target} ... ok ({inputs} inputs)");
                    summary.passed += 1;
                }
                Err(Finding { kept, message }) => {
                    println!("fuzz target {target} ... FAILED\n{message}");
                    println!(
                        "The input is stored: {}\nTo reproduce the failure: \
                         cargo test -p synfin --test formats fuzz::\n\
                         Commit it together with the fix.",
                        kept.display()
                    );
                    summary.failed += 1;
                }
            }
        }
        Ok(summary)
    }

    /// Returns the number of inputs that passed, or the first one that failed.
    fn fuzz(&self, target: &str, time: Duration) -> anyhow::Result<Result<u64, Finding>> {
        let corpus = self.folder("corpus").join(target);
        let regressions = self.root.join(REGRESSIONS).join(target);
        let log = self.folder(&format!("{target}.log"));
        let found = self.folder("found").join(target);
        // Inputs from earlier runs are among the regressions.
        match fs::remove_dir_all(&found) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(&found)?,
        }
        say(format!(
            "fuzzing {target} for {}; log: {TARGET_DIR}/{target}.log",
            humantime::format_duration(time),
        ));
        let status = Command::new(self.programs.join(target))
            .arg(&corpus)
            .args(regressions.is_dir().then_some(&regressions))
            .arg(format!("-max_total_time={}", time.as_secs().max(1)))
            .arg(format!("-timeout={TIMEOUT_SECONDS}"))
            .arg(format!("-max_len={LONGEST_INPUT}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .stderr(File::create(&log)?)
            .status()
            .with_context(|| format!("cannot start the fuzz target {target}"))?;
        let log_text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if status.success() {
            return Ok(Ok(inputs_run(&log_text)));
        }
        let first = fs::read_dir(&found)?.next().transpose()?;
        let Some(input) = first.map(|entry| entry.path()) else {
            bail!("the fuzz target {target} ended with {status}: see {}", log.display());
        };
        let kept = self.keep(target, &self.minimized(target, &input)?)?;
        Ok(Err(Finding { kept, message: failure_in(&log_text) }))
    }

    /// Returns a smaller input that fails too, or the same input.
    fn minimized(&self, target: &str, input: &Path) -> anyhow::Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        let is_crash =
            input.file_name().is_some_and(|name| name.to_string_lossy().starts_with("crash-"));
        if !is_crash {
            return read(input);
        }
        say(format!("minimizing the input for at most {MINIMIZE_SECONDS} s"));
        let smaller = self.folder(&format!("{target}.smaller"));
        fs::copy(input, &smaller)?;
        Command::new(self.programs.join(target))
            .args(["-minimize_crash=1", &format!("-max_total_time={MINIMIZE_SECONDS}")])
            .arg(format!("-exact_artifact_path={}", smaller.display()))
            .arg(input)
            .stderr(File::create(self.folder(&format!("{target}.minimize.log")))?)
            .status()
            .context("cannot start the minimization")?;
        read(&smaller)
    }

    /// Stores an input as a regression; the same input always gets the same name.
    fn keep(&self, target: &str, input: &[u8]) -> anyhow::Result<PathBuf> {
        let hash = Sha256::digest(input);
        let name: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let kept = Path::new(REGRESSIONS).join(target).join(name);
        let path = self.root.join(&kept);
        fs::create_dir_all(self.root.join(REGRESSIONS).join(target))?;
        fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(kept)
    }
}

/// The count in libFuzzer's last line: `Done 5408 runs in 9 second(s)`.
fn inputs_run(log: &str) -> u64 {
    let done = log.lines().rev().find_map(|line| line.strip_prefix("Done "));
    done.and_then(|done| done.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// The message of the panic without its stack trace, or libFuzzer's error.
fn failure_in(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let begin = lines
        .iter()
        .position(|line| line.contains("panicked at"))
        .or_else(|| lines.iter().position(|line| line.contains("ERROR: libFuzzer")));
    let lines = begin.map_or(&lines[..], |begin| &lines[begin..]);
    let trace = lines.iter().position(|line| line.starts_with("stack backtrace:"));
    lines[..trace.unwrap_or(lines.len()).min(8)].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
INFO: Seed: 1
#2\tINITED cov: 3 ft: 3 corp: 1/1b exec/s: 0 rss: 27Mb

thread '<unnamed>' (7) panicked at src/decode.rs:7:9:
bytes vanish
stack backtrace:
   0: std::panicking
==7== ERROR: libFuzzer: deadly signal
";

    #[test]
    fn a_panic_is_shown_without_its_stack_trace() {
        let expected = "thread '<unnamed>' (7) panicked at src/decode.rs:7:9:\nbytes vanish";
        assert_eq!(failure_in(LOG), expected);
    }

    #[test]
    fn other_failures_are_shown_too() {
        let log = "INFO: Seed: 1\n==7== ERROR: libFuzzer: timeout after 20 seconds\n";
        assert_eq!(failure_in(log), "==7== ERROR: libFuzzer: timeout after 20 seconds");
        assert_eq!(failure_in("killed\n"), "killed");
    }

    #[test]
    fn the_last_line_has_the_number_of_inputs() {
        assert_eq!(inputs_run("Done 3\n#8\tDONE\nDone 5408 runs in 9 second(s)\n"), 5408);
        assert_eq!(inputs_run(LOG), 0);
    }

    #[test]
    fn every_target_is_built_and_has_its_name_in_the_library() {
        let package = crate::workspace::root().join(PACKAGE);
        let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
        let library = fs::read_to_string(package.join("src/lib.rs")).unwrap();
        let targets = targets(&crate::workspace::root()).unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(manifest.contains(&format!("fuzz_targets/{target}.rs")), "{target}");
            assert!(library.contains(&format!("name: {target:?}")), "{target}");
        }
    }
}
