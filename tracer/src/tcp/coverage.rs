//! How accurate a trace is: exact, inferred or unknown, by the optional hooks that were attached. A
//! recording contains it, so a replay reports the same as the host did.

use crate::tcp::labels::Enumeration;

/// A source of data that not every kernel offers or allows. The first three need fentry or fexit
/// programs, which a kernel in lockdown (confidentiality) refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalHook {
    /// Entries into TIME_WAIT and exits from it.
    TimeWait,
    /// Handshakes in listeners' SYN queues.
    SynQueue,
    /// When accept() returns a connection.
    AcceptWait,
    /// Resets sent without a connection (`tcp:tcp_send_reset` with a reason, Linux 6.10).
    Resets,
}

impl OptionalHook {
    /// All hooks.
    pub const ALL: [Self; 4] = [Self::TimeWait, Self::SynQueue, Self::AcceptWait, Self::Resets];

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeWait => "time_wait",
            Self::SynQueue => "syn_queue",
            Self::AcceptWait => "accept_wait",
            Self::Resets => "resets",
        }
    }

    /// The names of all.
    pub const WORDS: Enumeration =
        Enumeration { name: "subject", all: || Self::ALL.map(Self::name).into() };

    /// What is inferred or unknown without this hook, for the user.
    pub const fn fallback(self) -> &'static str {
        match self {
            Self::TimeWait => {
                "TIME_WAIT is inferred from state transitions and corrected by each scan of the sockets: early exits and orphans in FIN_WAIT2 appear up to some seconds late"
            }
            Self::SynQueue => {
                "the numbers of handshakes that entered, were dropped from or expired in SYN queues are unknown; only their current length is known, at each scan"
            }
            Self::AcceptWait => "the time that connections wait for accept() is unknown",
            Self::Resets => {
                "resets without a connection are not counted: Linux reports them since 6.10"
            }
        }
    }

    /// The accuracy without this hook.
    const fn accuracy_without(self) -> Accuracy {
        match self {
            Self::TimeWait => Accuracy::Inferred,
            Self::SynQueue | Self::AcceptWait | Self::Resets => Accuracy::Unknown,
        }
    }
}

/// How accurately something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accuracy {
    /// The kernel reported every instance.
    Exact,
    /// It is derived from other events.
    Inferred,
    /// There is no data.
    Unknown,
}

impl Accuracy {
    /// All degrees, the best first.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Inferred, Self::Unknown];

    /// The names of all.
    pub const WORDS: Enumeration =
        Enumeration { name: "degree of knowledge", all: || Self::ALL.map(Self::name).into() };

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Inferred => "inferred",
            Self::Unknown => "unknown",
        }
    }
}

/// The optional hooks that were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    has: [bool; OptionalHook::ALL.len()],
}

impl Coverage {
    /// Parses names of hooks; unknown names are ignored.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Self {
        let has = |hook: OptionalHook| names.iter().any(|name| name.as_ref() == hook.name());
        Self { has: OptionalHook::ALL.map(has) }
    }

    /// Whether this hook was attached.
    pub const fn has(self, hook: OptionalHook) -> bool {
        self.has[hook as usize]
    }

    /// Restricted to these hooks.
    #[must_use]
    pub fn only(self, these: &[OptionalHook]) -> Self {
        Self { has: OptionalHook::ALL.map(|hook| self.has(hook) && these.contains(&hook)) }
    }

    /// How accurately this is known.
    pub const fn accuracy(self, of: OptionalHook) -> Accuracy {
        if self.has(of) { Accuracy::Exact } else { of.accuracy_without() }
    }
}
