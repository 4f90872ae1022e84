//! MPTCP: each subflow has the reason that the application caused, and the owner that holds the
//! MPTCP socket.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{self, Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{self, Feature, Namespace, Pair, Synfin, Wire, accept, connect_to, eventually};

/// The port of the first scenario.
const FIRST_PORT: u16 = 9_000;

/// A second address of the clients, for a second subflow.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// Why MPTCP resets a subflow. Before 6.18 the kernel does not show it.
fn reset(reason: &'static str) -> &'static [&'static str] {
    match reason {
        "unread_data" => &["reset_by_us_unread_data", "reset_by_us_mptcp"][..shown()],
        _ => &["reset_by_us_linger0", "reset_by_us_mptcp"][..shown()],
    }
}

fn shown() -> usize {
    // Stable kernels have the change too, so that either is right there. On a slow machine, 6.18 closes
    // some subflows without it as well, which it counts as TCPAbortOnData.
    if lab::since(6, 18) && !lab::is_slow() { 1 } else { 2 }
}

fn lacks_mptcp() -> bool {
    // Up to 6.0 MPTCP closes without a reset.
    if !lab::since(6, 1) {
        lab::skip("MPTCP resets its subflows only since Linux 6.1");
        return true;
    }
    lab::lacks(Feature::Mptcp)
}

/// A socket without a connection.
fn socket(namespace: &Namespace, protocol: Protocol) -> Socket {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(protocol));
    namespace.within(socket).expect("a socket")
}

/// A listener of the servers.
fn listen(wire: &Wire, protocol: Protocol, port: u16) -> TcpListener {
    let listener = socket(&wire.far, protocol);
    listener.set_reuse_address(true).expect("SO_REUSEADDR");
    listener.bind(&SocketAddr::from((Wire::FAR4, port)).into()).expect("the address");
    listener.listen(8).expect("it listens");
    listener.into()
}

fn connect(wire: &Wire, protocol: Protocol, port: u16) -> TcpStream {
    connect_to(socket(&wire.near, protocol), (Wire::FAR4, port).into()).expect("a connection")
}

/// A connection that has carried data both ways, so that both ends know that it is MPTCP.
fn pair(wire: &Wire, listener: &TcpListener, protocol: Protocol) -> Pair {
    let port = listener.local_addr().expect("its address").port();
    let client = connect(wire, protocol, port);
    let mut pair = Pair { client, server: accept(listener) };
    pair.send(b"question");
    pair.answer(b"answer");
    pair
}

/// The connections of both namespaces in a recording, by service port and role.
fn lines(recording: &str, args: &[&str]) -> BTreeMap<(u64, String), Vec<Value>> {
    let from = ["connections", "-o", "json", "--from", recording];
    let mut lines = BTreeMap::<_, Vec<_>>::new();
    for line in Synfin::run(from.iter().chain(args)).json_lines() {
        let role = line["role"].as_str().expect("a role").to_owned();
        lines.entry((line["service_port"].as_u64().expect("a port"), role)).or_default().push(line);
    }
    lines
}

/// Waits until no connection of either namespace is open.
fn wait_for_closes(wire: &Wire) {
    eventually("all connections are closed", || {
        let sockets = [wire.near.sockets(), wire.far.sockets()];
        let is_open = |socket: &lab::Sock| !socket.is_small && socket.state != "LISTEN";
        (!sockets.iter().flatten().any(is_open)).then_some(())
    });
}

/// A scenario: its name, protocols of the client and the listener, what the ends do, and the
/// expected reasons of the client and the server.
type Scenario =
    (&'static str, [Protocol; 2], fn(Pair), &'static [&'static str], &'static [&'static str]);

fn scenarios() -> Vec<Scenario> {
    let both = [Protocol::MPTCP; 2];
    let plain_client = [Protocol::TCP, Protocol::MPTCP];
    let plain_server = [Protocol::MPTCP, Protocol::TCP];
    vec![
        ("the client closes", both, Pair::close_by_client, &["closed_by_us"], &["closed_by_peer"]),
        ("the server closes", both, Pair::close_by_server, &["closed_by_peer"], &["closed_by_us"]),
        ("client, unread data", both, unread_by_client, reset("unread_data"), &["reset_by_peer"]),
        ("server, unread data", both, unread_by_server, &["reset_by_peer"], reset("unread_data")),
        ("client, linger 0", both, linger_by_client, reset("linger0"), &["reset_by_peer"]),
        ("server, linger 0", both, linger_by_server, &["reset_by_peer"], reset("linger0")),
        (
            "client, connect(AF_UNSPEC)",
            both,
            |pair| lab::disconnect(&pair.client),
            &["reset_by_us_disconnect", "reset_by_us_mptcp"],
            &["reset_by_peer"],
        ),
        (
            "last close in a thread of the kernel",
            both,
            close_by_garbage_collection,
            &["closed_by_us"],
            &["closed_by_peer"],
        ),
        (
            "a client without MPTCP, unread data",
            plain_client,
            unread_by_server,
            &["reset_by_peer"],
            &["reset_by_us_unread_data"],
        ),
        (
            "a client without MPTCP closes",
            plain_client,
            Pair::close_by_client,
            &["closed_by_us"],
            &["closed_by_peer"],
        ),
        (
            "a server without MPTCP closes",
            plain_server,
            Pair::close_by_server,
            &["closed_by_peer"],
            &["closed_by_us"],
        ),
    ]
}

fn unread_by_client(mut pair: Pair) {
    pair.answer_unread(b"never read");
    drop(pair.client);
    lab::wait_for_end(pair.server);
}

fn unread_by_server(Pair { client, server }: Pair) {
    let swapped = Pair { client: server, server: client };
    unread_by_client(swapped);
}

fn linger_by_client(Pair { client, server }: Pair) {
    lab::reset(client);
    lab::wait_for_end(server);
}

fn linger_by_server(Pair { client, server }: Pair) {
    lab::reset(server);
    lab::wait_for_end(client);
}

fn close_by_garbage_collection(Pair { client, server }: Pair) {
    lab::close_by_garbage_collection(client);
    lab::wait_for_end(server);
}

#[test]
fn subflows_have_the_reason_and_the_owner_of_their_connection() {
    let _lab = lab::enter();
    if lacks_mptcp() {
        return;
    }
    let wire = Wire::new();
    let (_folder, recording) = lab::recording_file();
    let namespaces = lab::ids([&wire.near, &wire.far]);
    let queued = FIRST_PORT + scenarios().len() as u16;
    lab::seen_whole(|| {
        let synfin = Synfin::watch(["record", "--force", "-N", &namespaces, &recording]);
        let mut listeners = Vec::new();
        for (port, (_, [client, server], play, ..)) in (FIRST_PORT..).zip(scenarios()) {
            let listener = listen(&wire, server, port);
            play(pair(&wire, &listener, client));
            // Otherwise the next one could get the kernel's address of the last one.
            listeners.push(listener);
        }
        let listener = listen(&wire, Protocol::MPTCP, queued);
        let client = connect(&wire, Protocol::MPTCP, queued);
        eventually("the client is in the queue", || {
            let sockets = wire.far.sockets();
            sockets.iter().any(|it| it.local_port == queued && it.queue.0 > 0).then_some(())
        });
        drop(listener);
        lab::wait_for_end(client);
        wait_for_closes(&wire);
        synfin.finish();
        (lines_missed(&recording) == 0, ())
    });
    let lines = lines(&recording, &[]);
    let check = |name: &str, port: u16, role: &str, reasons: &[&str], mptcp: bool| {
        let [line] = &lines[&(port.into(), role.to_owned())][..] else {
            panic!("{name}: {lines:?}");
        };
        assert!(reasons.contains(&reason(line)), "{name}, {role}: {line}");
        assert_eq!(line["pid"], process::id(), "{name}, {role}: {line}");
        assert_eq!(line["mptcp"], mptcp, "{name}, {role}: {line}");
        assert_eq!(line["mptcp_id"].is_string(), mptcp, "{name}, {role}: {line}");
        assert_eq!(line["handshake"], "clean", "{name}, {role}: {line}");
    };
    for (port, (name, protocols, _, client, server)) in (FIRST_PORT..).zip(scenarios()) {
        let is_subflow = protocols == [Protocol::MPTCP; 2];
        check(name, port, "client", client, protocols[0] == Protocol::MPTCP);
        check(name, port, "server", server, is_subflow);
    }
    let name = "the listener closes with it queued";
    check(name, queued, "client", &["reset_by_peer"], true);
    check(name, queued, "server", &["reset_by_us_listener_closed"], true);
}

fn reason(line: &Value) -> &str {
    line["reason"].as_str().expect("a reason")
}

fn lines_missed(recording: &str) -> u64 {
    Synfin::run(["report", "-o", "json", "--from", recording]).report().event("missed")
}

/// Configures MPTCP to open a second subflow per connection.
fn with_second_subflow() -> Wire {
    let wire = Wire::new();
    for namespace in [&wire.near, &wire.far] {
        namespace.run("ip mptcp limits set subflows 4 add_addr_accepted 4");
    }
    wire.near.run(&format!("ip address add {SECOND}/24 dev wire"));
    wire.near.run(&format!("ip mptcp endpoint add {SECOND} dev wire id 7 subflow"));
    wire
}

/// Waits until the clients have this number of subflows to a port.
fn wait_for_subflows(wire: &Wire, port: u16, count: usize) {
    eventually("its subflows are established", || {
        let established = |namespace: &Namespace| {
            let sockets = namespace.sockets();
            let is_one = |it: &&lab::Sock| {
                it.state == "ESTAB" && [it.local_port, it.remote_port].contains(&port)
            };
            sockets.iter().filter(is_one).count()
        };
        [&wire.near, &wire.far].iter().all(|it| established(it) == count).then_some(())
    });
}

/// The kernel opens the second subflow. One connection closes, another loses that subflow before,
/// and one closes with unread data. A filter admits only the process.
#[test]
fn subflows_that_join_belong_to_the_connection() {
    let _lab = lab::enter();
    if lacks_mptcp() {
        return;
    }
    let wire = with_second_subflow();
    let (_folder, recording) = lab::recording_file();
    let namespaces = lab::ids([&wire.near, &wire.far]);
    let pid = process::id().to_string();
    lab::seen_whole(|| {
        let synfin =
            Synfin::watch(["record", "--force", "-N", &namespaces, "-p", &pid, &recording]);
        let mut listeners = Vec::new();
        for port in FIRST_PORT..FIRST_PORT + 3 {
            let listener = listen(&wire, Protocol::MPTCP, port);
            let pair = pair(&wire, &listener, Protocol::MPTCP);
            wait_for_subflows(&wire, port, 2);
            match port - FIRST_PORT {
                0 => pair.close_by_client(),
                1 => unread_by_server(pair),
                _ => {
                    wire.near.run("ip mptcp endpoint delete id 7");
                    wait_for_subflows(&wire, port, 1);
                    pair.close_by_client();
                    wire.near.run(&format!("ip mptcp endpoint add {SECOND} dev wire id 7 subflow"));
                }
            }
            listeners.push(listener);
        }
        wait_for_closes(&wire);
        synfin.finish();
        (lines_missed(&recording) == 0, ())
    });
    let lines = lines(&recording, &[]);
    assert_eq!(lines.len(), 6, "{lines:?}");
    let mut removed = Vec::new();
    for ((port, role), both) in &lines {
        let is_client = role == "client";
        let index = u16::try_from(*port).expect("a port") - FIRST_PORT;
        let reasons: &[&str] = match (index, is_client) {
            (0 | 2, true) => &["closed_by_us"],
            (0 | 2, false) => &["closed_by_peer"],
            (_, true) => &["reset_by_peer"],
            (_, false) => reset("unread_data"),
        };
        assert_eq!(both.len(), 2, "{both:?}");
        for line in both {
            // The peer can reset one subflow because this end has reset the other one.
            let is_echo = index == 1
                && reason(line) == "reset_by_peer"
                && both.iter().any(|it| reasons.contains(&reason(it)));
            let end = if is_client { "local_addr" } else { "remote_addr" };
            let has_joined = line[end] == SECOND.to_string();
            if index == 2 && has_joined {
                removed.push(reason(line));
            } else {
                assert!(is_echo || reasons.contains(&reason(line)), "{line}");
            }
            assert_eq!(line["pid"], process::id(), "{line}");
            assert_eq!((&line["mptcp"], &line["mptcp_id"]), (&true.into(), &both[0]["mptcp_id"]));
            let unmeasured = has_joined && !is_client;
            assert_eq!(
                line["handshake"],
                if unmeasured { "unmeasured" } else { "clean" },
                "{line}"
            );
        }
    }
    // The peer closes it too, as soon as it knows (RM_ADDR), so either can be first.
    let by = ["closed_by_us", "closed_by_peer", "closed_by_both"];
    let possible = [[by[0], by[1]], [by[1], by[0]], [by[2], by[2]]];
    assert!(possible.iter().any(|reasons| removed == reasons), "{removed:?}");
    let report = Synfin::run(["report", "-o", "json", "--from", &recording]).report();
    for row in report.rows() {
        let causes = &row["handshake"]["unmeasured"]["causes"];
        let joined = u64::from(row["role"] == "server");
        assert_eq!((&causes["mptcp_join"], &causes["syn_cookie"]), (&joined.into(), &0.into()));
    }
}

/// A listener for MPTCP gets plain TCP connections, some of which end in TIME_WAIT, and half-open
/// handshakes. All are older than the trace, so that only a scan can find them.
#[test]
fn scans_find_plain_sockets_of_a_listener() {
    const PORT: u16 = FIRST_PORT + 100;
    let _lab = lab::enter();
    if lacks_mptcp() {
        return;
    }
    let wire = Wire::new();
    let listener = listen(&wire, Protocol::MPTCP, PORT);
    let half_open = listen(&wire, Protocol::MPTCP, PORT + 1);
    for _ in 0..3 {
        pair(&wire, &listener, Protocol::TCP).close_by_server();
    }
    let is_ack = format!("tcp dport {} tcp flags & (syn | ack) == ack drop", PORT + 1);
    wire.far.filter("acks", &is_ack);
    let hoping = [Protocol::TCP, Protocol::MPTCP].map(|it| connect(&wire, it, PORT + 1));
    let count = |state: &str, port: u16| {
        let sockets = wire.far.sockets();
        sockets.iter().filter(|it| it.state == state && it.local_port == port).count() as u64
    };
    eventually("both handshakes are half-open, and three sockets in TIME_WAIT", || {
        (count("SYN-RECV", PORT + 1) == 2 && count("TIME-WAIT", PORT) == 3).then_some(())
    });
    let namespaces = lab::ids([&wire.far]);
    let report = Synfin::run(["report", "--once", "-o", "json", "-N", &namespaces]).report();
    assert_eq!((count("SYN-RECV", PORT + 1), count("TIME-WAIT", PORT)), (2, 3));
    let time_waits = report.row("server", PORT).count("time_wait.now");
    let requests = report.row("server", PORT + 1).count("half_open");
    assert_eq!((requests, time_waits), (2, 3));
    drop((hoping, half_open, listener));
}

/// A server in Python that echoes, until its input ends.
const SERVER: &str = "
import socket, sys, threading
def echo(connection):
    with connection:
        while data := connection.recv(100):
            connection.sendall(data)
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('0.0.0.0', 9000))
listener.listen(8)
def serve():
    while True:
        threading.Thread(target=echo, args=listener.accept()[:1], daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
sys.stdin.read()
";

fn start_python(namespace: &Namespace) -> Child {
    let mut python = Command::new("python3");
    python.args(["-c", SERVER]).stdin(Stdio::piped());
    let child = namespace.within(|| python.spawn()).expect("python3");
    eventually("the server listens", || {
        namespace.sockets().iter().any(|socket| socket.state == "LISTEN").then_some(())
    });
    child
}

/// A listener and a connection with two subflows are older than the trace.
#[test]
fn older_servers_own_their_connections() {
    let _lab = lab::enter();
    if lacks_mptcp() {
        return;
    }
    let has_python = Command::new("python3").arg("-V").output().is_ok();
    if lab::lacks_program("python3", has_python, "install python3") {
        return;
    }
    let wire = with_second_subflow();
    let mut python = start_python(&wire.far);
    let ask = |mut stream: TcpStream| {
        use std::io::{Read, Write};
        stream.write_all(b"question").expect("the server reads");
        stream.read_exact(&mut [0; 8]).expect("the answer");
        stream
    };
    let older = ask(connect(&wire, Protocol::MPTCP, FIRST_PORT));
    wait_for_subflows(&wire, FIRST_PORT, 2);
    let (_folder, recording) = lab::recording_file();
    let namespaces = lab::ids([&wire.near, &wire.far]);
    let synfin = Synfin::watch(["record", "--force", "-N", &namespaces, &recording]);
    // The scans at the start find what is older.
    thread::sleep(Duration::from_millis(if lab::is_slow() { 10_000 } else { 1_000 }));
    for protocol in [Protocol::MPTCP, Protocol::TCP] {
        let newer = ask(connect(&wire, protocol, FIRST_PORT));
        if protocol == Protocol::MPTCP {
            // Its second subflow, too, joins before it closes.
            wait_for_subflows(&wire, FIRST_PORT, 4);
        }
        drop(newer);
    }
    eventually("the older connection is left", || {
        wire.far.wait_until_quiet();
        let sockets = wire.far.sockets();
        (sockets.iter().filter(|it| it.state == "ESTAB").count() == 2).then_some(())
    });
    synfin.finish();
    let pid = python.id();
    for args in [&["--open"][..], &[]] {
        let lines = lines(&recording, args);
        let port = u64::from(FIRST_PORT);
        let roles: Vec<_> = lines.keys().cloned().collect();
        assert_eq!(roles, ["client", "server"].map(|role| (port, role.to_owned())), "{lines:?}");
        for ((_, role), found) in &lines {
            let owner = if role == "server" { pid } else { process::id() };
            for line in found {
                assert_eq!((&line["pid"], &line["role_assumed"]), (&owner.into(), &false.into()));
            }
        }
        // Two subflows are open; one MPTCP connection with two and a plain one have closed.
        assert_eq!(lines[&(port, "server".to_owned())].len(), 2 + usize::from(args.is_empty()));
    }
    let by_pid = lines_of_pid(&recording, pid);
    assert_eq!(by_pid, 3, "of the server");
    drop(older);
    drop(python.stdin.take());
    python.wait().expect("its exit status");
}

/// The number of closed connections that the filter of a process admits.
fn lines_of_pid(recording: &str, pid: u32) -> usize {
    let pid = pid.to_string();
    lines(recording, &["-p", &pid]).into_values().map(|lines| lines.len()).sum()
}
