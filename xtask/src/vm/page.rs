//! `docs/compatibility.md`: what a run of the whole matrix showed.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use serde_json::Value;

use super::{
    results::{Test, TestResult},
    trial::{Outcome, Trial, Tried},
};

/// The page, of a run on this day, as `2026-11-23`.
pub(super) fn write(trials: &[Trial], day: &str) -> Result<String, fmt::Error> {
    let tried: Vec<_> = trials
        .iter()
        .filter_map(|Trial { kernel, outcome, .. }| match outcome {
            Outcome::Tried(tried) => Some(Column { series: series(kernel), kernel, tried }),
            Outcome::Skipped(_) => None,
        })
        .collect();
    let mut page = String::new();
    writeln!(
        page,
        "# Compatibility\n\n\
         <!-- written by `cargo xtask vm --docs` -->\n\n\
         What `cargo xtask vm` found on {day}: all kernel tests, the accuracy laboratory among \
         them, on kernels of Debian's that run in emulated machines with two processors. There is \
         one eBPF object for all of them.\n"
    )?;
    kernels(&mut page, trials, &tried)?;
    hooks(&mut page, &tried)?;
    knowledge(&mut page, &tried)?;
    limitations(&mut page, &tried)?;
    modules(&mut page, &tried)?;
    skipped(&mut page, &tried)?;
    second_attempts(&mut page, &tried)?;
    Ok(page.trim_end().to_owned() + "\n")
}

/// A kernel that was tried.
struct Column<'a> {
    series: String,
    kernel: &'a str,
    tried: &'a Tried,
}

impl Column<'_> {
    fn host(&self, key: &str) -> &Value {
        &self.tried.host[key]
    }
}

/// `5.10` of `5.10.0-46-cloud-amd64`; another architecture than that is named.
fn series(kernel: &str) -> String {
    let numbers: Vec<_> = kernel.splitn(3, '.').take(2).collect();
    let arch = kernel.rsplit_once('-').map(|(_, arch)| arch).filter(|arch| *arch != "amd64");
    numbers.join(".") + &arch.map(|arch| format!(" {arch}")).unwrap_or_default()
}

fn kernels(page: &mut String, trials: &[Trial], tried: &[Column<'_>]) -> fmt::Result {
    writeln!(page, "| kernel | package | tests passed | failed | skipped |")?;
    writeln!(page, "| --- | --- | --: | --: | --: |")?;
    for Column { kernel, tried, .. } in tried {
        let summary = tried.run.summary();
        let package = tried.version.split_once("Debian ").map_or("", |(_, version)| version);
        let package = package.split(' ').next().unwrap_or_default();
        let (passed, failed, skipped) = (summary.passed, summary.failed, summary.skipped);
        writeln!(page, "| {kernel} | {package} | {passed} | {failed} | {skipped} |")?;
    }
    for Trial { kernel, outcome, .. } in trials {
        if let Outcome::Skipped(why) = outcome {
            writeln!(page, "| {kernel} | not tried: {} | | | |", why.replace(['\n', '|'], " "))?;
        }
    }
    writeln!(page)
}

/// The head of a table with a column for each kernel.
fn head(page: &mut String, title: &str, first: &str, tried: &[Column<'_>]) -> fmt::Result {
    let series: Vec<_> = tried.iter().map(|column| column.series.as_str()).collect();
    writeln!(page, "## {title}\n\n| {first} | {} |", series.join(" | "))?;
    writeln!(page, "| --- |{}", " --- |".repeat(tried.len()))
}

fn row<T: fmt::Display>(page: &mut String, name: &str, cells: Vec<T>) -> fmt::Result {
    let cells: Vec<_> = cells.iter().map(ToString::to_string).collect();
    writeln!(page, "| {name} | {} |", cells.join(" | "))
}

fn hooks(page: &mut String, tried: &[Column<'_>]) -> fmt::Result {
    let has = |column: &Column<'_>, hook: &str| {
        let hooks = column.host("hooks").as_array();
        hooks.is_some_and(|hooks| hooks.iter().any(|name| name == hook))
    };
    let mut names = Vec::new();
    for column in tried {
        let hooks = column.host("hooks").as_array().into_iter().flatten();
        for hook in hooks.filter_map(Value::as_str) {
            if !names.contains(&hook) {
                names.push(hook);
            }
        }
    }
    head(page, "Hooks that could be attached", "hook", tried)?;
    for name in names {
        let cells = tried.iter().map(|column| if has(column, name) { "yes" } else { "no" });
        row(page, &format!("`{name}`"), cells.collect())?;
    }
    writeln!(page)
}

fn knowledge(page: &mut String, tried: &[Column<'_>]) -> fmt::Result {
    let subjects: BTreeSet<_> = tried
        .iter()
        .filter_map(|column| column.host("knowledge").as_object())
        .flat_map(|knowledge| knowledge.keys())
        .collect();
    if subjects.is_empty() {
        return Ok(());
    }
    head(page, "What is exact, inferred or unknown", "subject", tried)?;
    for subject in subjects {
        let cells = tried
            .iter()
            .map(|column| column.host("knowledge")[subject].as_str().unwrap_or("-").to_owned());
        row(page, &format!("`{subject}`"), cells.collect())?;
    }
    writeln!(page)
}

/// What every kernel's report says could not be known there.
fn limitations(page: &mut String, tried: &[Column<'_>]) -> fmt::Result {
    let said: Vec<_> = tried
        .iter()
        .flat_map(|column| {
            let limitations = column.host("limitations").as_array().into_iter().flatten();
            limitations.filter_map(Value::as_str).map(|said| (column.series.as_str(), said))
        })
        .collect();
    list(page, "What could not be known", &said)
}

/// The tests, by the module that they are in.
fn modules(page: &mut String, tried: &[Column<'_>]) -> fmt::Result {
    let module = |test: &Test| test.name.split("::").next().unwrap_or_default().to_owned();
    let modules: BTreeSet<_> =
        tried.iter().flat_map(|column| column.tried.run.tests.iter().map(module)).collect();
    head(page, "Tests that passed", "tests", tried)?;
    for name in modules {
        let cells = tried.iter().map(|column| {
            let tests = column.tried.run.tests.iter().filter(|test| module(test) == name);
            let (passed, all) = tests.fold((0, 0), |(passed, all), test| {
                (passed + u32::from(test.result == TestResult::Passed), all + 1)
            });
            format!("{passed} of {all}")
        });
        row(page, &format!("`{name}`"), cells.collect())?;
    }
    writeln!(page)
}

fn skipped(page: &mut String, tried: &[Column<'_>]) -> fmt::Result {
    let mut said = Vec::new();
    for column in tried {
        for Test { name, skipped, .. } in &column.tried.run.tests {
            let reasons =
                skipped.iter().map(|why| (column.series.as_str(), format!("`{name}`: {why}")));
            said.extend(reasons);
        }
    }
    list(page, "What could not be tried", &said)
}

fn second_attempts(page: &mut String, tried: &[Column<'_>]) -> fmt::Result {
    let mut said = Vec::new();
    for column in tried {
        let needed = column.tried.run.tests.iter().filter(|test| test.second_attempt);
        said.extend(needed.map(|test| (column.series.as_str(), format!("`{}`", test.name))));
    }
    list(page, "What failed at first, and passed in a later attempt", &said)
}

/// A line for each different thing, with the kernels that it is said of.
fn list(page: &mut String, title: &str, said: &[(&str, impl AsRef<str>)]) -> fmt::Result {
    if said.is_empty() {
        return Ok(());
    }
    writeln!(page, "## {title}\n")?;
    let mut done = BTreeSet::new();
    for (_, what) in said {
        if done.insert(what.as_ref()) {
            let of = said.iter().filter(|(_, other)| other.as_ref() == what.as_ref());
            let mut of: Vec<_> = of.map(|(series, _)| *series).collect();
            of.dedup();
            writeln!(page, "- {}: {}", of.join(", "), what.as_ref())?;
        }
    }
    writeln!(page)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vm::results::TestRun;

    #[test]
    fn the_page_says_what_each_kernel_showed() {
        let tried = |output: &str, host| {
            Outcome::Tried(Tried {
                run: TestRun::parse(output),
                version: "#1 SMP Debian 5.10.262-1 (2026-07-31)".into(),
                host,
                ..Tried::default()
            })
        };
        let trials = [
            Trial {
                kernel: "5.10.0-46-cloud-amd64".into(),
                synfin: String::new(),
                outcome: tried(
                    "test a::x ... ok\ntest-skipped: a::x: no hook\n",
                    json!({ "hooks": ["one"], "limitations": ["no two"] }),
                ),
            },
            Trial {
                kernel: "6.12.9+deb13-cloud-arm64".into(),
                synfin: String::new(),
                outcome: tried(
                    "test a::x ... ok\n",
                    json!({ "hooks": ["one", "two"], "knowledge": { "it": "exact" } }),
                ),
            },
            Trial {
                kernel: "7.3:amd64".into(),
                synfin: String::new(),
                outcome: Outcome::Skipped("gone".into()),
            },
        ];
        let page = write(&trials, "2026-11-23").unwrap();
        for line in [
            "| 5.10.0-46-cloud-amd64 | 5.10.262-1 | 0 | 0 | 1 |",
            "| 7.3:amd64 | not tried: gone | | | |",
            "| hook | 5.10 | 6.12 arm64 |",
            "| `two` | no | yes |",
            "| `it` | - | exact |",
            "- 5.10: no two",
            "| `a` | 0 of 1 | 1 of 1 |",
            "- 5.10: `a::x`: no hook",
        ] {
            assert!(page.lines().any(|other| other == line), "no {line:?} in\n{page}");
        }
    }
}
