//! Endurance: however long synfin watches, it takes no more memory, and every connection is in the
//! report.

use std::env;

use crate::{
    burst::{self, burst_to, missing_share},
    lab::{self, Namespace, Synfin},
};

const PORT: u16 = 7901;

/// How many connections it takes: 10,000,000 unless this says otherwise.
const CONNECTIONS: &str = "SYNFIN_SOAK_CONNECTIONS";

/// The most TIME_WAITs that there are at a time.
const TIME_WAITS: u64 = 100_000;

/// The memory is looked at after each of so many parts.
const BATCHES: u64 = 20;

/// After so many connections at least, and after a fifth of all, what is bounded has filled up:
/// TIME_WAITs, and what waits for the next scan.
const FILLED: u64 = 200_000;

/// Fewer say nothing of what comes after that.
const FEWEST: u64 = 300_000;

/// In percent. What a scan needs is with the allocator or back with the kernel at the moment of a look,
/// and that is some percent. Of ten million connections, a byte left behind by each is more.
const MOST_GROWTH: u64 = 5;

#[test]
#[ignore = "takes ten minutes: cargo xtask soak"]
fn millions_of_connections_are_all_in_the_report_and_take_no_more_memory() {
    let connections = match env::var(CONNECTIONS) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{CONNECTIONS} is {text}")),
        Err(_) => 10_000_000,
    };
    assert!(connections >= FEWEST, "{CONNECTIONS} is less than {FEWEST}");
    let batch = connections / BATCHES;
    let connections = batch * BATCHES;
    let _lab = lab::enter_alone();
    // A machine that is busy otherwise misses more than in a burst, and another trial takes long.
    let (report, counters, off) = lab::nearly_whole(missing_share() / 10, || {
        let namespace = Namespace::new();
        // TIME_WAITs pile up for a minute, and so does what is known of them. With less room than that
        // takes, there are as many from then on.
        namespace.set("ipv4/tcp_max_tw_buckets", batch.min(TIME_WAITS));
        let listener = burst::listener(&namespace, PORT);
        let synfin = Synfin::watch(["report", "-o", "json"]);
        let mut memory = Vec::new();
        for number in 1..=BATCHES {
            burst_to(&listener, &namespace, batch);
            memory.push(synfin.process().memory());
            eprintln!("{} connections: {} KiB", number * batch, memory[memory.len() - 1]);
        }
        namespace.settle();
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
