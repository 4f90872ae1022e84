//! Sums up findings that many rows have, as after a port scan.

use std::collections::BTreeMap;

use super::{Finding, Severity};

/// Number of rows from which on their findings are one.
const MANY: usize = 10;

/// Number of effects that are listed.
const LISTED: usize = 3;

/// Makes one finding of those that many rows of one role and namespace have.
pub(super) fn summarize(findings: Vec<Finding>) -> Vec<Finding> {
    let mut groups = BTreeMap::<_, Vec<Finding>>::new();
    for finding in findings {
        let kind = (finding.rule.id, finding.title, finding.role, finding.netns);
        groups.entry(kind).or_default().push(finding);
    }
    let one = |group: Vec<Finding>| if group.len() < MANY { group } else { vec![sum(group)] };
    groups.into_values().flat_map(one).collect()
}

/// Sums up findings, of which there is one at least.
fn sum(group: Vec<Finding>) -> Finding {
    let rows = group.len();
    let mut findings = group.into_iter();
    let Some(mut sum) = findings.next() else { unreachable!("a group has a finding") };
    let first = sum.place(None);
    for finding in findings {
        sum.add(finding);
    }
    sum.seen = format!(
        "{rows} ports or destinations have it, {} times in all; {first}: {}",
        sum.count, sum.seen
    );
    let more = sum.affects.len().saturating_sub(LISTED);
    if more > 0 {
        sum.affects.truncate(LISTED);
        sum.affects.push(format!("and {more} more"));
    }
    if sum.rule.id == "nobody_listens" && sum.affects.is_empty() {
        sum.severity = Severity::Notice;
        sum.title = "nobody listens on many ports that clients try: a port scan, usually";
    }
    sum.cover_all()
}
