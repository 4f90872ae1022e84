//! Accuracy of a trace: exact, inferred or unknown, depending on the optional hooks that were attached.
//! A recording lists those hooks, so its replay reports the same accuracy.

use crate::tcp::labels::Enumeration;

/// A source of data that not every kernel offers or allows. The first three need fentry or fexit
/// programs, which a kernel in lockdown (confidentiality) refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalHook {
    /// Entries into TIME_WAIT and exits from it.
    TimeWait,
    /// Handshakes in listeners' SYN queues.
    SynQueue,
    /// Connections that accept() returns.
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

    /// The names of all hooks.
    pub const NAMES: Enumeration =
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
            Self::AcceptWait => {
                "the time that connections wait for accept() is inferred from the lengths of accept queues, within bounds; it is unknown where several listeners share a port and address (SO_REUSEPORT)"
            }
            Self::Resets => {
                "resets without a connection are not counted: Linux reports them since 6.10"
            }
        }
    }

    const fn fallback_accuracy(self) -> Accuracy {
        match self {
            Self::TimeWait | Self::AcceptWait => Accuracy::Inferred,
            Self::SynQueue | Self::Resets => Accuracy::Unknown,
        }
    }
}

/// The accuracy of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accuracy {
    /// The kernel reported every instance.
    Exact,
    /// The figure is derived from other events.
    Inferred,
    /// There is no data.
    Unknown,
}

impl Accuracy {
    /// All degrees of accuracy, best first.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Inferred, Self::Unknown];

    /// The names of all degrees.
    pub const NAMES: Enumeration =
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

    /// The coverage reduced to `hooks`.
    #[must_use]
    pub fn only(self, hooks: &[OptionalHook]) -> Self {
        Self { has: OptionalHook::ALL.map(|hook| self.has(hook) && hooks.contains(&hook)) }
    }

    /// The accuracy of the figures that this hook provides.
    pub const fn accuracy(self, hook: OptionalHook) -> Accuracy {
        if self.has(hook) { Accuracy::Exact } else { hook.fallback_accuracy() }
    }
}
