//! The findings of both sides: which are new, and which are gone.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use crate::{
    findings::{Finding, Severity},
    tcp::role::Role,
};

/// A finding of one side, or of both.
#[derive(Clone, Debug)]
pub struct FindingChange {
    /// The finding as it is after; as it was before if it is gone.
    pub finding: Finding,
    /// What has become of it.
    pub verdict: FindingVerdict,
    /// Number of connections or segments that have the problem on each side; `None` where it is not found.
    pub counts: [Option<u64>; 2],
}

/// What has become of a finding; worse ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingVerdict {
    /// It is new.
    New,
    /// It was there, and is more urgent now.
    MoreUrgent,
    /// It is gone.
    Gone,
    /// It is still there.
    Same,
}

impl FindingVerdict {
    /// All verdicts with their names, worse ones first.
    pub const NAMES: [(Self, &'static str); 4] = [
        (Self::New, "new"),
        (Self::MoreUrgent, "more urgent"),
        (Self::Gone, "gone"),
        (Self::Same, "unchanged"),
    ];

    /// The name in every output.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(it, _)| *it == self).map_or("", |(_, name)| *name)
    }
}

impl FindingChange {
    /// How urgent the change is; `None` if nothing has become worse.
    pub fn severity(&self) -> Option<Severity> {
        let is_worse = self.verdict <= FindingVerdict::MoreUrgent;
        is_worse.then_some(self.finding.severity)
    }
}

/// What the same problem has in common on both sides. A namespace without a name has other numbers
/// after.
type Key = (&'static str, &'static str, Role, Option<u16>, Option<IpAddr>, Option<String>);

fn key(finding: &Finding) -> Key {
    let Finding { rule, title, role, port, remote, netns_name, .. } = finding;
    (rule.id, *title, *role, *port, *remote, netns_name.clone())
}

/// Compares the findings of both sides. New ones come first, the most urgent before the others.
pub fn compare_findings(before: Vec<Finding>, after: Vec<Finding>) -> Vec<FindingChange> {
    let mut earlier = BTreeMap::<Key, Vec<Finding>>::new();
    for finding in before {
        earlier.entry(key(&finding)).or_default().push(finding);
    }
    let known = after.into_iter().map(|finding| {
        let earlier = earlier.get_mut(&key(&finding)).and_then(Vec::pop);
        let verdict = match &earlier {
            None => FindingVerdict::New,
            Some(earlier) if earlier.severity < finding.severity => FindingVerdict::MoreUrgent,
            Some(_) => FindingVerdict::Same,
        };
        let counts = [earlier.map(|earlier| earlier.count), Some(finding.count)];
        FindingChange { finding, verdict, counts }
    });
    let mut changes: Vec<_> = known.collect();
    changes.extend(earlier.into_values().flatten().map(|finding| {
        let counts = [Some(finding.count), None];
        FindingChange { finding, verdict: FindingVerdict::Gone, counts }
    }));
    // The sort is stable: equal ones stay in the order of `diagnose`.
    changes.sort_by_key(|change| (change.verdict, Reverse(change.finding.severity)));
    changes
}
