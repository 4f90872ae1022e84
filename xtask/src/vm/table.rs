//! The end of it all: a line for every kernel, whatever became of the first, and what is to be
//! known of each.

use std::fmt;

use super::{
    results::{Test, TestResult},
    trial::{Outcome, Trial},
};
use crate::test::Summary;

pub(super) struct Table<'a>(pub(super) &'a [Trial]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|trial| trial.kernel.len()).max().unwrap_or(0);
        writeln!(f, "{:width$}  PASSED  FAILED  SKIPPED  SECONDS", "KERNEL")?;
        for trial in self.0 {
            write!(f, "{:width$}  ", trial.kernel)?;
            match &trial.outcome {
                Outcome::Skipped(why) => writeln!(f, "SKIPPED, NOT tried: {why}")?,
                Outcome::Tried(tried) => {
                    let Summary { passed, failed, skipped } = tried.run.summary();
                    write!(f, "{passed:6}  {failed:6}  {skipped:7}  {:7}", tried.seconds)?;
                    let is_well = trial.summary().failed == 0;
                    writeln!(f, "  {}", if is_well { "ok" } else { "NOT ok" })?;
                }
            }
        }
        for Trial { kernel, outcome, .. } in self.0 {
            let Outcome::Tried(tried) = outcome else { continue };
            for Test { name, result, skipped, second_attempt } in &tried.run.tests {
                if *result == TestResult::Failed {
                    writeln!(f, "{kernel}: {name} FAILED")?;
                }
                if *second_attempt {
                    writeln!(f, "{kernel}: {name} failed at first, not in its second attempt")?;
                }
                let what = if *result == TestResult::Skipped { "skipped" } else { "in part" };
                for why in skipped {
                    writeln!(f, "{kernel}: {name} {what}: {why}")?;
                }
            }
            for wrong in &tried.wrong {
                writeln!(f, "{kernel}: {wrong}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{results::TestRun, trial::Tried};

    #[test]
    fn every_kernel_has_a_line_and_what_is_wrong_is_named() {
        let output = "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ok\n\
            test-skipped: c: no such hook\n";
        let tried = Tried {
            run: TestRun::parse(output),
            seconds: 7,
            wrong: vec!["BUG: soft lockup".into()],
            ..Tried::default()
        };
        let trials = [
            Trial {
                kernel: "5.10:amd64".into(),
                synfin: String::new(),
                outcome: Outcome::Skipped("not here".into()),
            },
            Trial {
                kernel: "6.1.0-9".into(),
                synfin: String::new(),
                outcome: Outcome::Tried(tried),
            },
        ];
        let expected = "\
KERNEL      PASSED  FAILED  SKIPPED  SECONDS
5.10:amd64  SKIPPED, NOT tried: not here
6.1.0-9          1       1        1        7  NOT ok
6.1.0-9: b FAILED
6.1.0-9: c skipped: no such hook
6.1.0-9: BUG: soft lockup
";
        assert_eq!(Table(&trials).to_string(), expected);
        let summaries = trials.iter().map(Trial::summary);
        assert_eq!(summaries.sum::<Summary>(), Summary { passed: 1, failed: 2, skipped: 2 });
    }
}
