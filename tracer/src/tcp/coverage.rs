//! What a trace can tell for certain: exact, inferred or unknown, by what the kernel showed. A
//! recording says it, so a replay says the same as the host did.

use crate::tcp::labels::Enumeration;

/// What some kernels show and others do not, or do not allow to be seen: the first three need
/// programs on the kernel's own functions (fentry), which a kernel in lockdown refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalHook {
    /// Entries into TIME_WAIT, and how each ends.
    TimeWait,
    /// Handshakes in listeners' SYN queues.
    SynQueue,
    /// When accept() takes a connection.
    AcceptWait,
    /// Resets that are sent with no connection behind them.
    Resets,
}

impl OptionalHook {
    /// All.
    pub const ALL: [Self; 4] = [Self::TimeWait, Self::SynQueue, Self::AcceptWait, Self::Resets];

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeWait => "time_wait",
            Self::SynQueue => "syn_queue",
            Self::AcceptWait => "accept_wait",
            Self::Resets => "resets",
        }
    }

    /// Their names.
    pub const WORDS: Enumeration =
        Enumeration { name: "subject", all: || Self::ALL.map(Self::name).into() };

    /// What is so where it is not shown.
    pub const fn without(self) -> &'static str {
        match self {
            Self::TimeWait => {
                "TIME_WAIT is inferred from the states of connections and put right by each walk over the sockets: ends that come early, and orphans in FIN_WAIT2, are seen up to some seconds late"
            }
            Self::SynQueue => {
                "how many handshakes began, were dropped or expired in a listener's SYN queue is unknown: only how many wait there at each walk"
            }
            Self::AcceptWait => "how long connections wait for accept() is unknown",
            Self::Resets => {
                "resets with no connection behind them are not counted: Linux tells of them since 6.10"
            }
        }
    }

    /// How well it is known where it is not shown.
    const fn accuracy_without(self) -> Accuracy {
        match self {
            Self::TimeWait => Accuracy::Inferred,
            Self::SynQueue | Self::AcceptWait | Self::Resets => Accuracy::Unknown,
        }
    }
}

/// How well something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accuracy {
    /// The kernel said each of it.
    Exact,
    /// It follows from what the kernel said of other things.
    Inferred,
    /// Nothing shows it.
    Unknown,
}

impl Accuracy {
    /// All, the best first.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Inferred, Self::Unknown];

    /// Their names.
    pub const WORDS: Enumeration =
        Enumeration { name: "degree of knowledge", all: || Self::ALL.map(Self::name).into() };

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Inferred => "inferred",
            Self::Unknown => "unknown",
        }
    }
}

/// What the kernel showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    has: [bool; OptionalHook::ALL.len()],
}

impl Coverage {
    /// By the names of what it showed.
    pub fn of<S: AsRef<str>>(shown: &[S]) -> Self {
        let has = |hook: OptionalHook| shown.iter().any(|shown| shown.as_ref() == hook.name());
        Self { has: OptionalHook::ALL.map(has) }
    }

    /// Whether it showed this.
    pub const fn has(self, hook: OptionalHook) -> bool {
        self.has[hook as usize]
    }

    /// Without all but these, if they are there.
    #[must_use]
    pub fn only(self, these: &[OptionalHook]) -> Self {
        Self { has: OptionalHook::ALL.map(|hook| self.has(hook) && these.contains(&hook)) }
    }

    /// How well this is known.
    pub const fn accuracy(self, of: OptionalHook) -> Accuracy {
        if self.has(of) { Accuracy::Exact } else { of.accuracy_without() }
    }
}
