//! The commands. Most of them consume the results of the tracker.

pub(crate) mod anonymize;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod connections;
pub(crate) mod diagnose;
#[cfg(feature = "live")]
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod man;
#[cfg(feature = "live")]
pub(crate) mod record;
pub(crate) mod report;
#[cfg(feature = "live")]
pub(crate) mod serve;
pub(crate) mod top;
pub(crate) mod trace;

use crate::message::stderr::warn;

/// Warns that `count` lines were not shown because they do not match the options of the command.
fn warn_excluded(count: u64, what: &str) {
    if count > 0 {
        warn(&format!(
            "{count} {what} do not match --reason, --state or --min-age and are not shown"
        ));
    }
}
