//! Log messages of the kernel side. They are rare and never come from a hot path.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::{EbpfLogger, Level};

use crate::message::stderr::warn;

/// The global variable that holds the kernel side's log level. The verifier removes the code of
/// disabled levels.
pub(super) const LEVEL: &str = aya_log::LEVEL;

/// The log level for this number of `-v` options.
pub(super) const fn level(verbose: u8) -> u8 {
    match verbose {
        0 => Level::Warn as u8,
        1 => Level::Info as u8,
        2 => Level::Debug as u8,
        _ => Level::Trace as u8,
    }
}

/// The reader of the kernel side's log.
pub(super) struct Log(EbpfLogger<Stderr>);

impl Log {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self> {
        EbpfLogger::init_with_logger(ebpf, Stderr)
            .map(Self)
            .context("the eBPF object has no log that can be read")
    }

    /// Prints the messages written since the last call.
    pub(super) fn pass_on(&mut self) {
        self.0.flush();
    }
}

/// Writes the kernel side's log messages to stderr. The kernel side checks the level before it
/// writes.
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
