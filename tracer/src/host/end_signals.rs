//! The signals that ask synfin to end: SIGINT, SIGTERM, and SIGHUP unless it was ignored from the start
//! (`nohup`).

use std::{
    fs,
    future::pending,
    io,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::message::patience;

/// Receives these signals.
pub(crate) struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl EndSignals {
    pub(crate) fn listen() -> io::Result<Self> {
        let hangup = (!is_ignored(SignalKind::hangup())).then(|| signal(SignalKind::hangup()));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: hangup.transpose()?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> SignalKind {
        let Self { interrupt, terminate, hangup } = self;
        let hangup = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hangup => SignalKind::hangup(),
        };
        if kind != SignalKind::interrupt() {
            patience::end_soon();
        }
        kind
    }

    /// Lets the second signal end the process at once, whatever it is doing or waiting for.
    pub(crate) fn end_at_second(&self) -> io::Result<()> {
        let has_come = Arc::new(AtomicBool::new(false));
        let hangup = self.hangup.as_ref().map(|_| SignalKind::hangup());
        for kind in [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup) {
            let signal = kind.as_raw_value();
            // They run in this order, so the first signal only sets the flag.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&has_come))?;
            flag::register(signal, Arc::clone(&has_come))?;
        }
        Ok(())
    }
}

/// Whether the process was started with this signal ignored.
fn is_ignored(signal: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw_value() - 1) & 1 == 1)
}
