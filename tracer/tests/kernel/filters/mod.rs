//! Filters admit exactly the connections that match, with the same statistics as without other
//! connections: live, from a recording of everything, and from a recording made with the filter.

mod crowd;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process, thread,
    time::Duration,
};

use nix::libc;
use serde_json::Value;

use self::crowd::{Crowd, EPHEMERAL, End};
use crate::lab::{self, Namespace, Report, RowCounts, Synfin, Wire};

/// The number of ports of each test. The ports differ between runs, because a report merges a
/// port's rows of all namespaces.
const PORTS: u16 = 20;

/// The first port of a test.
fn ports_of(test: u16) -> u16 {
    12_000 + process::id() as u16 % 100 * 200 + test * PORTS
}

/// A filter's arguments, and whether an end matches.
struct Case {
    args: Vec<String>,
    wanted: Box<dyn Fn(&End) -> bool>,
}

fn case(args: impl AsRef<str>, wanted: impl Fn(&End) -> bool + 'static) -> Case {
    let args = args.as_ref().split_whitespace().map(str::to_owned).collect();
    Case { args, wanted: Box::new(wanted) }
}

/// Traces a crowd without a filter and with each case's filter, and compares the results with the
/// crowd's connections.
#[track_caller]
fn check(port: u16, cases: impl Fn(&Crowd) -> Vec<Case>) {
    let _lab = lab::enter();
    // On a slow machine, the crowd's TIME_WAITs would expire before all runs have scanned them.
    let at_a_time = if lab::is_slow() { 3 } else { usize::MAX };
    let mut first = 0;
    while check_some(port, &cases, first, at_a_time) == at_a_time {
        first += at_a_time;
    }
}

/// Checks at most `count` cases from the `first`; returns their number.
#[track_caller]
fn check_some(
    port: u16,
    cases: &impl Fn(&Crowd) -> Vec<Case>,
    first: usize,
    count: usize,
) -> usize {
    let folder = tempfile::tempdir().expect("a directory");
    let file = |name: &str| folder.path().join(name).to_str().expect("a UTF-8 path").to_owned();
    let all = file("all");

    let (_, (cases, reported, ends, _kept)) = lab::conclusive(|| {
        let mut crowd = Crowd::gather(port);
        let cases: Vec<_> = cases(&crowd).into_iter().skip(first).take(count).collect();
        let runs: Vec<_> = [(vec![], all.clone())]
            .into_iter()
            .chain(
                (0..)
                    .zip(&cases)
                    .map(|(at, case): (u32, _)| (case.args.clone(), file(&at.to_string()))),
            )
            .collect();
        let watch = |(args, recording): &(Vec<String>, String)| {
            let mut report = vec!["report", "-o", "json", "--record", recording, "--force"];
            // Where the kernel preempts programs on its functions, it always skips some of ten
            // each.
            if lab::since(7, 0) {
                report.push("--tracepoints-only");
            }
            Synfin::watch(report.into_iter().chain(args.iter().map(String::as_str)))
        };
        let watching = at_a_time(runs.iter().map(|run| move || watch(run)));
        let ends = crowd.play();
        let reported = at_a_time(watching.into_iter().map(|synfin| move || synfin.finish()));
        let worst = reported
            .iter()
            .map(|reported| reported.report())
            .max_by_key(|report| report.event("missed"));
        (worst.expect("a report"), (cases, reported, ends, crowd))
    });
    let mut differences = Vec::new();
    let whole = reported[0].report();
    differences.extend(shown(&whole, port, &ends, &|_| true).map(|what| format!("all: {what}")));
    for (at, Case { args, wanted }) in cases.iter().enumerate() {
        let mut differs = |how: &str, found: Vec<String>| {
            differences
                .extend(found.iter().map(|what| format!("{} {how}: {what}", args.join(" "))));
        };
        let filtered = file(&at.to_string());
        let replay = |command: &[&str], from: &str, args: &[String]| {
            let from = ["-o", "json", "--from", from];
            let command = command.iter().chain(&from).map(|&arg| arg.to_owned());
            Synfin::run(command.chain(args.iter().cloned()))
        };
        let live = &reported[at + 1];
        differs("live", shown(&live.report(), port, &ends, wanted).collect());
        differs("live", left_out(&live.report(), &ends, wanted));
        // Replays are the same on every kernel, and slow on a slow machine.
        if lab::is_slow() {
            continue;
        }
        let later = replay(&["report"], &all, args).report();
        differs("of all", shown(&later, port, &ends, wanted).collect());
        differs("of all", left_out(&later, &ends, wanted));
        for args in [&[], &args[..]] {
            let again = replay(&["report"], &filtered, args).json_lines();
            differs("of filtered", differing(&again[0], &live.json_lines()[0]));
        }
        for from in [&all, &filtered] {
            let by_netns = replay(&["report", "--by", "netns"], from, args).report();
            differs("by netns", per_namespace(&by_netns, &ends, wanted));
        }
        for command in [&["connections"][..], &["connections", "--open"], &["trace"]] {
            let lines = |from: &str, args: &[String]| {
                let lines = replay(command, from, args).json_lines();
                let mut lines: Vec<_> = lines.iter().filter_map(|it| line_of(it, &ends)).collect();
                lines.sort();
                lines
            };
            let as_live = lines(&filtered, &[]);
            for (how, lines) in [("all", lines(&all, args)), ("filtered", lines(&filtered, args))] {
                differs(&format!("{command:?} of {how}"), missing(&as_live, &lines, "lacks"));
                differs(
                    &format!("{command:?} of {how}"),
                    missing(&lines, &as_live, "has in addition"),
                );
            }
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    cases.len()
}

/// The multiset difference of two sorted lists.
fn missing(from: &[String], in_other: &[String], how: &str) -> Vec<String> {
    let mut other = in_other.iter().peekable();
    let is_missing = |line: &&String| {
        while other.next_if(|next| next < line).is_some() {}
        other.next_if(|next| next == line).is_none()
    };
    from.iter().filter(is_missing).map(|line| format!("{how} {line}")).collect()
}

/// Runs several functions at a time.
fn at_a_time<T: Send>(works: impl Iterator<Item = impl FnOnce() -> T + Send>) -> Vec<T> {
    thread::scope(|scope| {
        let works: Vec<_> = works.map(|work| scope.spawn(work)).collect();
        works.into_iter().map(|work| work.join().expect("a result")).collect()
    })
}

/// The differences of the crowd's rows from the expected ones.
fn shown<'a>(
    report: &'a Report,
    port: u16,
    ends: &'a [End],
    wanted: &'a dyn Fn(&End) -> bool,
) -> impl Iterator<Item = String> + 'a {
    report.check_nothing_lost();
    let rows = (port..port + PORTS).flat_map(|port| ["client", "server"].map(|role| (role, port)));
    rows.filter_map(move |(role, port)| {
        let here = ends.iter().filter(|end| (end.role, end.service_port()) == (role, port));
        let counts = here.filter(|end| wanted(end)).map(|end| &end.counts);
        report.difference(role, port, &RowCounts::sum(counts))
    })
}

/// Checks that a report says that records were filtered if, and only if, they were.
fn left_out(report: &Report, ends: &[End], wanted: &dyn Fn(&End) -> bool) -> Vec<String> {
    // A TIME_WAIT older than the trace has no record to filter.
    let unwanted = ends.iter().any(|end| !wanted(end) && end.owner.is_some());
    let filtered = report.event("filtered");
    (unwanted && filtered == 0).then(|| "nothing was filtered".to_owned()).into_iter().collect()
}

/// The differences of the sums over the crowd's namespaces from the expected ones: no other port
/// may have activity there.
fn per_namespace(report: &Report, ends: &[End], wanted: &dyn Fn(&End) -> bool) -> Vec<String> {
    let namespaces: BTreeSet<_> = ends.iter().map(|end| end.netns).collect();
    let sums = namespaces.iter().flat_map(|&netns| ["client", "server"].map(|role| (netns, role)));
    let difference = |(netns, role)| {
        let here = ends.iter().filter(|end| (end.netns, end.role) == (netns, role));
        let counts = here.filter(|end| wanted(end)).map(|end| &end.counts);
        let found = report.counts(|row| row["netns"] == netns && row["role"] == role);
        let difference = found.difference(&RowCounts::sum(counts));
        difference.map(|what| format!("{role} in {netns}: {what}"))
    };
    sums.filter_map(difference).collect()
}

/// The differences of a replay's report from the live one.
fn differing(again: &Value, live: &Value) -> Vec<String> {
    match (again, live) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let parts = names.into_iter().map(|name| (name, &again[name], &live[name]));
            parts.flat_map(|(name, a, b)| prefixed(name, differing(a, b))).collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let parts = a.iter().zip(b).enumerate();
            parts.flat_map(|(at, (a, b))| prefixed(&at.to_string(), differing(a, b))).collect()
        }
        _ if again == live => Vec::new(),
        _ => vec![format!(": {again}, not {live}")],
    }
}

fn prefixed(name: &str, whats: Vec<String>) -> Vec<String> {
    whats.into_iter().map(|what| format!("{name}.{what}")).collect()
}

/// The part of a connection's line that two traces of the crowd have in common.
fn line_of(line: &Value, ends: &[End]) -> Option<String> {
    const ALIKE: [&str; 12] = [
        "role",
        "local_addr",
        "local_port",
        "remote_addr",
        "remote_port",
        "reason",
        "state",
        "old",
        "new",
        "time_wait",
        "preexisting",
        "container",
    ];
    let ours = ends.iter().any(|end| line["netns"] == end.netns);
    // This process forks often, and its children hold its sockets until their exec().
    let is_known = |pid: &u64| {
        *pid != u64::from(process::id()) && ends.iter().any(|end| end.is_of(*pid as u32))
    };
    let pid = line["pid"].as_u64().filter(is_known);
    ours.then(|| ALIKE.map(|column| line[column].to_string()).join(" ") + &format!(" {pid:?}"))
}

fn in_range(port: u16, [first, last]: [u16; 2]) -> bool {
    (first..=last).contains(&port)
}

#[test]
fn by_ports() {
    let p = ports_of(0);
    check(p, move |_| {
        let nine: Vec<_> = (0..9).map(|port| (p + port).to_string()).collect();
        vec![
            case(format!("-P {p}"), move |end| end.service_port() == p),
            case(format!("--port {p},{}-{}", p + 2, p + 5), move |end| {
                end.service_port() == p || in_range(end.service_port(), [p + 2, p + 5])
            }),
            case(format!("-P {}", nine.join(",")), move |end| {
                in_range(end.service_port(), [p, p + 8])
            }),
            // The other side is a client that bound this port.
            case(format!("-P {}", p + 13), |_| false),
            case(format!("-L {},{}", p + 13, p + 15), move |end| {
                [p + 13, p + 15].contains(&end.local.port())
            }),
            case(format!("-L {}-{}", EPHEMERAL[0], EPHEMERAL[1]), move |end| {
                in_range(end.local.port(), EPHEMERAL)
            }),
            case(format!("--localport {}", p + 1), move |end| end.local.port() == p + 1),
            case(format!("-D {},{}", p + 4, p + 14), move |end| {
                [p + 4, p + 14].contains(&end.remote.port())
            }),
        ]
    });
}

#[test]
fn by_addresses() {
    let p = ports_of(1);
    check(p, move |crowd| {
        let (near, far) = (crowd.wire.near.id(), crowd.wire.far.id());
        let any_of = |addresses: &'static [IpAddr]| move |ip| addresses.contains(&ip);
        let near4 = any_of(&[Wire::NEAR4]);
        let far_or_6 = any_of(&[Wire::FAR4, Wire::NEAR6, Wire::FAR6]);
        vec![
            case("-4", move |end| end.remote.is_ipv4()),
            case("--ipv6", move |end| end.remote.is_ipv6()),
            case("--local 10.77.0.1", move |end| near4(end.local.ip())),
            case("--remote ::ffff:10.77.0.2/127,fd77::/64", move |end| far_or_6(end.remote.ip())),
            case("--local 127.0.0.0/8 --remote 127.0.0.0/8", move |end| {
                end.local.ip().is_loopback()
            }),
            case(format!("-N {}", crowd.near_name), move |end| end.netns == near),
            case(format!("-N {near}"), move |end| end.netns == near),
            case(format!("--netns {far},4026530000"), move |end| end.netns == far),
            case("--remote 203.0.113.0/24", |_| false),
        ]
    });
}

#[test]
fn by_roles_and_processes() {
    let p = ports_of(2);
    check(p, move |crowd| {
        let pid = |pid: u32| case(format!("-p {pid}"), move |end| end.is_of(pid));
        let this = process::id();
        vec![
            case("--role client", move |end| end.role == "client"),
            case("--role server", move |end| end.role == "server"),
            pid(crowd.client.pid()),
            pid(crowd.server.pid()),
            pid(crowd.prefork.pid()),
            pid(crowd.workers[1]),
            pid(this),
        ]
    });
}

#[test]
fn by_cgroups() {
    let p = ports_of(3);
    check(p, move |crowd| {
        let Some([clients, servers, outer]) = &crowd.cgroups else {
            return Vec::new();
        };
        let path = |cgroup: &lab::Cgroup| cgroup.path().to_owned();
        let is_in = |prefix: String| {
            move |end: &End| {
                end.owner.as_ref().is_some_and(|owner| owner.cgroup.starts_with(&prefix))
            }
        };
        vec![
            case(format!("-c {}", path(outer)), is_in(path(outer))),
            case(format!("-c /{}", path(clients)), is_in(path(clients))),
            case(format!("--cgroup {}/", servers.folder().display()), is_in(path(servers))),
        ]
    });
}

#[test]
fn together() {
    let p = ports_of(4);
    check(p, move |crowd| {
        let (near, far) = (crowd.wire.near.id(), crowd.wire.far.id());
        let [client, server] = [crowd.client.pid(), crowd.server.pid()];
        let unused: Vec<_> = (0..9).map(|n| (4_000_000 + n).to_string()).collect();
        let nowhere: Vec<_> = (0..9).map(|n| format!("203.0.113.{n}")).collect();
        vec![
            case(format!("-P {},{} --role server", p + 1, p + 3), move |end| {
                [p + 1, p + 3].contains(&end.service_port()) && end.role == "server"
            }),
            case(format!("-4 -p {client},{server}"), move |end| {
                end.remote.is_ipv4() && (end.is_of(client) || end.is_of(server))
            }),
            case(format!("-N {near} -L {}-{}", EPHEMERAL[0], EPHEMERAL[1]), move |end| {
                end.netns == near && in_range(end.local.port(), EPHEMERAL)
            }),
            case(format!("-p {},{server} -P {}", unused.join(","), p + 10), move |end| {
                end.is_of(server) && end.service_port() == p + 10
            }),
            case(format!("--local {},10.77.0.2 -N {near},{far}", nowhere.join(",")), move |end| {
                end.local.ip() == Wire::FAR4
            }),
            case("-6 --role client", move |end| end.remote.is_ipv6() && end.role == "client"),
        ]
    });
}

/// During continuous scans, every new connection is undecided until its port is known.
#[test]
fn no_new_connection_is_lost_during_scans() {
    let _lab = lab::enter();
    let connections = lab::scaled(3000, 500) as u64;
    let port = ports_of(7);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let local = format!("{}-{}", EPHEMERAL[0], EPHEMERAL[0] + 9999);
    let (report, time_waits) = lab::conclusive(|| {
        let namespace = Namespace::new();
        namespace.set("ipv4/ip_local_port_range", local.replace('-', " "));
        let listener = namespace.listen(at);
        let watch = ["report", "-o", "json", "--scan-always", "-L", &local];
        let synfin = Synfin::watch(watch);
        namespace.within(|| {
            for _ in 0..connections {
                let client = TcpStream::connect(at).expect("a connection");
                lab::Pair { client, server: lab::accept(&listener) }.close_by_client();
            }
        });
        namespace.wait_until_quiet();
        // Some ports may have been reused.
        let time_waits = namespace.counters().get("sockstat.tw");
        (synfin.finish().report(), time_waits)
    });
    report.check_nothing_lost();
    let (n, nothing) = (connections, RowCounts::default());
    let clients = RowCounts::clients(n).closed("closed_by_us", n);
    let clients = clients.and("time_wait.entered", n).and("time_wait.now", time_waits);
    assert_eq!(report.difference("client", port, &clients), None);
    assert_eq!(report.difference("server", port, &nothing), None);
}

/// Filters of the output, live and from a recording, show exactly the connections that match.
#[test]
fn by_reason_state_and_age() {
    type Fits = fn(&Value) -> bool;
    const RUNS: [(&str, &str, Fits); 8] = [
        ("connections", "--reason connect_refused_rst,reset-by-peer", |line| {
            line["reason"] == "connect_refused_rst" || line["reason"] == "reset_by_peer"
        }),
        ("connections", "--min-age AGE", |line| line["age_us"].as_u64() >= Some(middle_age())),
        ("connections --open --for 1h", "--state FIN_WAIT2,close-wait", |line| {
            line["state"] == "fin_wait2" || line["state"] == "close_wait"
        }),
        ("connections --open --for 1h", "--state established --min-age 1ms", |line| {
            line["state"] == "established" && line["age_us"].as_u64() >= Some(1000)
        }),
        ("connections", "--reason closed_by_us --min-age 1ms", |line| {
            line["reason"] == "closed_by_us" && line["age_us"].as_u64() >= Some(1000)
        }),
        ("trace", "--state syn_sent,LAST-ACK", |line| {
            ["old", "new"].iter().any(|end| line[end] == "syn_sent" || line[end] == "last_ack")
        }),
        ("report", "--reason connect_refused_rst", |row| {
            row["failures"]["connect_refused_rst"].as_u64() > Some(0)
        }),
        ("report", "--state time-wait,close_wait", |row| {
            let columns = [&row["time_wait"]["now"], &row["states"]["close_wait"]];
            columns.iter().any(|column| column.as_u64() > Some(0))
        }),
    ];
    /// An age in microseconds that lies between the ages of the connections.
    fn middle_age() -> u64 {
        lab::slowed(Duration::from_millis(5)).as_micros() as u64
    }
    let _lab = lab::enter();
    let folder = tempfile::tempdir().expect("a directory");
    let age = format!("{}us", middle_age());
    let runs = RUNS.map(|(command, select, fits)| (command, select.replace("AGE", &age), fits));
    let watch = |at: usize| {
        let (command, select, _) = &runs[at];
        let recording = folder.path().join(at.to_string());
        let record = ["-o", "json", "--record", recording.to_str().expect("a UTF-8 path")];
        Synfin::watch(command.split(' ').chain(select.split(' ')).chain(record))
    };
    let mut crowd = Crowd::gather(ports_of(5));
    let watching = at_a_time((0..runs.len()).map(|at| move || watch(at)));
    let ends = crowd.play();
    let reported = at_a_time(watching.into_iter().map(|synfin| move || synfin.finish()));

    for (at, (&(command, ref select, fits), live)) in runs.iter().zip(&reported).enumerate() {
        let recording = folder.path().join(at.to_string());
        let replay = |select: &[&str]| {
            let from = ["-o", "json", "--from", recording.to_str().expect("a UTF-8 path")];
            Synfin::run(command.split(' ').chain(select.iter().copied()).chain(from))
        };
        let again = replay(&select.split(' ').collect::<Vec<_>>());
        assert_eq!(again.stdout, live.stdout, "{command} {select}");
        let rows = |lines: Vec<Value>| match command {
            "report" => lines[0]["ports"].as_array().expect("ports").clone(),
            _ => lines,
        };
        let all = rows(replay(&[]).json_lines());
        let (fitting, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(fits);
        assert_eq!(rows(live.json_lines()), fitting, "{command} {select}");
        let ours = |lines: &[Value]| {
            let is_ours = |line: &&Value| ends.iter().any(|end| line["netns"] == end.netns);
            lines.iter().filter(is_ours).count()
        };
        assert!(ours(&fitting) > 0 && ours(&rest) > 0, "{command} {select} selects all or nothing");
        if command != "report" {
            let says_so = format!(
                "{} {}",
                rest.len(),
                if command == "trace" { "transitions" } else { "connections" }
            );
            assert!(live.stderr.contains(&says_so), "{command} {select}: {}", live.stderr);
        }
    }
}

#[test]
fn a_report_without_matches_says_so() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let port = ports_of(6);
    let synfin = Synfin::watch(["report", "-P", &(port + 1).to_string()]);
    let listener = namespace.listen((Ipv4Addr::LOCALHOST, port));
    namespace.pair_with(&listener, (Ipv4Addr::LOCALHOST, port)).close_by_client();
    let printed = synfin.finish().stdout;
    assert!(printed.contains("no TCP connection matched"), "{printed}");
}

/// connect() restores it, but it is a server's: filters by role and port admit it from its beginning.
#[test]
fn a_restored_connection_of_a_server_matches_its_port() {
    const PORT: u16 = 8470;
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let listener = namespace.listen(address);
    let port = PORT.to_string();
    let synfin = Synfin::watch(["report", "-o", "json", "-P", &port, "--role", "server"]);
    let socket = namespace.socket(address.ip());
    lab::set_option(&socket, libc::TCP_REPAIR, 1);
    socket.bind(&address.into()).expect("a socket in repair can have the port");
    socket
        .connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, 9)).into())
        .expect("no packet is needed");
    let report = synfin.finish().report();
    let row = report.row("server", PORT);
    assert_eq!((row.count("open"), row.count("adopted")), (1, 0));
    assert_eq!(report.event("gaps"), 0);
    drop((socket, listener));
}

#[test]
fn invalid_filter_values_are_named() {
    for (flag, value) in [
        ("--pid", "0"),
        ("--pid", "nginx"),
        // More than the kernel's limit.
        ("--pid", "4194305"),
        ("--port", "0"),
        ("--port", "9-8"),
        ("--localport", "65536"),
        ("--remoteport", "http"),
        ("--local", "10.0.0.0/33"),
        ("--remote", "example.org"),
        ("--netns", "no-such-namespace"),
        ("--cgroup", "no/such/cgroup"),
        ("--role", "peer"),
        ("--state", "opened"),
        ("--reason", "bad_luck"),
        ("--by", "process"),
    ] {
        let finished = Synfin::run(["report", flag, value]);
        assert_eq!((finished.code, &*finished.stdout), (2, ""), "{flag} {value}");
        assert!(finished.stderr.contains(flag), "{flag} {value}: {}", finished.stderr);
    }
    let both = Synfin::run(["report", "-4", "-6"]);
    assert_eq!(both.code, 2);
    assert!(both.stderr.contains("--ipv4") && both.stderr.contains("--ipv6"), "{}", both.stderr);
}
