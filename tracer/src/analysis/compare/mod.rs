//! Before and after: two reports, figure by figure. Pure.
//!
//! A side is what `report -o json` writes, all intervals of it together; of a recording the same is
//! made first. So a report of yesterday can be compared with a recording of today.

pub(crate) mod side;

use std::collections::{BTreeMap, BTreeSet};

pub use side::{Row, RowName, Side, SideError};

/// A figure that is compared.
pub struct Compared {
    /// Its name in JSON.
    pub key: &'static str,
    /// What it is, for the eyes.
    pub title: &'static str,
    /// Whether more of it is worse.
    pub is_cost: bool,
    get: fn(&Row) -> Option<f64>,
}

/// All that are. Counts are for each thousand connections, so that sides of different length and
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
        title: "abnormal ends /1000",
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
        title: "sent again /1000",
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

/// A figure before and after; `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Before.
    pub before: Option<f64>,
    /// After.
    pub after: Option<f64>,
}

/// A change by less than this share of the larger is none: percentiles alone are 1.6 % coarse.
const SAME: f64 = 0.05;

impl Change {
    /// How much of the larger it has changed: from 0 to 1; 0 where it is not known on a side.
    pub fn share(&self) -> f64 {
        let (Some(before), Some(after)) = (self.before, self.after) else { return 0.0 };
        let larger = before.abs().max(after.abs());
        if larger == 0.0 { 0.0 } else { (after - before).abs() / larger }
    }

    /// Whether it is worth a mark.
    pub fn is_change(&self) -> bool {
        self.share() >= SAME
    }
}

/// A row before and after.
#[derive(Debug)]
pub struct RowChange {
    /// Which.
    pub name: RowName,
    /// On which sides it is.
    pub is_in: [bool; 2],
    /// By [`COMPARED`].
    pub columns: Vec<Change>,
    /// Reasons of failures and ends that are only after, with their numbers.
    pub new_reasons: Vec<(String, u64)>,
    /// Those that were only before.
    pub gone_reasons: Vec<(String, u64)>,
}

impl RowChange {
    /// How much worse it has become, for the order: the largest change of a cost for the worse.
    fn harm(&self) -> f64 {
        let costs = COMPARED.iter().zip(&self.columns).filter(|(compared, _)| compared.is_cost);
        let worse = costs.filter(|(_, change)| change.after > change.before);
        worse.map(|(_, change)| change.share()).fold(0.0, f64::max)
    }
}

/// All that differs.
#[derive(Debug)]
pub struct Comparison {
    /// What is so on either side of the host, by name, where it differs: kernel, synfin, settings.
    pub host: Vec<(String, [Option<String>; 2])>,
    /// The rows of both, what has become worse first.
    pub rows: Vec<RowChange>,
    /// Lengths in seconds.
    pub seconds: [f64; 2],
    /// Whether counts of a side are lower bounds.
    pub lower_bounds: [bool; 2],
}

/// Puts both sides next to each other.
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
    // Where there is no row, nothing is new about its reasons.
    let in_both = rows.iter().all(Option::is_some);
    RowChange {
        name: name.clone(),
        is_in: rows.map(|row| row.is_some()),
        columns: columns.collect(),
        new_reasons: if in_both { only(after, before) } else { Vec::new() },
        gone_reasons: if in_both { only(before, after) } else { Vec::new() },
    }
}
