//! Statistics other than counts of connections: queues, drops and gaps of listeners, resets without
//! a connection, connections that are stuck, idle or stalled, and use of ephemeral ports. Each is
//! compared with the kernel's own counters, `ss`, a counter of nftables or the clock.

mod closing;
mod ephemeral_ports;
mod handshakes;
mod idle;
mod listeners;
mod optional_hooks;
mod queues;
mod resets;
mod stalled;
mod stuck;

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::lab::{self, Namespace, Report, Synfin};

/// Starts synfin for these namespaces only, so that no test sees another's ports.
#[track_caller]
fn watch(namespaces: &[&Namespace], args: &[&str]) -> Synfin {
    let ids = lab::ids(namespaces.iter().copied());
    let always = ["report", "-o", "json", "-N", &ids];
    Synfin::watch(always.iter().chain(args))
}

/// A column of a row by its public name; the row of all other ports has no port.
#[track_caller]
fn column(report: &Report, role: &str, port: impl Into<Option<u16>>, name: &str) -> Value {
    let port = port.into();
    let row =
        report.rows().iter().find(|row| row["role"] == role && row["port"] == Value::from(port));
    let row = row.unwrap_or_else(|| panic!("no row {role} {port:?}: {:#?}", report.rows()));
    column_of(row, name)
}

/// A column of a row by its public name.
pub(crate) fn column_of(row: &Value, name: &str) -> Value {
    name.split('.').fold(row, |value, part| &value[part]).clone()
}

/// Parses a time of a report.
#[track_caller]
fn time(value: &Value) -> SystemTime {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is not a time"));
    humantime::parse_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn micros(value: &Value) -> Duration {
    Duration::from_micros(value.as_u64().unwrap_or_else(|| panic!("{value} is not a duration")))
}

/// The error of the tracer's dates, which are CLOCK_MONOTONIC plus an offset read once.
const CLOCKS: Duration = Duration::from_millis(20);

/// Checks that a time is between two others.
#[track_caller]
fn check_within(what: &str, time: SystemTime, (from, to): (SystemTime, SystemTime)) {
    let off = lab::slowed(CLOCKS);
    assert!(
        (from - off..=to + off).contains(&time),
        "{what} was at {time:?}, not between {from:?} and {to:?}"
    );
}

/// Runs `act`, and returns the times before and after.
fn timed<T>(act: impl FnOnce() -> T) -> (T, (SystemTime, SystemTime)) {
    let begun = SystemTime::now();
    let done = act();
    (done, (begun, SystemTime::now()))
}
