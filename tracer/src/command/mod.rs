//! The commands. Most of them consume the results of the tracker.

pub(crate) mod anonymize;
mod compare;
mod completions;
mod connections;
mod diagnose;
#[cfg(feature = "live")]
mod doctor;
mod explain;
mod man;
#[cfg(feature = "live")]
mod record;
mod report;
#[cfg(feature = "live")]
mod serve;
mod trace;

pub(crate) use anonymize::anonymize;
pub(crate) use compare::{OneReport, reports_in, write as write_comparison};
pub(crate) use completions::completions;
pub(crate) use connections::{Connections, Select, Which};
pub(crate) use diagnose::Diagnose;
#[cfg(feature = "live")]
pub(crate) use doctor::Doctor;
pub(crate) use explain::explain;
pub(crate) use man::man;
#[cfg(feature = "live")]
pub(crate) use record::Record;
pub(crate) use report::Report;
#[cfg(feature = "live")]
pub(crate) use serve::Serve;
pub(crate) use trace::Trace;

use crate::message::stderr::warn;

/// Warns that `count` lines were not shown because they do not match the options of the command.
fn warn_unasked(count: u64, what: &str) {
    if count > 0 {
        warn(&format!(
            "{count} {what} are not shown: they do not match --reason, --state or --min-age"
        ));
    }
}
