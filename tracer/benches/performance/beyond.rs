//! Estimates for other machines, computed from the measurements: the limits of one ring buffer and
//! one reader, and possible next steps.

use crate::{burst::Burst, cost::Cost, rate::Rate};

/// Bytes in the ring buffer per transition on IPv4, headers included: of ten transitions two are openings
/// (88 + 8), two closings (80 + 8), six steps (56 + 8).
const BYTES_PER_TRANSITION: f64 = (2.0 * 96.0 + 2.0 * 88.0 + 6.0 * 64.0) / 10.0;

/// Transitions of a connection on one host: a server's or a client's.
const PER_CONNECTION: f64 = 5.0;

pub(crate) fn write(cost: &Cost, rate: &Rate, burst: &Burst) -> String {
    let transitions = rate.done.transitions() as f64;
    let reader = rate.own.total() / transitions;
    let reader_limit = 1.0 / reader;
    let load = cost.load_per_transition();
    let cpus = reader_limit * load;
    let kernel = cost.ns() * 1e-9;
    let floor = cost.floor_ns() * 1e-9;
    // The lock of the ring buffer covers only the reservation, so this is a lower bound.
    let ring_limit = 1.0 / floor;
    let bytes = |rate: f64| rate * BYTES_PER_TRANSITION / 1e6;
    format!(
        "
## Beyond this machine

All records go through one ring buffer to one reader. The figures above imply:

- **Hooks.** A transition costs {kernel_ns:.0} ns of CPU time on the CPU on which it happens. This scales with the
  number of CPUs, except for the ring buffer, which reserves records under one lock. The minimal program, clock
  and copying included, costs {floor_ns:.0} ns. So one ring buffer takes at least {ring_limit:.1} million
  records/s, however many CPUs write, and not much more once they contend for the lock.
- **Reader.** The reader needs {reader_us:.2} µs of CPU time per transition (user and system, scans and a report
  every second included). It saturates one core at {reader_limit:.1} million transitions/s:
  {connections:.0} thousand short connections/s of a server, or {mb:.0} MB/s of records. **The reader saturates
  before the ring buffer.**
- **Load.** A transition of this load costs {load_us:.1} µs of CPU time by itself, with a tenth of a request and
  its reply. So one core of reader serves {cpus:.0} cores that do nothing else. A host with many requests per
  connection, or with work to do for each, spends a small part of its CPU time on transitions: one core per
  several hundred.
- **Bursts.** The ring buffer absorbs bursts: its size divided by the rate is how long the reader may stall. The
  default of {ring_mib} MiB lasts {lasts:.1} s at the rate of this machine and {lasts_there:.2} s at the limit of
  the reader. `doctor` names the size for the rate of the host.

Possible next steps, in this order:

1. **More than one reader.** Decoding is a small part of the reader's work. The rest is the tracker, which is
   sequential only per socket: sockets can be distributed to several trackers by address, and snapshots already
   merge rows, as they do for namespaces and owners. All trackers would get listeners and scans. This gains up to
   a factor of the number of cores used.
2. **A ring buffer per NUMA node or CPU**, merged by time. Each record has a timestamp, and timestamps within a
   ring buffer ascend except for interrupts, so merging needs a queue per ring buffer and the delay of one drain.
   This removes lock contention and costs memory, because ring buffers cannot share room. It is worth it for a
   host with more than {ring_half:.1} million transitions/s, half of what one ring buffer takes.
3. **Aggregation in the kernel**: per port and role in per-CPU maps, with records only for notable and abnormal
   connections. The start of each connection then has to be kept in the kernel, in a hash map by socket: an
   update at its first transition and a deletion at its close, each about the cost of a record ({floor_ns:.0} ns),
   in place of {per_connection:.0} records. This saves at most half of the kernel time and nearly all of the
   reader's, and gives up what synfin is for: the evidence for each close reason, recordings, and figures that can
   be traced to single connections. With eight readers, it is needed above {saturated:.0} million transitions/s.

None of the three would pay on this machine: with {cpus_here} CPUs at most one core can read, and the lock
of the ring buffer is not contended ({kernel_ns:.0} ns per transition with both CPUs writing). So none is built.
",
        kernel_ns = kernel * 1e9,
        floor_ns = floor * 1e9,
        ring_limit = ring_limit / 1e6,
        reader_us = reader * 1e6,
        reader_limit = reader_limit / 1e6,
        connections = reader_limit / PER_CONNECTION / 1e3,
        mb = bytes(reader_limit),
        load_us = load * 1e6,
        ring_mib = burst.default_ring >> 20,
        lasts = burst.default_ring as f64 / 1e6 / bytes(rate.done.per_second() * 10.0),
        lasts_there = burst.default_ring as f64 / 1e6 / bytes(reader_limit),
        ring_half = ring_limit / 2e6,
        per_connection = PER_CONNECTION,
        saturated = reader_limit * 8.0 / 1e6,
        cpus_here = "two",
    )
}
