//! Compares two reports, before and after, column by column, and the findings of two recordings.
//!
//! A side is a saved report in JSON (all of its intervals added up) or a recording, so that
//! yesterday's report can be compared with today's recording. Reports have no findings.

mod buckets;
mod findings;
mod measure;
pub(crate) mod side;

use std::collections::{BTreeMap, BTreeSet};

pub use findings::{FindingChange, FindingVerdict, compare_findings};
pub use measure::Measure;
pub use side::{Row, RowName, Side, SideError};

use side::is_bad;

use crate::findings::thresholds::{LEAST, SHARE_PCT};

/// A compared value.
pub struct Compared {
    /// Its key in JSON.
    pub key: &'static str,
    /// Its title in the table.
    pub title: &'static str,
    /// Whether a higher value is worse.
    pub is_cost: bool,
    least: Least,
    /// The value of a row in this number of seconds.
    get: fn(&Row, f64) -> Option<Measure>,
}

/// All compared values. Counts are per thousand connections, so that sides of different length and
/// load can be compared.
pub const COMPARED: &[Compared] = &[
    Compared {
        key: "connections",
        title: "connections",
        is_cost: false,
        least: OF_COUNTS,
        get: |row, seconds| Some(Measure::total(row.connections(), seconds)),
    },
    Compared {
        key: "failed_per_1000",
        title: "failed /1000",
        is_cost: true,
        least: OF_COUNTS,
        get: |row, _| row.share(row.failed),
    },
    Compared {
        key: "abnormal_per_1000",
        title: "abnormal closes /1000",
        is_cost: true,
        least: OF_COUNTS,
        get: |row, _| row.share(row.abnormal),
    },
    Compared {
        key: "handshake.clean.p50_us",
        title: "handshake p50 us",
        is_cost: true,
        least: OF_LATENCY,
        get: |row, _| Measure::quantile(&row.clean, 0.5),
    },
    Compared {
        key: "handshake.clean.p99_us",
        title: "handshake p99 us",
        is_cost: true,
        least: OF_LATENCY,
        get: |row, _| Measure::quantile(&row.clean, 0.99),
    },
    Compared {
        key: "handshake.retransmitted_per_1000",
        title: "retransmitted /1000",
        is_cost: true,
        least: OF_COUNTS,
        get: |row, _| row.share(row.retransmitted),
    },
    Compared {
        key: "lifetime.p50_us",
        title: "lifetime p50 us",
        is_cost: false,
        least: OF_LIFETIMES,
        get: |row, _| Measure::quantile(&row.lifetime, 0.5),
    },
    Compared {
        key: "lifetime.p99_us",
        title: "lifetime p99 us",
        is_cost: false,
        least: OF_LIFETIMES,
        get: |row, _| Measure::quantile(&row.lifetime, 0.99),
    },
    Compared {
        key: "time_wait.entered_per_1000",
        title: "TIME_WAITs /1000",
        is_cost: true,
        least: OF_COUNTS,
        get: |row, _| row.share(row.time_wait_entered),
    },
    Compared {
        key: "listener.drops_per_1000",
        title: "listener drops /1000",
        is_cost: true,
        least: OF_COUNTS,
        get: |row, _| row.events(row.listener_drops?),
    },
    Compared {
        key: "resets.count_per_1000",
        title: "resets /1000",
        is_cost: true,
        least: OF_COUNTS,
        get: |row, _| row.events(row.resets?),
    },
];

/// A value before and after; `None` where it is unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The value before.
    pub before: Option<Measure>,
    /// The value after.
    pub after: Option<Measure>,
    least: Least,
}

/// Changes that are smaller than either are ignored.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Least {
    /// A share of the larger value.
    share: f64,
    /// A difference, in the unit of the value.
    amount: f64,
}

/// The least change of counts.
const OF_COUNTS: Least = Least { share: 0.05, amount: 0.0 };

/// The least change of latencies, which also depend on the load and the clock of the CPU.
const OF_LATENCY: Least = Least { share: 0.2, amount: 50.0 };

/// The least change of lifetimes, which depend on what the applications do as well: a millisecond.
const OF_LIFETIMES: Least = Least { share: 0.2, amount: 1_000.0 };

impl Change {
    /// The values before and after.
    pub fn values(&self) -> [Option<f64>; 2] {
        [self.before, self.after].map(|side| side.map(|measure| measure.value))
    }

    /// The growth as a share of the larger value, from -1 to 1; 0 if it is small, if chance explains it, or
    /// if a value is unknown.
    pub fn growth(&self) -> f64 {
        let Some((before, after)) = self.before.zip(self.after) else { return 0.0 };
        let growth = before.growth_to(after);
        let is_large = growth.abs() >= self.least.share
            && (after.value - before.value).abs() >= self.least.amount;
        if is_large && before.differs_from(after) { growth } else { 0.0 }
    }
}

/// A row before and after.
#[derive(Debug)]
pub struct RowChange {
    /// The row.
    pub name: RowName,
    /// The process that owns the sockets, after or before; `None` if unknown.
    pub owner: Option<String>,
    /// What has become of it.
    pub verdict: Verdict,
    /// Whether more connections fail or end abnormally.
    pub fails_more: bool,
    /// Whether each side has the row.
    pub is_in: [bool; 2],
    /// Connections on each side.
    pub connections: [u64; 2],
    /// Connections that failed or ended abnormally on each side.
    pub bad: [u64; 2],
    /// The changes, in the order of [`COMPARED`].
    pub columns: Vec<Change>,
    /// The shares of close reasons that have changed, per thousand connections, and whether more of them
    /// are worse.
    pub reasons: Vec<(String, Change, bool)>,
    /// Close reasons that occurred only after, with their counts.
    pub new_reasons: Vec<(String, u64)>,
    /// Close reasons that occurred only before, with their counts.
    pub gone_reasons: Vec<(String, u64)>,
    /// The largest change for the worse.
    harm: f64,
}

/// What has become of a row; worse ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is new, and connections fail or end abnormally, more than by chance.
    NewAndBad,
    /// A cost has grown.
    Worse,
    /// It is new.
    New,
    /// Something has changed, and no cost has grown.
    Other,
    /// It is gone.
    Gone,
    /// Nothing has changed.
    Same,
}

impl Verdict {
    /// All verdicts with their names, worse ones first.
    pub const NAMES: [(Self, &'static str); 6] = [
        (Self::NewAndBad, "new and bad"),
        (Self::Worse, "worse"),
        (Self::New, "new"),
        (Self::Other, "otherwise changed"),
        (Self::Gone, "gone"),
        (Self::Same, "unchanged"),
    ];
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
    /// The findings of both sides, new ones first; `None` if those of a side are not known.
    pub findings: Option<Vec<FindingChange>>,
}

/// Compares both sides, without their findings.
pub fn compare(before: &Side, after: &Side) -> Comparison {
    let sides = [before, after];
    let settings: BTreeSet<&String> = sides.iter().flat_map(|side| side.host.keys()).collect();
    let host = settings.into_iter().filter_map(|name| {
        let values = sides.map(|side| side.host.get(name).cloned());
        (values[0] != values[1]).then(|| (name.clone(), values))
    });
    let names: BTreeSet<&RowName> = sides.iter().flat_map(|side| side.rows.keys()).collect();
    let seconds = sides.map(|side| side.seconds);
    let mut rows: Vec<_> = names
        .into_iter()
        .map(|name| row_change(name, sides.map(|side| side.rows.get(name)), seconds))
        .collect();
    rows.sort_by(|one, other| {
        let by_harm = other.harm.total_cmp(&one.harm);
        one.verdict.cmp(&other.verdict).then(by_harm).then(other.bad[1].cmp(&one.bad[1]))
    });
    Comparison {
        host: host.collect(),
        rows,
        seconds,
        lower_bounds: sides.map(|side| side.lower_bounds),
        findings: None,
    }
}

fn row_change(name: &RowName, rows: [Option<&Row>; 2], seconds: [f64; 2]) -> RowChange {
    let sides = [(rows[0], seconds[0]), (rows[1], seconds[1])];
    let change = |get: &dyn Fn(&Row, f64) -> Option<Measure>, least| {
        let [before, after] = sides.map(|(row, seconds)| row.and_then(|row| get(row, seconds)));
        Change { before, after, least }
    };
    let columns: Vec<_> =
        COMPARED.iter().map(|compared| change(&compared.get, compared.least)).collect();
    let none = BTreeMap::new();
    let [before, after] = rows.map(|row| row.map_or(&none, |row| &row.reasons));
    let only = |here: &BTreeMap<String, u64>, there: &BTreeMap<String, u64>| {
        let only = here.iter().filter(|(reason, _)| !there.contains_key(*reason));
        only.map(|(reason, count)| (reason.clone(), *count)).collect()
    };
    let reasons: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let reasons = reasons.into_iter().map(|reason| {
        let share = |row: &Row, _: f64| row.share(row.reasons.get(reason).copied().unwrap_or(0));
        (reason.clone(), change(&share, OF_COUNTS), is_bad(reason))
    });
    let reasons: Vec<_> = reasons.filter(|(_, change, _)| change.growth() != 0.0).collect();

    let costs = COMPARED.iter().zip(&columns).filter(|(compared, _)| compared.is_cost);
    let bad_reasons = reasons.iter().filter(|(.., is_bad)| *is_bad);
    let worse = |change: &Change| change.growth().max(0.0);
    let failing = bad_reasons.map(|(_, change, _)| worse(change)).fold(0.0, f64::max);
    let harm = costs.map(|(_, change)| worse(change)).fold(failing, f64::max);
    let connections = rows.map(|row| row.map_or(0, Row::connections));
    let bad = rows.map(|row| row.map_or(0, Row::bad));
    let has_changed = !reasons.is_empty() || columns.iter().any(|change| change.growth() != 0.0);
    let is_bad = bad[1] >= LEAST && 100.0 * bad[1] as f64 >= SHARE_PCT * connections[1] as f64;
    // A server without a connection whose clients are refused is down.
    let refused = rows.map(|row| row.and_then(|row| row.resets).unwrap_or(0));
    let is_down = connections[1] == 0 && refused[1] >= LEAST && refused[1] > refused[0];
    let verdict = match connections {
        [before, _] if is_down && before > 0 => Verdict::Worse,
        [0, 0] if harm == 0.0 => Verdict::Same,
        [0, _] if is_bad => Verdict::NewAndBad,
        [0, _] => Verdict::New,
        [_, 0] => Verdict::Gone,
        _ if harm > 0.0 => Verdict::Worse,
        _ if has_changed => Verdict::Other,
        _ => Verdict::Same,
    };
    // Reasons of a row that only one side has are neither new nor gone.
    let in_both = rows.iter().all(Option::is_some);
    let owner = rows[1].or(rows[0]).and_then(Row::owner);
    RowChange {
        name: name.clone(),
        owner: owner.map(str::to_owned),
        verdict,
        fails_more: verdict == Verdict::NewAndBad || failing > 0.0 || is_down,
        is_in: rows.map(|row| row.is_some()),
        connections,
        bad,
        columns,
        reasons,
        new_reasons: if in_both { only(after, before) } else { Vec::new() },
        gone_reasons: if in_both { only(before, after) } else { Vec::new() },
        harm,
    }
}
