//! How synfin ends: the exit codes, for the program, its help and its documentation.

use std::process::{ExitCode, Termination};

/// How a run ended. 1 is kept for figures that are not as they were asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done = 0,
    /// It was asked for something that there is not, or given what it cannot read.
    Usage = 2,
    /// This host does not allow it, or lacks something.
    CannotRun = 3,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Done, Self::Usage, Self::CannotRun];

    /// The process's exit status.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// A few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Usage => "wrong usage or an unreadable recording",
            Self::CannotRun => "cannot run here",
        }
    }

    /// When it is used.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => {
                "All was done. A reader of the output that closes the pipe has seen enough, and \
                 the status of a COMMAND that synfin ran is its own."
            }
            Self::Usage => {
                "The command line is wrong, a word is not known, or a recording is of another \
                 version, cut off or damaged. What came before the damage is shown."
            }
            Self::CannotRun => {
                "This host does not allow what is needed, or does not have it: privileges, \
                 something of the kernel, a file that can be opened or written."
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
