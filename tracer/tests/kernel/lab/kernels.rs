//! Differences between kernels, with their source. Tests take everything that depends on the kernel
//! from here.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::{self, Write as _},
    sync::{LazyLock, Mutex},
    thread,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Counters, cgroup};

/// The running kernel's version: its first two numbers.
static RELEASE: LazyLock<(u32, u32)> = LazyLock::new(|| {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    let mut number = || numbers.next().and_then(|number| number.parse().ok());
    number().zip(number()).unwrap_or_else(|| panic!("not a kernel's release: {text}"))
});

/// Whether the running kernel has that version or a later one.
pub(crate) fn since(major: u32, minor: u32) -> bool {
    *RELEASE >= (major, minor)
}

/// Features that some supported kernels lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// The kernel returns its BTF by bpf(2): since commit 5329722057d4 in 5.11.
    TypesByBpf,
    /// MPTCP is built in and enabled.
    Mptcp,
    /// MPTCP resets its subflows, as TCP does: since 6.1.
    MptcpResets,
    /// The kernel shows why MPTCP resets a subflow: since 6.18, and in some stable kernels.
    MptcpResetReasons,
    /// `tcp:tcp_send_reset` fires for resets without a socket or from TIME_WAIT: since commit
    /// 19822a980e19 in 6.10. Before, only for those of connections and listeners.
    ResetsWithoutSocket,
    /// `ss -K` destroys a TIME_WAIT: since commit af9784d007d8 in 6.0.
    TimeWaitsDestroyed,
    /// A cgroup v2 hierarchy is mounted below /sys/fs/cgroup.
    Cgroup2,
    /// Processes can read the cookie of a network namespace: since commit e8b9eab99232 in 5.14.
    NamespaceCookie,
}

impl Feature {
    /// The reason for a skip: the missing feature, and the first kernel with it.
    const fn missing(self) -> &'static str {
        match self {
            Self::TypesByBpf => "bpf(2) returns the kernel's BTF only since Linux 5.11",
            Self::Mptcp => "this kernel has no MPTCP",
            Self::MptcpResets => "MPTCP resets its subflows only since Linux 6.1",
            Self::MptcpResetReasons => "MPTCP shows why it resets a subflow only since Linux 6.18",
            Self::ResetsWithoutSocket => {
                "tcp_send_reset reports resets without a socket only since Linux 6.10"
            }
            Self::TimeWaitsDestroyed => "`ss -K` can destroy a TIME_WAIT only since Linux 6.0",
            Self::Cgroup2 => "no cgroup v2 hierarchy is mounted below /sys/fs/cgroup",
            Self::NamespaceCookie => {
                "network namespaces have readable cookies only since Linux 5.14"
            }
        }
    }

    fn is_there(self) -> bool {
        match self {
            Self::TypesByBpf => since(5, 11),
            Self::Mptcp => Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).is_ok(),
            Self::MptcpResets => since(6, 1) && Self::Mptcp.is_there(),
            Self::MptcpResetReasons => since(6, 18) && Self::Mptcp.is_there(),
            Self::ResetsWithoutSocket => since(6, 10),
            Self::TimeWaitsDestroyed => since(6, 0),
            Self::Cgroup2 => cgroup::root().is_some(),
            Self::NamespaceCookie => since(5, 14),
        }
    }
}

/// The kernel's count of TIME_WAITs entered, including orphans in FIN_WAIT2. `None` if it counts
/// them when they expire, as up to 5.17 (`tw_timer_handler`), and not when they are entered, as
/// since 6.1 (`__inet_twsk_schedule`).
pub(crate) fn time_waits_entered(counters: &Counters) -> Option<u64> {
    counts_entries().then(|| counters.get("TW") + counters.get("TWKilled"))
}

/// Whether `TW` and `TWKilled` count TIME_WAITs when they are entered.
pub(crate) fn counts_entries() -> bool {
    since(6, 1)
}

/// Whether the running kernel lacks a feature. If so, the test is declared as skipped and has to
/// end.
pub(crate) fn lacks(feature: Feature) -> bool {
    let lacks = !feature.is_there();
    if lacks {
        skip(feature.missing());
    }
    lacks
}

/// The same if only a part of the test is skipped.
pub(crate) fn lacks_for_a_part(feature: Feature) -> bool {
    let lacks = !feature.is_there();
    if lacks {
        let _ = say("test-skipped-in-part", feature.missing());
    }
    lacks
}

/// Whether this virtual machine only runs the tests (SYNFIN_TEST_OWN_MACHINE).
fn on_own_machine() -> bool {
    env::var_os("SYNFIN_TEST_OWN_MACHINE").is_some()
}

/// Whether a third-party program is missing. On a machine that only runs the tests, the
/// test is skipped then; on any other the test fails with `remedy`.
#[track_caller]
pub(crate) fn lacks_program(name: &str, is_there: bool, remedy: &str) -> bool {
    assert!(is_there || on_own_machine(), "{name} is missing: {remedy}");
    if !is_there {
        skip(&format!("this machine has no {name}"));
    }
    !is_there
}

/// Whether the test may change settings of the whole host. If not, it is declared as skipped.
pub(crate) fn has_own_machine() -> bool {
    let has = on_own_machine();
    if !has {
        skip("it changes settings of the whole host and needs a machine of its own");
    }
    has
}

/// Declares the running test as skipped. The harness counts it as passed; the file in
/// SYNFIN_TEST_SKIPPED lists the skipped ones.
pub(crate) fn skip(reason: &str) {
    let Some(line) = say("test-skipped", reason) else { return };
    if let Some(file) = env::var_os("SYNFIN_TEST_SKIPPED") {
        let file = File::options().append(true).create(true).open(file);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a writable file");
    }
}

/// Prints a note that is shown even if the test passes.
pub(crate) fn note(text: &str) {
    let _ = say("test-note", text);
}

/// Prints a line once, even if the test passes. Returns the line if it was printed.
fn say(what: &str, reason: &str) -> Option<String> {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let thread = thread::current();
    let line = format!("{what}: {}: {reason}\n", thread.name().unwrap_or("a test"));
    if !PRINTED.lock().expect("the printed lines").insert(line.clone()) {
        return None;
    }
    // The output of `eprintln!` is shown for failed tests only.
    let _ = io::stderr().write_all(line.as_bytes());
    Some(line)
}
