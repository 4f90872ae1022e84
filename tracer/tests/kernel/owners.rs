//! Owners: the owner of a row or connection is the process that connects or serves, not the process
//! that runs when a packet arrives. The expected names and sockets come from `/proc` and `ss`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process, thread,
    time::Duration,
};

use serde_json::Value;
use synfin::{
    host::cgroups::Hierarchy,
    trace::{decode::decode, event::Input, recording::Reader, time::Nanos},
};

use crate::lab::{self, Actor, Cgroup, Feature, Namespace, Report, Synfin, Wire, eventually};

/// The number of ports of each test. The ports differ between runs, because a report merges a
/// port's rows of all namespaces.
const PORTS: u16 = 10;

/// The first port of a test.
fn ports_of(test: u16) -> u16 {
    8_000 + process::id() as u16 % 40 * 100 + test * PORTS
}

/// The reports and connections of one trace.
struct Traced {
    _folder: tempfile::TempDir,
    recording: String,
}

impl Traced {
    /// Traces while `act` runs, again if the kernel skipped synfin's program. The caller keeps the
    /// result of `act` alive.
    #[track_caller]
    fn of<S, T>(set_up: impl Fn() -> S, act: impl Fn(&mut S, &str) -> T) -> (Self, S, T) {
        let (folder, recording) = lab::recording_file();
        let (report, (stage, found)) = lab::conclusive(|| {
            let mut stage = set_up();
            let synfin = Synfin::watch(["report", "-o", "json", "--record", &recording, "--force"]);
            let found = act(&mut stage, &recording);
            (synfin.finish().report(), (stage, found))
        });
        report.check_nothing_lost();
        let traced = Self { _folder: folder, recording };
        traced.check_sums();
        (traced, stage, found)
    }

    fn report(&self, by: &str) -> Report {
        Synfin::run(["report", "--by", by, "-o", "json", "--from", &self.recording]).report()
    }

    /// Closed and open connections of one role in a namespace.
    fn connections(&self, netns: &Namespace, role: &str) -> Vec<Value> {
        let lines = |args: &[&str]| {
            let from = ["connections", "-o", "json", "--from", &self.recording];
            Synfin::run(from.iter().chain(args)).json_lines()
        };
        let all = lines(&[]).into_iter().chain(lines(&["--open"]));
        all.filter(|line| line["netns"] == netns.id() && line["role"] == role).collect()
    }

    /// Checks that all groupings have the same sums.
    #[track_caller]
    fn check_sums(&self) {
        let by_port = self.report("port");
        for by in ["remote", "owner", "netns"] {
            let report = self.report(by);
            for role in ["client", "server"] {
                let [sum, expected] =
                    [&report, &by_port].map(|report| report.counts(|row| row["role"] == role));
                assert_eq!(sum.difference(&expected), None, "{role} by {by}");
            }
        }
    }

    /// A column of a row that is text or null.
    #[track_caller]
    fn in_row(&self, role: &str, port: u16, column: &str) -> Value {
        let report = self.report("port");
        let mut rows =
            report.rows().iter().filter(|row| row["role"] == role && row["port"] == port);
        rows.next().unwrap_or_else(|| panic!("no row {role} {port}"))[column].clone()
    }

    /// Established connections of one role by owner, in rows of this port only.
    fn by_owner(&self, role: &str, port: u16) -> BTreeMap<String, u64> {
        let report = self.report("owner");
        let rows = report.rows().iter().filter(|row| row["role"] == role && row["port"] == port);
        rows.map(|row| (text(&row["owner"]), row["established"].as_u64().unwrap_or(0))).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

/// Name and PID in a line.
fn owner(line: &Value) -> (String, Option<u32>) {
    (text(&line["owner"]), line["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()))
}

/// Waits until the servers have closed what the clients have closed.
fn wait_for_closes(wire: &Wire) {
    eventually("the servers close", || {
        let sockets = wire.far.sockets();
        sockets.iter().all(|socket| socket.state != "CLOSE-WAIT").then_some(())
    });
    wire.wait_until_quiet();
}

#[test]
fn clients_are_owned_by_their_processes() {
    const CLIENTS: usize = 100;
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, ports_of(0)));
    let (traced, (wire, server, _), pids) = Traced::of(
        || {
            let wire = Wire::new();
            let mut server = Actor::start(&wire.far, None, "landlord");
            server.listen(at);
            server.serve();
            let guests = Actor::start(&wire.near, None, "crowd");
            (wire, server, guests)
        },
        |(wire, _, guests), _| {
            let pids = guests.clients(at, "guest", CLIENTS);
            wait_for_closes(wire);
            pids
        },
    );
    let clients: BTreeSet<_> = traced.connections(&wire.near, "client").iter().map(owner).collect();
    let name = |number| format!("guest-{number}");
    let expected = pids.iter().enumerate().map(|(number, &pid)| (name(number), Some(pid)));
    assert_eq!(clients, expected.collect());
    let servers = traced.connections(&wire.far, "server");
    assert_eq!(servers.len(), CLIENTS);
    for line in servers {
        assert_eq!(owner(&line), ("landlord".to_owned(), Some(server.pid())), "{line}");
    }
    assert_eq!(traced.in_row("client", at.port(), "owner"), format!("×{CLIENTS}"));
    assert_eq!(traced.in_row("server", at.port(), "owner"), "landlord");
    let each = (0..CLIENTS).map(|number| (name(number), 1)).collect();
    assert_eq!(traced.by_owner("client", at.port()), each);
    assert_eq!(traced.by_owner("server", at.port()), [("landlord".to_owned(), 100)].into());
}

/// Servers whose parent listens and whose children accept: one older than the trace, two newer.
#[test]
fn connections_of_prefork_servers_are_owned_by_the_workers() {
    const NAMES: [&str; 3] = ["prefork-a", "prefork-b", "prefork-c"];
    let _lab = lab::enter();
    let first = ports_of(1);
    let at = |number: usize| SocketAddr::from((Wire::FAR4, first + number as u16));
    let start = |wire: &Wire, number: usize| {
        let mut parent = Actor::start(&wire.far, None, NAMES[number]);
        parent.listen(at(number));
        let workers = parent.prefork(3);
        (parent, workers)
    };
    let (traced, (wire, servers), accepted_by) = Traced::of(
        || {
            let wire = Wire::new();
            let servers = vec![start(&wire, 0)];
            (wire, servers)
        },
        |(wire, servers), _| {
            servers.extend([start(wire, 1), start(wire, 2)]);
            let mut client = Actor::start(&wire.near, None, "visitor");
            for number in 0..3 {
                client.connect(at(number), 6);
            }
            let accepted_by = holders(&wire.far, 18);
            client.close();
            wait_for_closes(wire);
            accepted_by
        },
    );
    let lines = traced.connections(&wire.far, "server");
    assert_eq!(lines.len(), 18);
    for line in lines {
        let number = usize::from(line["service_port"].as_u64().expect("a port") as u16 - first);
        let accepted_by = &accepted_by[&ends(&line)];
        assert_eq!(accepted_by.0, NAMES[number]);
        assert!(servers[number].1.contains(&accepted_by.1));
        let expected = (accepted_by.0.clone(), Some(accepted_by.1));
        if number == 0 {
            assert_eq!(owner(&line), expected, "{line}");
        } else {
            // Before the first scan of open files the owner may be unknown, but never the parent.
            let found = owner(&line);
            let is_known = found == expected || found == (expected.0, None);
            assert!(is_known || found == (String::new(), None), "{line}");
        }
    }
    for (number, name) in NAMES.into_iter().enumerate() {
        assert_eq!(traced.in_row("server", at(number).port(), "owner"), name);
    }
}

/// The ports of a connection's line.
fn ends(line: &Value) -> (u64, u64) {
    let port = |column: &str| line[column].as_u64().expect("a port");
    (port("local_port"), port("remote_port"))
}

/// The holders (name and PID, by `ss`) of the connections of a namespace, by their ports,
/// once there is this number of connections with one holder each.
fn holders(namespace: &Namespace, count: usize) -> BTreeMap<(u64, u64), (String, u32)> {
    eventually("one holder each", || {
        let text = namespace.run("ss -Htnp state established");
        let parse = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let port = |end: &str| end.rsplit_once(':')?.1.parse::<u64>().ok();
            // users:(("name",pid=1,fd=4))
            let (_, users) = fields.get(4)?.split_once("((\"")?;
            let (name, rest) = users.split_once("\",pid=")?;
            let (pid, rest) = rest.split_once(',')?;
            (!rest.contains("pid=")).then_some(())?;
            Some(((port(fields[2])?, port(fields[3])?), (name.to_owned(), pid.parse().ok()?)))
        };
        let found: BTreeMap<_, _> = text.lines().filter_map(parse).collect();
        (found.len() == count).then_some(found)
    })
}

/// Waits for a scan of open files that began after this time.
fn wait_for_owner_scan(recording: &str, since: Nanos) {
    eventually("open files are scanned", || {
        let file = File::open(recording).expect("the recording");
        let frames = Reader::new(BufReader::new(file)).expect("a recording");
        // The recording is still written and may end within a frame.
        let mut is_over = false;
        for frame in frames.map_while(Result::ok) {
            decode(&frame, |input| {
                if let Input::SocketHolders(holders) | Input::ListenerHolders(holders) = input {
                    is_over |= holders.iter().any(|holder| holder.time > since);
                }
            });
        }
        is_over.then_some(())
    });
}

/// A supervisor listens, and its child gets the socket and another name: before the trace and
/// during it, with and without the supervisor exiting.
#[test]
fn connections_of_activated_servers_are_owned_by_the_child() {
    let _lab = lab::enter();
    let first = ports_of(2);
    let at = |number: u16| SocketAddr::from((Wire::FAR4, first + number));
    let start = |wire: &Wire, number: u16, stays: bool| {
        let mut supervisor = Actor::start(&wire.far, None, "supervisor");
        supervisor.listen(at(number));
        let pid = supervisor.activate(&format!("service-{number}"));
        if !stays {
            supervisor.leave();
        }
        (supervisor, pid)
    };
    let (traced, (wire, services), ()) = Traced::of(
        || {
            let wire = Wire::new();
            let services = vec![start(&wire, 0, true), start(&wire, 1, false)];
            (wire, services)
        },
        |(wire, services), recording| {
            services.extend([start(wire, 2, true), start(wire, 3, false)]);
            let mut client = Actor::start(&wire.near, None, "visitor");
            let connect = |client: &mut Actor| {
                for number in 0..4 {
                    client.connect(at(number), 2);
                }
            };
            connect(&mut client);
            holders(&wire.far, 8);
            let since = lab::now();
            client.close();
            wait_for_closes(wire);
            wait_for_owner_scan(recording, since);
            connect(&mut client);
            holders(&wire.far, 8);
            client.close();
            wait_for_closes(wire);
        },
    );
    let mut lines = traced.connections(&wire.far, "server");
    assert_eq!(lines.len(), 16);
    lines.sort_by_key(|line| text(&line["opened_at"]));
    for (index, line) in lines.iter().enumerate() {
        let number = usize::from(line["service_port"].as_u64().expect("a port") as u16 - first);
        let expected = (format!("service-{number}"), Some(services[number].1));
        let came_later = number > 1;
        if came_later && index < 8 {
            // Before the first scan of open files the owner may be unknown, but never the supervisor.
            let found = owner(line);
            assert!(found == expected || found == (String::new(), None), "{line}");
        } else {
            assert_eq!(owner(line), expected, "{line}");
        }
    }
    for number in 0..4 {
        let name = format!("service-{number}");
        assert_eq!(traced.in_row("server", at(number).port(), "owner"), name);
    }
}

#[test]
fn older_connections_are_owned_by_the_processes_that_hold_them() {
    let _lab = lab::enter();
    let first = ports_of(3);
    let [plain, prefork] = [0, 1].map(|n| SocketAddr::from((Wire::FAR6, first + n)));
    let (traced, (wire, ..), (near, far)) = Traced::of(
        || {
            let wire = Wire::new();
            let mut server = Actor::start(&wire.far, None, "old-server");
            server.listen((Ipv6Addr::UNSPECIFIED, plain.port()));
            server.serve();
            let mut parent = Actor::start(&wire.far, None, "old-prefork");
            parent.listen(prefork);
            parent.prefork(3);
            let mut clients =
                ["old-client", "older-client"].map(|name| Actor::start(&wire.near, None, name));
            for client in &mut clients {
                client.connect(plain, 2);
                client.connect(prefork, 3);
            }
            // All connections are accepted.
            holders(&wire.far, 10);
            (wire, server, parent, clients)
        },
        |(wire, ..), _| (holders(&wire.near, 10), holders(&wire.far, 10)),
    );
    for (namespace, role, holders) in [(&wire.near, "client", near), (&wire.far, "server", far)] {
        let lines = traced.connections(namespace, role);
        let found = lines.iter().map(|line| {
            let (name, pid) = owner(line);
            (ends(line), (name, pid.unwrap_or(0)))
        });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), holders, "{role}");
    }
    assert_eq!(traced.in_row("client", plain.port(), "owner"), "×2");
    assert_eq!(traced.in_row("server", plain.port(), "owner"), "old-server");
    assert_eq!(traced.in_row("server", prefork.port(), "owner"), "old-prefork");
}

/// Between fork() and exec(), a child holds all sockets of its parent.
#[test]
fn running_programs_does_not_change_the_owner() {
    let _lab = lab::enter();
    let port = ports_of(6);
    let at = SocketAddr::from((Wire::FAR4, port));
    let names = ["busy-server", "busy-client"];
    let (traced, (wire, server, client), ()) = Traced::of(
        || {
            let wire = Wire::new();
            let mut server = Actor::start(&wire.far, None, names[0]);
            server.listen(at);
            server.serve();
            let mut client = Actor::start(&wire.near, None, names[1]);
            client.connect(at, 50);
            holders(&wire.far, 50);
            server.run_programs();
            client.run_programs();
            (wire, server, client)
        },
        |(wire, server, client), _| {
            for more in 1..4 {
                server.listen((Wire::FAR4, port + more));
                server.serve();
                client.connect((Wire::FAR4, port + more), 1);
                thread::sleep(Duration::from_millis(600));
            }
            client.close();
            wait_for_closes(wire);
        },
    );
    let sides =
        [(&wire.far, "server", names[0], &server), (&wire.near, "client", names[1], &client)];
    for (namespace, role, name, actor) in sides {
        let lines = traced.connections(namespace, role);
        let (count, mut unowned) = (lines.len(), 0);
        assert_eq!(count, 53);
        for line in lines {
            // If a child was the last holder, the socket looks as if it had been passed on.
            let unknown = role == "server" && owner(&line) == (String::new(), None);
            let known = owner(&line) == (name.to_owned(), Some(actor.pid()));
            assert!(known || unknown, "{line}");
            unowned += usize::from(unknown);
        }
        assert!(2 * unowned < count, "{unowned} of {count} connections of {role}s have no owner");
    }
    assert_eq!(traced.in_row("server", port, "owner"), names[0]);
    assert_eq!(traced.in_row("client", port, "owner"), names[1]);
}

#[test]
fn servers_that_share_a_port_are_distinguished() {
    let _lab = lab::enter();
    let port = ports_of(4);
    let servers = [
        ("one-address", SocketAddr::from((Wire::FAR4, port))),
        ("other-address", SocketAddr::from((Wire::FAR6, port))),
        ("loopback-home", SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    ];
    let (traced, (wire, actors), ()) = Traced::of(
        || {
            let wire = Wire::new();
            (wire, Vec::new())
        },
        |(wire, actors), _| {
            for (name, at) in servers {
                let home = if name == "loopback-home" { &wire.near } else { &wire.far };
                let mut server = Actor::start(home, None, name);
                server.listen(at);
                server.serve();
                let mut client = Actor::start(&wire.near, None, "visitor");
                client.connect(at, 2);
                holders(home, if name == "loopback-home" { 4 } else { 2 });
                client.close();
                wait_for_closes(wire);
                eventually("the server closes", || {
                    let sockets = home.sockets();
                    sockets.iter().all(|socket| socket.state != "CLOSE-WAIT").then_some(())
                });
                actors.push(server);
            }
            wait_for_closes(wire);
        },
    );
    let mut lines = traced.connections(&wire.far, "server");
    lines.extend(traced.connections(&wire.near, "server"));
    assert_eq!(lines.len(), 6);
    for line in lines {
        let of = |(_, at): &(_, SocketAddr)| line["local_addr"] == at.ip().to_string();
        let number = servers.iter().position(of).expect("one of the addresses");
        let expected = (servers[number].0.to_owned(), Some(actors[number].pid()));
        assert_eq!(owner(&line), expected, "{line}");
    }
    assert_eq!(traced.in_row("server", port, "owner"), "×3");
    let by_netns = traced.report("netns");
    let of = |namespace: &Namespace| {
        let here = |row: &&Value| row["netns"] == namespace.id() && row["role"] == "server";
        let row = by_netns.rows().iter().find(here).expect("a row");
        text(&row["owner"])
    };
    assert_eq!((of(&wire.near), of(&wire.far)), ("loopback-home".to_owned(), "×2".to_owned()));
    let by_owner = traced.by_owner("server", port);
    assert_eq!(by_owner, [("loopback-home".to_owned(), 2), ("×2".to_owned(), 4)].into());
}

#[test]
fn cgroup_ids_and_paths_agree() {
    let _lab = lab::enter();
    if lab::lacks(Feature::Cgroup2) {
        return;
    }
    let (outer, hierarchy) = (Cgroup::new(), Hierarchy::find().expect("the hierarchy"));
    let inner = outer.below("inner");
    for (level, path) in ["", outer.path(), inner.path()].into_iter().enumerate() {
        let cgroup = hierarchy.resolve(Path::new(path)).expect("a cgroup");
        let Some(cgroup) = cgroup.kernel else {
            lab::skip("in a cgroup namespace, the kernel's ids and depths are not known");
            return;
        };
        assert_eq!(cgroup.level, level as u32, "{path}");
        assert_eq!(hierarchy.name(cgroup.id).expect("its name").path, path);
    }
    assert!(hierarchy.name(u64::MAX).is_none());
}

#[test]
fn containers_and_pods_are_named_by_their_cgroups() {
    const UID: &str = "8d3e1f9a-4c59-4b0e-9f6d-0f3f5b8f1a2b";
    let _lab = lab::enter();
    if lab::lacks(Feature::Cgroup2) {
        return;
    }
    let outer = Cgroup::new();
    let [docker_id, pod_id] =
        ["d", "f"].map(|digit| format!("{:08x}{}", process::id(), digit.repeat(56)));
    let docker = outer.below(&format!("docker-{docker_id}.scope"));
    let kubepods = outer.below("kubepods");
    let pod = kubepods.below(&format!("pod{UID}"));
    let container = pod.below(&pod_id);
    let at = |number| SocketAddr::from((Wire::FAR4, ports_of(5) + number));

    let (traced, (wire, server, old), client) = Traced::of(
        || {
            let wire = Wire::new();
            let mut server = Actor::start(&wire.far, Some(&docker), "in-docker");
            server.listen(at(0));
            server.serve();
            let mut old = Actor::start(&wire.near, Some(&container), "old-in-pod");
            old.connect(at(0), 1);
            (wire, server, old)
        },
        |(wire, server, _), _| {
            server.listen(at(1));
            server.serve();
            let mut client = Actor::start(&wire.near, Some(&container), "in-pod");
            let bare = wire.near.connect(at(1)).expect("a connection");
            client.connect(at(0), 1);
            client.connect(at(1), 1);
            client.close();
            drop(bare);
            wait_for_closes(wire);
            client
        },
    );
    for line in traced.connections(&wire.far, "server") {
        assert_eq!(line["container"], docker_id, "{line}");
        assert_eq!([&line["pod"], &line["owner"]], [&Value::Null, &"in-docker".into()], "{line}");
    }
    for line in traced.connections(&wire.near, "client") {
        let is_ours = line["pid"] == process::id();
        if is_ours {
            assert_eq!([&line["container"], &line["pod"]], [&Value::Null; 2], "{line}");
        } else {
            assert_eq!(
                (text(&line["container"]), text(&line["pod"])),
                (pod_id.clone(), UID.to_owned()),
                "{line}"
            );
        }
    }
    for (port, owner) in [(at(0).port(), "×2"), (at(1).port(), "×2")] {
        assert_eq!(traced.in_row("client", port, "owner"), owner);
        assert_eq!(traced.in_row("client", port, "container"), pod_id);
        assert_eq!(traced.in_row("client", port, "pod"), UID);
        assert_eq!(traced.in_row("server", port, "container"), docker_id);
        assert_eq!(traced.in_row("server", port, "pod"), Value::Null);
    }
    // Processes have to leave their cgroups before these are removed, the innermost first.
    drop((client, old, server));
    drop(container);
    drop(pod);
    drop((kubepods, docker));
}
