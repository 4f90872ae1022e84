//! Endurance: memory stays constant during a long trace, and the report has every connection.

use std::env;

use crate::{
    burst::{self, burst_to, may_miss},
    lab::{self, Namespace, Synfin},
};

const PORT: u16 = 7901;

/// The variable for the number of connections, which is 10,000,000 by default.
const CONNECTIONS: &str = "SYNFIN_SOAK_CONNECTIONS";

/// The most TIME_WAITs at a time.
const TIME_WAITS: u64 = 100_000;

/// The number of parts, after each of which the memory is measured.
const BATCHES: u64 = 20;

/// After this number of connections, and a fifth of all, the bounded tables are full: TIME_WAITs,
/// and data that waits for the next scan.
const FILLED: u64 = 200_000;

/// The least number of connections for a meaningful result.
const FEWEST: u64 = 300_000;

/// The allowed growth in percent. The allocator may hold a scan's memory during the measurement,
/// which is a few percent; a leak of a byte per connection would be more.
const MOST_GROWTH: u64 = 5;

#[test]
#[ignore = "takes ten minutes: cargo xtask soak"]
fn millions_of_connections_are_counted_in_constant_memory() {
    let connections = match env::var(CONNECTIONS) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{CONNECTIONS} is {text}")),
        Err(_) => 10_000_000,
    };
    assert!(connections >= FEWEST, "{CONNECTIONS} is less than {FEWEST}");
    let batch = connections / BATCHES;
    let connections = batch * BATCHES;
    let _lab = lab::enter_alone();
    // A busy machine misses more than in a burst, and another trial would take long.
    let (report, counters, off) = lab::nearly_whole(may_miss().times(10), || {
        let namespace = Namespace::new();
        // TIME_WAITs accumulate for a minute. With a smaller limit, their number is constant from
        // then on.
        namespace.set("ipv4/tcp_max_tw_buckets", batch.min(TIME_WAITS));
        let listener = burst::listener(&namespace, PORT);
        let synfin = Synfin::watch(["report", "-o", "json"]);
        let mut memory = Vec::new();
        for number in 1..=BATCHES {
            burst_to(&listener, &namespace, batch);
            memory.push(synfin.process().memory());
            eprintln!("{} connections: {} KiB", number * batch, memory[memory.len() - 1]);
        }
        namespace.wait_until_quiet();
        let counters = namespace.counters();
        let report = synfin.finish().report();
        assert_eq!(report.event("lost"), 0);
        check_flat(&memory, batch);
        (report, counters)
    });
    burst::check_whole(&report, PORT, connections, &counters, off);
}

#[track_caller]
fn check_flat(memory: &[u64], batch: u64) {
    let first = FILLED.div_ceil(batch).max(BATCHES / 5);
    let (first, later) = memory.split_at(first as usize);
    let (at_first, most) = (first.last().expect("some"), later.iter().max().expect("some"));
    assert!(
        most * 100 <= at_first * (100 + MOST_GROWTH),
        "{at_first} KiB after {} connections, and {most} KiB later: {memory:?}",
        first.len() as u64 * batch
    );
}
