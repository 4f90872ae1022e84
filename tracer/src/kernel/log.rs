//! What the kernel side has to say for itself: rare, and never from where it is hot.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::{EbpfLogger, Level};

use crate::message::stderr::warn;

/// The global in which the kernel side finds its level. What is below is dead code to the
/// verifier.
pub(super) const LEVEL: &str = aya_log::LEVEL;

/// The level for so many `-v`.
pub(super) const fn level(verbose: u8) -> u8 {
    match verbose {
        0 => Level::Warn as u8,
        1 => Level::Info as u8,
        2 => Level::Debug as u8,
        _ => Level::Trace as u8,
    }
}

/// The reading end.
pub(super) struct Log(EbpfLogger<Stderr>);

impl Log {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self> {
        EbpfLogger::init_with_logger(ebpf, Stderr)
            .map(Self)
            .context("the eBPF object has no log that can be read")
    }

    /// Says what has been written since.
    pub(super) fn pass_on(&mut self) {
        self.0.flush();
    }
}

/// Writes what the kernel side logs to stderr. The kernel side checks the level before it writes.
#[derive(Clone, Copy, Debug)]
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        warn(&format!("kernel side: {}", record.args()));
    }

    fn flush(&self) {}
}
