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
            Self::Violated => "a --fail-on condition was true",
            Self::Inconclusive => "inconclusive",
            Self::Usage => "wrong usage or an unreadable recording",
            Self::CannotRun => "cannot run here",
        }
    }

    /// The full description for the documentation.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => {
                "The command succeeded, and no --fail-on condition was true. A closed output \
                 pipe is not a failure, and the exit status of COMMAND is not passed on."
            }
            Self::Violated => {
                "The command succeeded, and a --fail-on condition was true in some report: stderr \
                 shows the condition and the value."
            }
            Self::Usage => {
                "The command line is wrong, a word is unknown, or a recording has another version, is \
                 cut off or damaged. Data before the damage is printed."
            }
            Self::CannotRun => {
                "This host lacks or forbids something that is needed: privileges, a kernel feature, \
                 a file that can be opened or written."
            }
            Self::Inconclusive => {
                "No --fail-on condition was true, but the result is unreliable: more than one in 10,000 \
                 events were lost, missed or left gaps, no connection was seen, or a column had no \
                 value in any report."
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
