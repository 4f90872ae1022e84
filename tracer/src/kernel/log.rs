//! Log messages of the kernel side. They are rare and never come from a hot path.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::{EbpfLogger, Level};

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
pub(super) struct Log {
    logger: EbpfLogger<Messages>,
    messages: Messages,
}

impl Log {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self> {
        let messages = Messages::default();
        let logger = EbpfLogger::init_with_logger(ebpf, messages.clone())
            .context("the eBPF object has no log that can be read")?;
        Ok(Self { logger, messages })
    }

    /// The messages that the kernel side has logged since the last call.
    pub(super) fn take(&mut self) -> Vec<String> {
        self.logger.flush();
        std::mem::take(&mut self.messages.lock())
    }
}

/// Collects the log messages of the kernel side, which checks the level before it writes.
#[derive(Clone, Debug, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl Messages {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl log::Log for Messages {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.lock().push(format!("kernel side: {}", record.args()));
    }

    fn flush(&self) {}
}
