//! What other machines can expect: how a record's cost grows if all CPUs write at once, how many records one
//! reader takes, and what is not built.

use std::fmt::Write as _;

use crate::{burst::Burst, cost::Cost, rate::Rate, replay::Replay, synthetic::Synthetic};

/// Bytes in a ring per transition on IPv4, headers included: of ten transitions two are openings (112 + 8),
/// two closings (112 + 8), two completed handshakes (72 + 8), four steps (56 + 8).
const BYTES_PER_TRANSITION: f64 = (4.0 * 120.0 + 2.0 * 80.0 + 4.0 * 64.0) / 10.0;

/// Transitions of a connection on one host: a server's or a client's.
const PER_CONNECTION: f64 = 5.0;

pub(crate) fn write(
    cost: &Cost,
    synthetic: &Synthetic,
    rate: &Rate,
    burst: &Burst,
    replay: &Replay,
) -> String {
    let mut text = synthetic_records(synthetic);
    let transitions = rate.done.transitions() as f64;
    let reader = rate.own.total() / transitions;
    let reader_limit = 1.0 / reader;
    let load = cost.reply.load_per_transition();
    let bytes = |rate: f64| rate * BYTES_PER_TRANSITION / 1e6;
    let rings = (burst.default_ring * synthetic.cpus() as u64) as f64 / 1e6;
    let _ = write!(
        text,
        "
The figures above imply:

- **Hooks.** A transition costs {kernel_ns:.0} ns on the CPU on which it happens, however many CPUs there are.
- **Reader.** The reader needs {reader_us:.2} µs of CPU time per transition (user and system, merging, scans and a
  report every second included). It saturates one core at {limit:.1} million transitions/s:
  {connections:.0} thousand short connections/s of a server, or {mb:.0} MB/s of records. **The reader saturates
  first.**
- **Load.** A transition of this load costs {load_us:.1} µs of CPU time by itself, with a tenth of a request and
  its reply. So one core of reader serves {cpus:.0} cores that do nothing else. A host with many requests per
  connection, or with work to do for each, spends a small part of its CPU time on transitions.
- **Bursts.** The rings absorb bursts: their size divided by the rate is how long the reader may stall. The
  default of {ring_mib} MiB for each CPU lasts {lasts:.1} s at the rate of this machine and {lasts_there:.2} s at the
  limit of the reader. `doctor` names the size for the rate of the host's busiest CPU.

What is not built, and why:

- **More than one reader.** Decoding, which could run beside the tracker, is {decoder:.0} % of the time of a replay. The
  tracker could be split by socket for what concerns one socket. But much of a row concerns several: the
  TIME_WAIT that a new connection ends, the accept queue that a listener's connections share, the ephemeral
  ports toward a destination, the subflows of an MPTCP connection, the process that holds them. Split by network
  namespace, all of that would stay together, but the busy sockets of most hosts are in one. For figures that are
  the same to the last digit, the trackers would have to wait for each other at each of these points, and one
  reader already serves the cores above.
- **Aggregation in the kernel**: per port and role in per-CPU maps, with records only for notable and abnormal
  connections. The start of each connection then has to be kept in the kernel, in a hash map by socket: an
  update at its first transition and a deletion at its close, in place of {per_connection:.0} records. This saves
  nearly all of the reader's time, and gives up what synfin is for: the evidence for each close reason,
  recordings, and figures that can be traced to single connections.
",
        kernel_ns = cost.reply.ns(),
        reader_us = reader * 1e6,
        limit = reader_limit / 1e6,
        connections = reader_limit / PER_CONNECTION / 1e3,
        mb = bytes(reader_limit),
        load_us = load * 1e6,
        cpus = reader_limit * load,
        ring_mib = burst.default_ring >> 20,
        lasts = rings / bytes(rate.done.per_second() * 10.0),
        lasts_there = rings / bytes(reader_limit),
        decoder = 100.0 / replay.times_decoder(),
        per_connection = PER_CONNECTION,
    );
    text
}

fn synthetic_records(synthetic: &Synthetic) -> String {
    let mut text = format!(
        "
## Beyond this machine

Each CPU writes transitions to a ring of its own, and one reader merges the rings in order of time. Programs that
write the records of connections that do not exist, one after the other (`BPF_PROG_TEST_RUN`), show what a record
costs without the kernel's work around it; clock included:

| records go to | ns a record, one CPU | all {} CPUs at once |
| --- | --- | --- |
",
        synthetic.cpus(),
    );
    for (name, [alone, together]) in synthetic.costs() {
        let times = together / alone;
        let _ = writeln!(text, "| {name} | {alone:.0} | {together:.0} ({times:.2} ×) |");
    }
    text.push_str(
        "
The same programs at a constant rate, with a reader and a tracker on the same CPUs:

| million records/s, wanted | written | lost in 10 s |
| --- | --- | --- |
",
    );
    for taken in synthetic.taken() {
        let [wanted, written] = [taken.wanted_per_second, taken.per_second].map(|rate| rate / 1e6);
        let lost = taken.lost as f64 / taken.written as f64 * 100.0;
        let _ = writeln!(text, "| {wanted:.0} | {written:.1} | {} ({lost:.1} %) |", taken.lost);
    }
    text
}
