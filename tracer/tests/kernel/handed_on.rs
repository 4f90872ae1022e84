//! Descriptors that a process hands on and closes: by fork(), by execve() and by SCM_RIGHTS. The connection
//! or listener belongs to the process that holds it.

use std::{net::SocketAddr, process};

use serde_json::Value;

use crate::lab::{self, Actor, Synfin, Wire, eventually};

/// The number of connections that each acceptor hands on. The client closes all but one of them.
const CONNECTIONS: usize = 3;

/// How a process hands its connections on.
const WAYS: [&str; 3] = ["fork", "execve", "SCM_RIGHTS"];

fn ports_of(test: u16) -> u16 {
    9_300 + process::id() as u16 % 40 * 20 + test * 5
}

/// The open connections of a recording, by service port.
fn open(recording: &str, role: &str, port: u16) -> Vec<Value> {
    let args = ["connections", "--open", "-o", "json", "--from", recording];
    let mut lines = Synfin::run(args).json_lines();
    lines.retain(|line| line["role"] == role && line["service_port"] == port);
    lines
}

#[test]
fn connections_that_are_handed_on_belong_to_their_holders() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let namespaces = lab::ids([&wire.near, &wire.far]);
    let (_folder, recording) = lab::recording_file();
    let at = |way: usize| SocketAddr::from((Wire::FAR4, ports_of(0) + way as u16));
    let (_, (expected, _kept)) = lab::conclusive(|| {
        let mut kept = Vec::new();
        let synfin = Synfin::watch([
            "report",
            "-N",
            &namespaces,
            "-o",
            "json",
            "--record",
            &recording,
            "--force",
        ]);
        let expected = [0, 1, 2].map(|way| {
            let mut client = Actor::start(&wire.near, None, "visitor");
            let mut stays = Actor::start(&wire.near, None, "stays");
            let mut server = Actor::start(&wire.far, None, "acceptor");
            server.listen(at(way));
            let courier = (WAYS[way] == "SCM_RIGHTS").then(|| server.courier("courier"));
            client.connect(at(way), CONNECTIONS - 1);
            stays.connect(at(way), 1);
            server.accept(CONNECTIONS);
            let holder = match (WAYS[way], courier) {
                ("fork", _) => ("heir", server.hand_on("heir")),
                ("execve", _) => ("tail", server.hand_to_tail()),
                (_, courier) => {
                    server.deliver();
                    ("courier", courier.expect("a courier"))
                }
            };
            client.close();
            kept.push((client, stays, server));
            holder
        });
        eventually("the clients have closed", || {
            let sockets = wire.far.sockets();
            let count = sockets.iter().filter(|it| it.state == "CLOSE-WAIT").count();
            (count == WAYS.len() * (CONNECTIONS - 1)).then_some(())
        });
        (synfin.finish().report(), (expected, kept))
    });
    let report = Synfin::run(["report", "-o", "json", "--from", &recording]).report();
    for (way, (name, pid)) in expected.into_iter().enumerate() {
        let lines = open(&recording, "server", at(way).port());
        assert_eq!(lines.len(), CONNECTIONS, "{}", WAYS[way]);
        for line in lines {
            let owner = (line["owner"].as_str(), line["pid"].as_u64());
            assert_eq!(owner, (Some(name), Some(pid.into())), "{}: {line}", WAYS[way]);
        }
        let is_here = |row: &&Value| row["role"] == "server" && row["port"] == at(way).port();
        let row = report.rows().iter().find(is_here).expect("a row");
        let oldest = &row["oldest"]["close_wait"];
        assert_eq!([&oldest["owner"], &oldest["pid"]], [&Value::from(name), &pid.into()]);
        // Those who wait for them are not affected.
        for line in open(&recording, "client", at(way).port()) {
            let comm = line["owner"].as_str().expect("a name");
            assert!(["visitor", "stays"].contains(&comm), "{line}");
        }
    }
}

/// A supervisor listens, sends the listener to a service, and closes it.
#[test]
fn a_listener_that_is_handed_on_belongs_to_its_holder() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let namespaces = lab::ids([&wire.near, &wire.far]);
    let (_folder, recording) = lab::recording_file();
    let at = SocketAddr::from((Wire::FAR4, ports_of(1)));
    let (_, (pid, _kept)) = lab::conclusive(|| {
        let synfin = Synfin::watch([
            "report",
            "-N",
            &namespaces,
            "-o",
            "json",
            "--record",
            &recording,
            "--force",
        ]);
        let mut supervisor = Actor::start(&wire.far, None, "supervisor");
        let pid = supervisor.courier("service");
        supervisor.listen(at);
        supervisor.deliver();
        let mut client = Actor::start(&wire.near, None, "visitor");
        client.connect(at, 3);
        (synfin.finish().report(), (pid, (supervisor, client)))
    });
    let lines = open(&recording, "server", at.port());
    assert_eq!(lines.len(), 3);
    for line in lines {
        let owner = (line["owner"].as_str(), line["pid"].as_u64());
        assert_eq!(owner, (Some("service"), Some(pid.into())), "{line}");
    }
    let report = Synfin::run(["report", "-o", "json", "--from", &recording]).report();
    let is_here = |row: &&Value| row["role"] == "server" && row["port"] == at.port();
    assert_eq!(report.rows().iter().find(is_here).expect("a row")["owner"], "service");
}
