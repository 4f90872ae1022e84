//! Applies a trace generated from random bytes to a tracker, whose row statistics must balance in
//! every snapshot, and to another tracker with a filter that admits a part of the trace.

use arbitrary::Unstructured;
use synfin::{
    tcp::{
        coverage::{Coverage, OptionalHook},
        group_by::By,
        role::Role,
    },
    trace::{
        decode::decode,
        filter::{Family, Filter, PortRange},
        recording::Frame,
    },
    tracker::{Limits, Tracker},
};
use synfin_testkit::AuditedTracker;

use super::trace::{START, Trace};

/// Generates a trace from `bytes` and applies it.
pub fn run(bytes: &[u8]) {
    let mut dice = Unstructured::new(bytes);
    let (limits, cut_always) = (limits(&mut dice), dice.ratio(1u8, 16u8).unwrap_or(false));
    let shows =
        OptionalHook::ALL.map(|extra| dice.ratio(3u8, 4u8).unwrap_or(false).then_some(extra));
    let shown: Vec<_> = shows.into_iter().flatten().map(OptionalHook::name).collect();
    let coverage = Coverage::from_names(&shown);
    let mut audited = AuditedTracker::new(limits, coverage, START);
    let filtered = Tracker::new(limits, START).with_coverage(coverage);
    let mut filtered = filtered.with_filters(vec![filter(&mut dice)]);
    let by = *dice.choose(&[By::Port, By::Remote, By::Owner, By::Netns]).unwrap_or(&By::Port);
    for frame in Trace::new(dice) {
        decode(&frame, |input| {
            audited.take(&input);
            filtered.apply(&input);
        });
        if cut_always || matches!(frame, Frame::Tick(_)) {
            audited.snapshot();
            filtered.take_snapshot().rows(by);
        }
    }
    audited.snapshot();
    filtered.take_snapshot().rows(by);
    let events = filtered.events();
    assert!(events.in_flight() >= 0, "{events:?}");
}

/// From 0 to more than needed.
fn limits(dice: &mut Unstructured<'_>) -> Limits {
    let mut most = |default| *dice.choose(&[default, 0, 1, 4, 8]).unwrap_or(&default);
    let Limits { connections, rows } = Limits::default();
    Limits { connections: most(connections), rows: most(rows) }
}

/// A filter that some of the trace's sockets match.
fn filter(dice: &mut Unstructured<'_>) -> Filter {
    let mut asked = || dice.ratio(1u8, 4u8).unwrap_or(false);
    Filter {
        pids: if asked() { vec![20] } else { vec![] },
        service_ports: if asked() { ports("80") } else { vec![] },
        local_ports: if asked() { ports("443-40000") } else { vec![] },
        remote_ports: if asked() { ports("80-8080") } else { vec![] },
        family: asked().then_some(Family::V4),
        namespaces: if asked() { vec![7] } else { vec![] },
        role: asked().then_some(Role::Server),
        ..Filter::default()
    }
}

fn ports(range: &str) -> Vec<PortRange> {
    vec![range.parse().expect("a range of ports")]
}
