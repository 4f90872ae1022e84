//! Connections older than the trace: their roles, and their ages beside those of `ss -i`.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Shutdown, SocketAddr},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use synfin_common::state::TcpState;

use crate::lab::{self, Namespace, Synfin, connect_to, wait_for_state};

/// The first port of this file's tests.
const PORT: u16 = 7331;

/// How long the connections are older than the trace.
const OLD: Duration = Duration::from_secs(3);

/// The tick of the kernel's timestamps, at most.
const TICK_US: u64 = 10_000;

/// Milliseconds since the last activity of each connection by `ss -i`, the longest first, by local and
/// remote endpoint.
fn activity(namespace: &Namespace) -> BTreeMap<[String; 2], u64> {
    let lines = namespace.run("ss -tniOH");
    let of = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let ms = ["lastsnd:", "lastrcv:", "lastack:"].iter().filter_map(|name| {
            words.iter().find_map(|word| word.strip_prefix(name))?.parse::<u64>().ok()
        });
        ([words[3].to_owned(), words[4].to_owned()], ms.max().unwrap_or(0))
    };
    lines.lines().map(of).collect()
}

fn endpoint(line: &Value, side: &str) -> String {
    let of = |what: &str| &line[format!("{side}_{what}")];
    format!("{}:{}", of("addr").as_str().expect("an address"), of("port"))
}

#[test]
fn old_connections_have_the_role_that_is_proven_and_the_age_that_ss_shows() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (served, orphaned, bound) = (at(PORT), at(PORT + 1), at(903));

    let listener = namespace.listen(served);
    let mut quiet = namespace.pair_with(&listener, served);
    quiet.send(b"hello");
    let half_closed = namespace.pair_with(&listener, served);
    let gone = namespace.listen(orphaned);
    let orphan = namespace.pair_with(&gone, orphaned);
    drop(gone);
    let client = connect_to(namespace.bound_socket(bound), served).expect("a connection");
    half_closed.client.shutdown(Shutdown::Write).expect("shutdown");
    wait_for_state(&half_closed.server, TcpState::CloseWait);
    thread::sleep(OLD);

    let before = activity(&namespace);
    let synfin = ["connections", "--open", "-o", "json"];
    let open = Synfin::run(synfin).json_lines();
    let after = activity(&namespace);
    let here: Vec<_> = open.iter().filter(|line| line["netns"] == namespace.id()).collect();
    // Of the bound client, only the client's end is of unknown role: the other one has a listener.
    assert_eq!(here.len(), 8);
    for line in here {
        let port = line["local_port"].as_u64().expect("a port");
        let role = match port {
            _ if port == u64::from(served.port()) => "server",
            _ if [orphaned, bound].map(|of| u64::from(of.port())).contains(&port) => "unknown",
            _ => "client",
        };
        assert_eq!(line["role"], role, "{line}");
        let key = [endpoint(line, "local"), endpoint(line, "remote")];
        let age = line["age_us"].as_u64().expect("an age");
        let bounds = [before[&key] * 1000, after[&key] * 1000];
        assert!(age + 2 * TICK_US >= bounds[0] && age <= bounds[1] + TICK_US, "{bounds:?} {line}");
        assert!(age >= 2_900_000, "{line}");
        assert_eq!(line["preexisting"], true, "{line}");
    }

    let report = Synfin::run(["report", "--once", "-o", "json"]).report();
    let server = report.rows().iter().find(|row| row["role"] == "server" && row["port"] == PORT);
    let oldest = &server.expect("the server's row")["oldest"]["close_wait"];
    assert_eq!(oldest["at_least"], true, "{oldest}");
    assert!(oldest["age_us"].as_u64().expect("an age") >= 2_900_000, "{oldest}");
    let unknown: Vec<_> = report.rows().iter().filter(|row| row["role"] == "unknown").collect();
    assert_eq!(unknown.len(), 1, "{unknown:?}");
    assert_eq!([&unknown[0]["port"], &unknown[0]["open"]], [&Value::Null, &json!(2)]);

    let table = Synfin::run(["connections", "--open", "-N", &namespace.id().to_string()]);
    assert_eq!(table.stdout.matches('≥').count(), 8, "{}", table.stdout);
    drop((quiet, half_closed, orphan, client));
}
