//! Compares two reports, before and after, column by column.
//!
//! A side is a saved report in JSON (all of its intervals added up) or a recording, so that
//! yesterday's report can be compared with today's recording.

pub(crate) mod side;

use std::collections::{BTreeMap, BTreeSet};

pub use side::{Row, RowName, Side, SideError};

/// A compared value.
pub struct Compared {
    /// Its key in JSON.
    pub key: &'static str,
    /// Its title in the table.
    pub title: &'static str,
    /// Whether a higher value is worse.
    pub is_cost: bool,
    get: fn(&Row) -> Option<f64>,
}

/// All compared values. Counts are per thousand connections, so that sides of different length and
/// load can be compared.
pub const COMPARED: &[Compared] = &[
    Compared {
        key: "connections",
        title: "connections",
        is_cost: false,
        get: |row| Some(row.connections() as f64),
    },
    Compared {
        key: "failed_per_1000",
        title: "failed /1000",
        is_cost: true,
        get: |row| row.per_1000(row.failed),
    },
    Compared {
        key: "abnormal_per_1000",
        title: "abnormal closes /1000",
        is_cost: true,
        get: |row| row.per_1000(row.abnormal),
    },
    Compared {
        key: "handshake.clean.p50_us",
        title: "handshake p50 us",
        is_cost: true,
        get: |row| row.clean.quantile(0.5),
    },
    Compared {
        key: "handshake.clean.p99_us",
        title: "handshake p99 us",
        is_cost: true,
        get: |row| row.clean.quantile(0.99),
    },
    Compared {
        key: "handshake.retransmitted_per_1000",
        title: "retransmitted /1000",
        is_cost: true,
        get: |row| row.per_1000(row.retransmitted),
    },
    Compared {
        key: "time_wait.entered_per_1000",
        title: "TIME_WAITs /1000",
        is_cost: true,
        get: |row| row.per_1000(row.time_wait_entered),
    },
    Compared {
        key: "listener.drops_per_1000",
        title: "listener drops /1000",
        is_cost: true,
        get: |row| row.per_1000(row.listener_drops?),
    },
    Compared {
        key: "resets.count_per_1000",
        title: "resets /1000",
        is_cost: true,
        get: |row| row.per_1000(row.resets?),
    },
];

/// A value before and after; `None` where it is unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The value before.
    pub before: Option<f64>,
    /// The value after.
    pub after: Option<f64>,
}

/// Changes by less than this share are ignored: percentiles alone are off by up to 1.6 %.
const SAME: f64 = 0.05;

impl Change {
    /// The difference as a share of the larger value, from 0 to 1; 0 if a value is unknown.
    pub fn share(&self) -> f64 {
        let (Some(before), Some(after)) = (self.before, self.after) else { return 0.0 };
        let larger = before.abs().max(after.abs());
        if larger == 0.0 { 0.0 } else { (after - before).abs() / larger }
    }

    /// Whether it is large enough to be marked.
    pub fn is_change(&self) -> bool {
        self.share() >= SAME
    }
}

/// A row before and after.
#[derive(Debug)]
pub struct RowChange {
    /// The row.
    pub name: RowName,
    /// Whether each side has the row.
    pub is_in: [bool; 2],
    /// The changes, in the order of [`COMPARED`].
    pub columns: Vec<Change>,
    /// Close reasons that occurred only after, with their counts.
    pub new_reasons: Vec<(String, u64)>,
    /// Close reasons that occurred only before, with their counts.
    pub gone_reasons: Vec<(String, u64)>,
}

impl RowChange {
    /// The largest change for the worse, for the order.
    fn harm(&self) -> f64 {
        let costs = COMPARED.iter().zip(&self.columns).filter(|(compared, _)| compared.is_cost);
        let worse = costs.filter(|(_, change)| change.after > change.before);
        worse.map(|(_, change)| change.share()).fold(0.0, f64::max)
    }
}

/// The result of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// Kernel, synfin version and settings that differ, by name.
    pub host: Vec<(String, [Option<String>; 2])>,
    /// All rows; those that became worst come first.
    pub rows: Vec<RowChange>,
    /// Lengths of both sides in seconds.
    pub seconds: [f64; 2],
    /// Whether the counts of each side are lower bounds.
    pub lower_bounds: [bool; 2],
}

/// Compares both sides.
pub fn compare(before: &Side, after: &Side) -> Comparison {
    let sides = [before, after];
    let settings: BTreeSet<&String> = sides.iter().flat_map(|side| side.host.keys()).collect();
    let host = settings.into_iter().filter_map(|name| {
        let values = sides.map(|side| side.host.get(name).cloned());
        (values[0] != values[1]).then(|| (name.clone(), values))
    });
    let names: BTreeSet<&RowName> = sides.iter().flat_map(|side| side.rows.keys()).collect();
    let mut rows: Vec<_> = names
        .into_iter()
        .map(|name| row_change(name, sides.map(|side| side.rows.get(name))))
        .collect();
    rows.sort_by(|one, other| other.harm().total_cmp(&one.harm()));
    Comparison {
        host: host.collect(),
        rows,
        seconds: sides.map(|side| side.seconds),
        lower_bounds: sides.map(|side| side.lower_bounds),
    }
}

fn row_change(name: &RowName, rows: [Option<&Row>; 2]) -> RowChange {
    let columns = COMPARED.iter().map(|compared| {
        let [before, after] = rows.map(|row| row.and_then(compared.get));
        Change { before, after }
    });
    let none = BTreeMap::new();
    let [before, after] = rows.map(|row| row.map_or(&none, |row| &row.reasons));
    let only = |here: &BTreeMap<String, u64>, there: &BTreeMap<String, u64>| {
        let only = here.iter().filter(|(reason, _)| !there.contains_key(*reason));
        only.map(|(reason, count)| (reason.clone(), *count)).collect()
    };
    // Reasons of a row that only one side has are neither new nor gone.
    let in_both = rows.iter().all(Option::is_some);
    RowChange {
        name: name.clone(),
        is_in: rows.map(|row| row.is_some()),
        columns: columns.collect(),
        new_reasons: if in_both { only(after, before) } else { Vec::new() },
        gone_reasons: if in_both { only(before, after) } else { Vec::new() },
    }
}
