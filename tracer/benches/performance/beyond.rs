//! Beyond this machine: where one ring and one reader end, and what comes then. On paper, from
//! what was measured.

use crate::{burst::Burst, cost::Cost, rate::Rate};

/// Bytes of ring per transition on IPv4, headers included: of ten transitions two are births (88 + 8), two
/// ends (80 + 8), six steps (56 + 8).
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
    // What a record costs besides being written is done outside of the ring's lock.
    let ring_limit = 1.0 / floor;
    let bytes = |rate: f64| rate * BYTES_PER_TRANSITION / 1e6;
    format!(
        "
## Beyond this machine

All records go through one ring buffer to one reader. From the figures above:

- A transition takes {kernel_ns:.0} ns of the processor on which it happens. That scales with the
  processors, but for the ring: a record is reserved under the ring's one lock. The bare program,
  clock and copying included, takes {floor_ns:.0} ns, so however many processors write, one ring
  takes no less than {ring_limit:.1} million records/s and not much more once they wait for each
  other: a spin lock that is contended slows all of them.
- The reader takes {reader_us:.2} µs of CPU per transition (user and system, surveys and a report
  every second included). One core of it is used up at {reader_limit:.1} million transitions/s:
  {connections:.0} thousand short connections/s of a server, or {mb:.0} MB/s of records. **The
  reader saturates first, not the ring.**
- A transition of this load takes {load_us:.1} µs of CPU by itself, with a tenth of a request and
  its reply. So the reader is one core for {cpus:.0} cores that do nothing else. A host whose
  connections carry many requests, or that has work to do for them, spends a small part of that on
  transitions: one core per several hundred.
- Bursts are the ring's: its size divided by the rate is how long the reader may be away. The
  default of {ring_mib} MiB lasts {lasts:.1} s at this machine's rate and {lasts_there:.2} s at the
  reader's limit. `doctor` names the size for the host's own rate.

What comes then, in this order:

1. **More than one reader.** Decoding is a small part of the reader's work; the tracker is the
   rest, and it is sequential per socket only. Sockets can be spread over several trackers by
   address; rows are put together in snapshots already, as rows of namespaces and owners are.
   Listeners and walks would be given to all of them. A factor of the number of cores spent.
2. **A ring per node or per processor**, merged by time. Each record carries its time, and within a
   ring times ascend but for interrupts, so that merging needs a queue per ring and the delay of a
   drain. This takes the lock's contention away, and costs memory: rings cannot lend each other
   room. Worth it where a host makes more than {ring_half:.1} million transitions/s, half of what
   one ring takes.
3. **Sums in the kernel.** Per port and role in per-CPU maps, with only notable and abnormal lives
   streamed. A life's start has to be kept in the kernel then, in a hash map by socket: an update
   at its birth and a deletion at its end, each about what a record costs ({floor_ns:.0} ns), in
   place of {per_connection:.0} records. That saves at most half of the kernel's time and nearly
   all of the reader's, and gives up what synfin is for: the evidence of why each connection ended,
   recordings, and figures that can be looked up one by one. With eight readers, it is needed past
   {saturated:.0} million transitions/s.

None of the three measures better here: with {cpus_here} processors there is one core at most to
read with, and the ring's lock is not contended ({kernel_ns:.0} ns per transition with both of them
writing). So none is built.
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
