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

/// The exit status of a process that a signal ended is this and the number of the signal, as in shells.
pub(crate) const BY_SIGNAL: i32 = 128;

/// Receives these signals.
pub(crate) struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl EndSignals {
    /// Begins to receive them. `ends_at_second`: the second one ends the process at once, whatever it is doing or
    /// waiting for.
    pub(crate) fn listen(ends_at_second: bool) -> io::Result<Self> {
        let has_come = Arc::new(AtomicBool::new(false));
        let listen = |kind: SignalKind| {
            let number = kind.as_raw_value();
            if ends_at_second {
                // They run in this order, so the first signal only sets the flag.
                let status = BY_SIGNAL + number;
                flag::register_conditional_shutdown(number, status, Arc::clone(&has_come))?;
                flag::register(number, Arc::clone(&has_come))?;
            }
            signal(kind)
        };
        let is_nohup = is_ignored(SignalKind::hangup());
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: (!is_nohup).then(|| listen(SignalKind::hangup())).transpose()?,
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
}

/// Whether the process was started with this signal ignored.
fn is_ignored(signal: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw_value() - 1) & 1 == 1)
}
