//! The output of the tests and the kernel of one virtual machine, and the failures in it.

use std::collections::BTreeSet;

use crate::summary::Summary;

/// Messages of a kernel that count as failures.
const COMPLAINTS: [&str; 10] = [
    "BUG: ",
    "Oops",
    "WARNING: ",
    "Kernel panic",
    "general protection fault",
    "Unable to handle kernel",
    "refcount_t: ",
    "unregister_netdevice: waiting",
    "blocked for more than",
    "Out of memory",
];

/// Number of lines of the console to show from a complaint on.
const LINES: usize = 12;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) summary: Summary,
    /// Failures, each of which `summary` counts.
    pub(super) wrong: Vec<String>,
    /// The tests or parts of tests that this kernel cannot run, and the reason.
    pub(super) skipped: Vec<String>,
}

impl Report {
    pub(super) fn new(output: &str, console: &str) -> Self {
        let mut wrong: Vec<_> = complaint(console).into_iter().collect();
        if !output.contains("vm: synfin ended with 0\n") {
            let doctor = output.split("\nrunning ").next().unwrap_or_default();
            wrong.push(format!("`synfin doctor` failed:\n{doctor}"));
        }
        let tests = output.lines().find_map(Summary::parse);
        match tests {
            None => wrong.push(format!("the tests did not end; last lines:\n{}", last(output))),
            Some(Summary { passed: 0, failed: 0, .. }) => wrong.push("no test ran".into()),
            Some(Summary { failed: 0, .. }) if !output.contains("vm: tests ended with 0\n") => {
                wrong.push(format!("no test failed, but their program did:\n{}", last(output)));
            }
            Some(_) => {}
        }
        let lines_with = |prefix| output.lines().filter_map(move |line| line.strip_prefix(prefix));
        let skipped = lines_with("test-skipped: ");
        let skipped_tests: BTreeSet<_> =
            skipped.clone().filter_map(|line| line.split(": ").next()).collect();
        let tests = tests.unwrap_or_default().with_skipped(skipped_tests.len() as u64);
        let failed = tests.failed + wrong.len() as u64;
        if let Some(at) = output.find("\nfailures:\n") {
            wrong.push(output[at + 1..].trim_end().to_owned());
        }
        Self {
            summary: Summary { failed, ..tests },
            wrong,
            skipped: skipped
                .chain(lines_with("test-skipped-in-part: "))
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// The first complaint of a kernel, with the next lines.
fn complaint(console: &str) -> Option<String> {
    let is_one = |line: &&str| COMPLAINTS.iter().any(|complaint| line.contains(complaint));
    let lines: Vec<_> = console.lines().skip_while(|line| !is_one(line)).take(LINES).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn last(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCTOR: &str = "all is well\nvm: synfin ended with 0\n";
    const TESTS: &str = "\nrunning 3 tests\ntest-skipped-in-part: a::x: one scenario\n\
        test a::x ... ok\ntest-skipped: a::y: the kernel has no fentry\ntest a::y ... ok\n\
        test-skipped: a::y: and no MPTCP\ntest z ... ignored\n\n\
        test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n";

    #[test]
    fn tests_are_counted_and_skips_are_named() {
        let report = Report::new(&[DOCTOR, TESTS, "vm: tests ended with 0\n"].concat(), "fine\n");
        let expected = Report {
            summary: Summary { passed: 1, failed: 0, skipped: 2 },
            wrong: vec![],
            skipped: vec![
                "a::y: the kernel has no fentry".into(),
                "a::y: and no MPTCP".into(),
                "a::x: one scenario".into(),
            ],
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn every_problem_is_a_failure() {
        let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n";
        let ended = "vm: tests ended with 0\n";
        let cases = [
            (format!("no hook\nvm: synfin ended with 3\n{TESTS}{ended}"), "", 1, "no hook"),
            (format!("{DOCTOR}running 3 tests\ntest a::x ... "), "", 1, "test a::x ..."),
            (format!("{DOCTOR}{TESTS}"), "", 1, "their program did"),
            (format!("{DOCTOR}\nfailures:\n\nit is 3\n\n{failed}"), "", 2, "it is 3"),
            (format!("{DOCTOR}{TESTS}{ended}"), "[ 1.0] fine\n[ 2.0] BUG: x\nat y\n", 1, "at y"),
            (
                format!("{DOCTOR}test result: ok. 0 passed; 0 failed; 0 ignored\n{ended}"),
                "",
                1,
                "no",
            ),
        ];
        for (output, console, count, text) in cases {
            let report = Report::new(&output, console);
            assert_eq!(report.summary.failed, count, "{output}");
            assert!(report.wrong.concat().contains(text), "{report:?}");
        }
    }
}
