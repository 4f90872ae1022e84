//! Warnings at the end of a run: what is missing in the results, and how to avoid that.

use crate::{
    trace::ring_size::{self, bytes},
    tracker::{Events, Limits, Tracker},
};

/// All warnings. `ring_bytes` is the size of the ring buffers, as for `--ring-size`; `None`: a recording was read.
pub(super) fn of(ring_bytes: Option<u32>, limits: Limits, tracker: &Tracker) -> Vec<String> {
    let events = tracker.events();
    let lost = ring_bytes.and_then(|ring_bytes| of_losses(ring_bytes, &events));
    [
        lost,
        of_refusals(&events),
        of_evictions(limits, tracker.evicted()),
        of_filters(&events, tracker),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Reports events lost because a ring buffer was full, and the size that would have held them.
fn of_losses(ring_bytes: u32, events: &Events) -> Option<String> {
    let Events { seen, lost, refused, .. } = events;
    let lost = lost.saturating_sub(*refused);
    if lost == 0 {
        return None;
    }
    let (ring, larger) = (u64::from(ring_bytes), ring_size::for_lost_records(ring_bytes, lost));
    let remedy = if larger > ring {
        format!("--ring-size {} would have held them", bytes(larger))
    } else {
        "no larger one is possible; use filters to record less".to_owned()
    };
    let ring = bytes(ring);
    Some(format!(
        "{lost} of {seen} events were lost because a ring buffer was full (--ring-size {ring}): {remedy}"
    ))
}

/// Reports events that the ring buffer refused although it had room.
fn of_refusals(events: &Events) -> Option<String> {
    let &Events { seen, refused, .. } = events;
    (refused > 0).then(|| {
        format!(
            "{refused} of {seen} events were lost because the kernel could not lock the ring buffer in time: a larger one does not help, filters (-P, -N) make the CPUs contend less"
        )
    })
}

/// Reports connections that were evicted because the table was full.
fn of_evictions(limits: Limits, evicted: u64) -> Option<String> {
    let limit = limits.connections;
    (evicted > 0).then(|| {
        format!(
            "{evicted} connections were evicted because the limit is {limit}: use a larger --max-connections"
        )
    })
}

/// Reports that no event matched the filters, which are then probably wrong.
fn of_filters(events: &Events, tracker: &Tracker) -> Option<String> {
    let Events { delivered, filtered, .. } = events;
    // Scans and counts per port can have found sockets without a record.
    (*delivered == 0 && *filtered > 0 && !tracker.has_rows())
        .then(|| format!("nothing matched the filters: they excluded all {filtered} events"))
}
