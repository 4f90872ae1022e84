//! What the test programs and the kernels in the machines said, taken apart.

use serde::{Deserialize, Serialize};

use crate::test::Summary;

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) result: TestResult,
    /// What it says it could not try on this kernel, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped: Vec<String>,
    /// Whether it passed only when it was tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) second_attempt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TestResult {
    Passed,
    Failed,
    Skipped,
}

/// How a line begins by which a test says that this kernel lacks what it needs; its name and the
/// reason follow.
const SKIPPED: &str = "test-skipped: ";
/// The same of a part of a test; what remains has to pass.
const SKIPPED_IN_PART: &str = "test-skipped-in-part: ";

/// What a run of a test program said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TestRun {
    pub(super) tests: Vec<Test>,
    /// How many tests there were to be.
    pub(super) announced: usize,
}

impl TestRun {
    pub(super) fn parse(output: &str) -> Self {
        let mut run = Self::default();
        for line in output.lines() {
            if let Some((name, result)) = result_in(line) {
                let (name, skipped) = (name.into(), Vec::new());
                run.tests.push(Test { name, result, skipped, second_attempt: false });
            } else if let Some(count) = announced_in(line) {
                run.announced += count;
            }
        }
        for line in output.lines() {
            run.take_note_of(line);
        }
        run
    }

    fn take_note_of(&mut self, line: &str) {
        let whole = line.strip_prefix(SKIPPED);
        let Some(skipped) = whole.or_else(|| line.strip_prefix(SKIPPED_IN_PART)) else { return };
        let Some((name, why)) = skipped.split_once(": ") else { return };
        let Some(test) = self.tests.iter_mut().find(|test| test.name == name) else { return };
        test.skipped.push(why.into());
        if whole.is_some() && test.result == TestResult::Passed {
            test.result = TestResult::Skipped;
        }
    }

    /// The tests that failed.
    pub(super) fn failed(&self) -> Vec<String> {
        let failed = self.tests.iter().filter(|test| test.result == TestResult::Failed);
        failed.map(|test| test.name.clone()).collect()
    }

    /// Those that failed have what they came to in a later run.
    pub(super) fn take_second_attempt(&mut self, again: &Self) {
        for test in self.tests.iter_mut().filter(|test| test.result == TestResult::Failed) {
            if let Some(later) = again.tests.iter().find(|later| later.name == test.name) {
                let second_attempt = later.result != TestResult::Failed;
                *test = Test { second_attempt, ..later.clone() };
            }
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let count = |result| self.tests.iter().filter(|test| test.result == result).count() as u64;
        Summary {
            passed: count(TestResult::Passed),
            failed: count(TestResult::Failed),
            skipped: count(TestResult::Skipped),
        }
    }
}

/// Of a line like `test burst::nothing_is_lost ... ok`.
fn result_in(line: &str) -> Option<(&str, TestResult)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.trim_end_matches(" - should panic");
    match result.split(',').next()? {
        "ok" => Some((name, TestResult::Passed)),
        "FAILED" => Some((name, TestResult::Failed)),
        "ignored" => Some((name, TestResult::Skipped)),
        _ => None,
    }
}

/// Of a line like `running 3 tests`.
fn announced_in(line: &str) -> Option<usize> {
    let (count, what) = line.strip_prefix("running ")?.split_once(' ')?;
    matches!(what, "test" | "tests").then(|| count.parse().ok()).flatten()
}

/// What the program said of the tests that failed.
pub(super) fn failures(output: &str) -> &str {
    output.find("\nfailures:\n").map_or("", |at| output[at..].trim_start())
}

/// How the kernel's complaints about itself begin, of which each alone is a failure.
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

/// Lines that are shown of each.
const LINES: usize = 12;

/// What a kernel complained about, each with what it said next.
pub(super) fn complaints(console: &str) -> Vec<String> {
    let lines: Vec<_> = console.lines().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if COMPLAINTS.iter().any(|complaint| line.contains(complaint)) {
            let end = lines.len().min(at + LINES);
            found.push(lines[at..end].join("\n"));
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 4 tests
test-skipped-in-part: a::passes: one scenario
test a::passes ... ok
test-skipped: a::cannot_be_tried: the kernel has no fentry
test-skipped: a::fails: needs more than that
test a::cannot_be_tried ... ok
test a::fails ... FAILED
test later ... ignored, takes long

failures:

---- a::fails stdout ----

thread 'a::fails' panicked at x.rs:1:1:
it is wrong

failures:
    a::fails

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn all_tests_are_found_with_what_they_say() {
        let run = TestRun::parse(OUTPUT);
        let tests: Vec<_> = run
            .tests
            .iter()
            .map(|test| (test.name.as_str(), test.result, test.skipped.join("; ")))
            .collect();
        assert_eq!(
            tests,
            [
                ("a::passes", TestResult::Passed, "one scenario".to_owned()),
                ("a::cannot_be_tried", TestResult::Skipped, "the kernel has no fentry".to_owned()),
                ("a::fails", TestResult::Failed, "needs more than that".to_owned()),
                ("later", TestResult::Skipped, String::new()),
            ]
        );
        assert_eq!(run.announced, 4);
        assert!(failures(OUTPUT).starts_with("failures:\n\n---- a::fails stdout"));
    }

    #[test]
    fn a_test_that_fails_may_pass_when_tried_again() {
        let mut run = TestRun::parse("test a ... ok\ntest b ... FAILED\ntest c ... FAILED\n");
        assert_eq!(run.failed(), ["b", "c"]);
        run.take_second_attempt(&TestRun::parse("test b ... ok\ntest c ... FAILED\n"));
        assert_eq!(run.failed(), ["c"]);
        let needed: Vec<_> = run.tests.iter().map(|test| test.second_attempt).collect();
        assert_eq!(needed, [false, true, false]);
    }

    #[test]
    fn a_run_that_broke_off_says_how_many_tests_there_were_to_be() {
        let run = TestRun::parse("running 3 tests\ntest a ... ok\ntest b ... ");
        assert_eq!((run.announced, run.tests.len()), (3, 1));
    }

    #[test]
    fn a_kernel_that_complains_is_heard() {
        let console =
            "[ 1.0] fine\n[ 2.0] WARNING: CPU: 0 PID: 7 at net/x.c:1\n[ 2.0] Call Trace:\n";
        assert_eq!(complaints(console).len(), 1);
        assert!(complaints(console)[0].contains("Call Trace"));
        assert!(complaints("[ 1.0] fine\n").is_empty());
    }
}
