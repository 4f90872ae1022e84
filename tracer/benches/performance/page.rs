//! Writes the page: the goals and their results, the cost of each tracer, and estimates.

use std::fmt::{self, Display, Write as _};

use crate::{
    beyond,
    cost::Cost,
    load::{ADDRESSES, REPLY, REQUEST},
    results::Results,
};

/// A goal and its result.
pub(crate) struct Goal {
    what: &'static str,
    goal: &'static str,
    measured: String,
    is_met: bool,
}

impl Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, goal, measured, is_met } = self;
        write!(f, "| {what} | {goal} | {measured} | {} |", if *is_met { "yes" } else { "**no**" })
    }
}

const MIB: f64 = (1 << 20) as f64;

/// The goals of the parts measured so far.
#[expect(clippy::too_many_lines, reason = "it is a table")]
pub(crate) fn goals(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    let mut goal = |what, goal, measured: String, is_met| {
        goals.push(Goal { what, goal, measured, is_met });
    };
    if let Some(cost) = &results.cost {
        let (times, ns) = (cost.times_floor(), cost.reply.ns());
        goal(
            "kernel time per transition, all hooks, relative to a minimal program that reads the clock and submits 48 bytes",
            "≤ 1.0 ×",
            format!("{times:.2} × ({ns:.0} ns)"),
            times <= 1.0,
        );
        for (what, limit, most, of_load) in [
            (
                "CPU time of programs and synfin / CPU time of the load, with a request and a reply",
                "≤ 4 %",
                0.04,
                &cost.reply,
            ),
            ("the same with connections that carry nothing", "≤ 8 %", 0.08, &cost.nothing),
        ] {
            let share = of_load.share();
            goal(what, limit, format!("{:.1} %", share * 100.0), share <= most);
        }
    }
    if let Some(interrupts) = &results.interrupts {
        let missed = interrupts.missed() * 1e5;
        goal(
            "transitions missed where packets come by interrupt (below)",
            "≤ 10 in 100,000",
            format!("{missed:.1} in 100,000"),
            missed <= 10.0,
        );
    }
    if let Some(synthetic) = &results.synthetic {
        let times = synthetic.contention();
        goal(
            "time of a record while all CPUs write, relative to one CPU alone (synthetic records)",
            "≤ 1.1 ×",
            format!("{times:.2} ×"),
            times <= 1.1,
        );
        if let Some(taken) = synthetic.taken().first() {
            let rate = taken.per_second / 1e6;
            goal(
                "synthetic records lost in 10 s at 3 million/s, default settings",
                "0",
                format!("{} of {} at {rate:.1} million/s", taken.lost, taken.written),
                taken.lost == 0 && rate > 2.9,
            );
        }
    }
    if let Some(rate) = &results.rate {
        let events = rate.events;
        goal(
            "records lost in 60 s at full rate, default settings",
            "0",
            format!("{} of {}", events.lost, events.seen),
            events.lost == 0,
        );
        let share = rate.missing_share() * 1e5;
        goal(
            "hook runs missed by the kernel, and gaps",
            "≤ 1 in 100,000",
            format!("{share:.2} in 100,000"),
            share <= 1.0,
        );
        let seconds = rate.user_seconds_per_million();
        goal(
            "user CPU time per million transitions, live, a report every second",
            "≤ 0.3 s",
            format!("{seconds:.2} s"),
            seconds <= 0.3,
        );
    }
    if let Some(burst) = &results.burst {
        let ring = |bytes: u64| format!("ring of {} MiB per CPU", bytes >> 20);
        goal(
            "records lost when the reader stalls for 0.5 s at full rate",
            "0, ring ≤ 16 MiB",
            format!("{}, {}", burst.short.lost, ring(burst.default_ring)),
            burst.short.lost == 0 && burst.default_ring <= 16 << 20,
        );
        goal(
            "the same for 2 s, with the ring buffer that `doctor` names",
            "0",
            format!("{}, {}", burst.long.lost, ring(burst.named_ring)),
            burst.long.lost == 0,
        );
    }
    if let Some(replay) = &results.replay {
        let (millions, times) = (replay.millions(), replay.times_decoder());
        goal(
            "replay through decoder and tracker, one core, relative to the decoder alone",
            "≤ 8 ×",
            format!("{times:.1} × ({millions:.1} million transitions/s)"),
            times <= 8.0,
        );
    }
    if let Some(open) = &results.open {
        let bytes = open.bytes_each();
        goal(
            "memory per open connection",
            "≤ 100 bytes",
            format!("{bytes:.0} bytes"),
            bytes <= 100.0,
        );
        let peak = open.peak as f64 / MIB;
        goal(
            "peak memory with 1,000,000 open connections",
            "≤ 200 MiB",
            format!("{peak:.0} MiB"),
            peak <= 200.0,
        );
    }
    if let Some(soak) = &results.soak
        && let Some((most, growth)) = soak.most_and_growth()
    {
        goal(
            "growth over 10 million connections, once all bounded tables are full",
            "flat",
            format!("{:+.1} %, {:.0} MiB at most", growth * 100.0, most as f64 / MIB),
            growth <= 0.05 && soak.lost == 0,
        );
    }
    if let Some(scans) = &results.scans {
        let share = scans.of_ss();
        goal(
            "scan of 300,000 TIME_WAIT sockets, relative to `ss -Htan state time-wait`",
            "≤ 1/3",
            format!("{share:.2} ({:.0} ms, {:.0} ms)", scans.scan_ms(), scans.ss_ms()),
            share <= 1.0 / 3.0 && scans.time_waits >= 299_000,
        );
        let late = scans.latest_tick_ms();
        goal(
            "latest timer tick during continuous scans of that size under load",
            "≤ 100 ms",
            format!("{late:.0} ms"),
            late <= 100.0,
        );
        let share = scans.share_of_core();
        goal(
            "share of one core for all scans, with 60 busy namespaces",
            "≤ 1 %",
            format!("{:.2} %", share * 100.0),
            share <= 0.01,
        );
    }
    if let Some(start) = &results.start {
        let ms = start.ms();
        goal("start to first record", "≤ 100 ms", format!("{ms:.0} ms"), ms <= 100.0);
        let mebibytes = start.bytes as f64 / MIB;
        goal("static release binary", "≤ 8 MiB", format!("{mebibytes:.1} MiB"), mebibytes <= 8.0);
    }
    goals
}

/// The page; `None` if parts are missing.
pub(crate) fn write(results: &Results) -> Option<String> {
    let (cost, rate, burst) = (results.cost.as_ref()?, results.rate?, results.burst?);
    let replay = results.replay.as_ref()?;
    results.open?;
    results.soak.as_ref()?;
    results.scans.as_ref()?;
    results.start.as_ref()?;
    let host = &results.host;
    let mut page = format!(
        "# Performance

<!-- Written by `cargo xtask bench`; no figure is typed by hand. -->

Measured on {date}: Linux {kernel}, {cpus} × {processor}, {memory} GiB, with the release build of
synfin, statically linked. Every goal is a ratio or a count within one run: on other machines the
absolute figures differ, the ratios less so. `cargo xtask bench` repeats all measurements and writes this
page ({minutes} minutes, as root, on an otherwise idle machine); `cargo xtask bench cost scan`
measures parts.

The load makes short connections on loopback in its own network namespace: a client and a server for
each CPU, {addresses} addresses, a request of {REQUEST} bytes and a reply of {REPLY}, closed by
each side first in turn; {rate:.0} connections/s untraced, ten transitions each. Without the request and the
reply, where all that a tracer costs weighs most, it makes {empty_rate:.0}.

| what | goal | measured | met |
| --- | --- | --- | --- |
",
        date = host.date,
        kernel = host.kernel,
        cpus = host.cpus,
        processor = host.processor,
        memory = host.gibibytes,
        minutes = 25,
        addresses = ADDRESSES,
        rate = cost.reply.untraced_per_second(),
        empty_rate = cost.nothing.untraced_per_second(),
    );
    for goal in goals(results) {
        let _ = writeln!(page, "{goal}");
    }
    let _ = write!(
        page,
        "
Not goals, but for reference: the decoder alone processes {decoder:.0} million records/s, and
`synfin report --from FILE`, start and reading included, {whole:.1} million transitions/s. In the
minute at full rate synfin used {user:.2} s of user and {system:.2} s of system time, and {memory:.0}
MiB of memory at its end.

## Beside other tracers

Each tracer with the same load, one after the other, in {rounds} rounds; medians. The kernel measures the
programs (`bpf_stats`). The total cost is the time of the programs and of the process itself during the load,
as a share of the CPU time of the load.

| load | tracer | connections/s, traced / untraced | programs, ns per transition | total cost |
| --- | --- | --- | --- | --- |
",
        decoder = replay.decoder_millions(),
        whole = replay.whole_millions(),
        user = rate.own.user,
        system = rate.own.system,
        memory = rate.memory as f64 / MIB,
        rounds = cost.rounds(),
    );
    tracers(&mut page, cost);
    page.push_str(
        "
## Where packets come by interrupt

The kernel skips a program that is already running on the CPU. On loopback, a task sends and receives its
packets itself, so that nothing comes while a program runs. A network card is different, and so are these loads:
64 connections at a time over a veth pair, to a server that closes first; `rps`: another CPU receives each packet
(receive packet steering); `tbf`: a timer sends the packets (a token bucket filter). In 100,000: what a tracer did
not report of all transitions (`tcplife`: of all ends of connections), and what synfin's second programs recorded
because the kernel skipped the first ones. What is missing includes what was lost for lack of room. Not included
is what the kernel withheld from synfin: the kernels of some virtual machines run no program while a thread of
process 1 is current, even in an interrupt; ftrace shows how many transitions these are at most.

| load | tracer | connections/s | missed in 100,000 | recovered in 100,000 | withheld in 100,000 |
| --- | --- | --- | --- | --- | --- |
",
    );
    results.interrupts.as_ref()?.write(&mut page);
    page.push_str(&beyond::write(cost, results.synthetic.as_ref()?, &rate, &burst, replay));
    Some(page)
}

fn tracers(page: &mut String, cost: &Cost) {
    for (load, of_load) in [("request and reply", &cost.reply), ("nothing", &cost.nothing)] {
        for (name, rate, ns, share) in of_load.table() {
            let share = share * 100.0;
            let _ = writeln!(page, "| {load} | {name} | {rate:.2} | {ns:.0} | {share:.1} % |");
        }
    }
}
