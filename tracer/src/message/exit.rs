//! Exit statuses, for the program, its help and its documentation.

use std::{
    num::NonZeroU8,
    process::{ExitCode, Termination},
};

/// The result of a run, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The run succeeded.
    Done,
    /// What `--fail-on` describes was true in some report, or found.
    Violated,
    /// The command line is wrong, a word is unknown, or a recording cannot be read.
    Usage,
    /// This host does not permit or does not have something that is needed.
    CannotRun,
    /// No `--fail-on` condition was true, but too much data is missing to be sure.
    Inconclusive,
    /// The command that was run failed with this status, or could not be run, or the run ended first.
    OfCommand(NonZeroU8),
}

impl Exit {
    /// Every exit status of synfin itself, by ascending code.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Violated, Self::Usage, Self::CannotRun, Self::Inconclusive];

    /// The exit status of the process.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Violated => 1,
            Self::Usage => 2,
            Self::CannotRun => 3,
            Self::Inconclusive => 4,
            Self::OfCommand(code) => code.get(),
        }
    }

    /// This result, or that of the command that was run if the command failed, which does not hide
    /// that a condition was true.
    #[must_use]
    pub(crate) fn or_of_command(self, command: Self) -> Self {
        match (self, command) {
            (Self::Done | Self::Inconclusive, Self::OfCommand(_)) => command,
            _ => self,
        }
    }

    /// A short description for the help.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Violated => "a --fail-on condition was true",
            Self::Inconclusive => "inconclusive",
            Self::Usage => "wrong usage or an unreadable recording",
            Self::CannotRun => "cannot run here",
            Self::OfCommand(_) => "COMMAND failed",
        }
    }

    /// The full description for the documentation.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => {
                "The command succeeded, and no --fail-on condition was true. A closed output \
                 pipe is not a failure. If COMMAND failed, its exit status is that of synfin, unless a \
                 condition was true; 128 and the number of the signal if one killed it, or ended \
                 synfin first; 124 if the run was over before COMMAND (--for, COUNT), which is then \
                 ended; 126 if it cannot be executed; 127 if it does not exist."
            }
            Self::Violated => {
                "The command succeeded, and a --fail-on condition was true in some report: stderr \
                 shows the condition and the value. Or `diagnose` has a finding, or `compare` a change, \
                 that is as urgent as --fail-on says."
            }
            Self::Usage => {
                "The command line is wrong, a word is unknown, or a recording has another version, is \
                 cut off or damaged. Data before the damage is printed."
            }
            Self::CannotRun => {
                "This host lacks or forbids something that is needed: privileges, a kernel feature, \
                 a file that can be opened or written."
            }
            Self::OfCommand(_) => "COMMAND failed with this exit status.",
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
