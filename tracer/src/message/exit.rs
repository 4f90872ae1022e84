//! How synfin ends: the exit codes, for the program, its help and its documentation.

use std::process::{ExitCode, Termination};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done = 0,
    /// A figure is as it must not be.
    Violated = 1,
    /// It was asked for something that there is not, or given what it cannot read.
    Usage = 2,
    /// This host does not allow it, or lacks something.
    CannotRun = 3,
    /// Whether figures are as they must not be cannot be told.
    Inconclusive = 4,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Violated, Self::Usage, Self::CannotRun, Self::Inconclusive];

    /// The process's exit status.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// A few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Violated => "a --fail-on was violated",
            Self::Inconclusive => "inconclusive",
            Self::Usage => "wrong usage or an unreadable recording",
            Self::CannotRun => "cannot run here",
        }
    }

    /// When it is used.
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

    /// All of them in a line, for the help.
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
