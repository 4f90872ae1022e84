//! Exit statuses, for the program, its help and its documentation.

use std::process::{ExitCode, Termination};

/// The result of a run, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The run succeeded.
    Done = 0,
    /// A `--fail-on` condition was true in some report.
    Violated = 1,
    /// The command line is wrong, a word is unknown, or a recording cannot be read.
    Usage = 2,
    /// This host does not permit or does not have something that is needed.
    CannotRun = 3,
    /// No `--fail-on` condition was true, but too much data is missing to be sure.
    Inconclusive = 4,
}

impl Exit {
    /// Every exit status, by ascending code.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Violated, Self::Usage, Self::CannotRun, Self::Inconclusive];

    /// The exit status of the process.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// A short description for the help.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Violated => "a --fail-on was violated",
            Self::Inconclusive => "inconclusive",
            Self::Usage => "wrong usage or an unreadable recording",
            Self::CannotRun => "cannot run here",
        }
    }

    /// The full description for the documentation.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => {
                "All was done, and no condition given with --fail-on was so. A reader of the output that closes the pipe has seen enough, and \
                 the status of a COMMAND that synfin ran is its own."
            }
            Self::Violated => {
                "All was done, and in some report a condition given with --fail-on was so: stderr \
                 says which, and the figure's value."
            }
            Self::Usage => {
                "The command line is wrong, a word is not known, or a recording is of another \
                 version, cut off or damaged. What came before the damage is shown."
            }
            Self::CannotRun => {
                "This host does not allow what is needed, or does not have it: privileges, \
                 something of the kernel, a file that can be opened or written."
            }
            Self::Inconclusive => {
                "Conditions were given with --fail-on and none was so, but that says little: more \
                 than one in 10,000 records were lost, missed or left gaps, no connection was \
                 seen, or a figure had no value in any report."
            }
        }
    }

    /// Lists every code with its title in one line, for the help.
    pub(crate) fn summary() -> String {
        let listed = Self::ALL.map(|exit| format!("{} {}", exit.code(), exit.title()));
        format!("Exit status: {}.", listed.join(", "))
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.code().into()
    }
}
