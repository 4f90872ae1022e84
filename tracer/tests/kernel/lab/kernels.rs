//! What kernels do differently, each with where that is known from. Whatever a test expects of one
//! kernel and not of another is said here, and nowhere else.

use std::{fs, sync::LazyLock, thread};

/// The running kernel's version: its first two numbers.
static RELEASE: LazyLock<(u32, u32)> = LazyLock::new(|| {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    let mut number = || numbers.next().and_then(|number| number.parse().ok());
    number().zip(number()).unwrap_or_else(|| panic!("not a kernel's release: {text}"))
});

/// Whether the running kernel is that or later.
pub(crate) fn since(major: u32, minor: u32) -> bool {
    *RELEASE >= (major, minor)
}

/// What some kernels that synfin runs on do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// The kernel gives its type information by bpf(2): since commit 5329722057d4 in 5.11.
    TypesByBpf,
}

impl Feature {
    /// What is missing, and since when it is there.
    const fn missing(self) -> &'static str {
        match self {
            Self::TypesByBpf => "before Linux 5.11 the kernel does not tell its types by bpf(2)",
        }
    }

    fn is_there(self) -> bool {
        match self {
            Self::TypesByBpf => since(5, 11),
        }
    }
}

/// Whether the running kernel lacks it. Then it is said that this test is skipped, as it or part of
/// it has to be.
pub(crate) fn lacks(feature: Feature) -> bool {
    let lacks = !feature.is_there();
    if lacks {
        skip(feature.missing());
    }
    lacks
}

/// Says that the running test is skipped, or part of it: a line on stderr that is seen even of tests
/// that pass, and that `cargo xtask` counts.
pub(crate) fn skip(reason: &str) {
    use std::io::Write as _;
    let thread = thread::current();
    let line = format!("test-skipped: {}: {reason}\n", thread.name().unwrap_or("a test"));
    // What is printed by `eprintln!` is shown only of tests that fail.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
