//! Scans: connections older than the trace, and gauges without events.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use serde_json::{Value, json};

use crate::lab::{self, Namespace, RowCounts, Sock, Synfin, Wire, connect_to, eventually};

/// The first port of this file's tests.
const PORT: u16 = 7301;

#[test]
fn connections_older_than_the_trace_are_adopted() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let [served, orphaned, left] =
        [0, 1, 2].map(|n| SocketAddr::from((Ipv4Addr::LOCALHOST, PORT + n)));

    let listener = namespace.listen(served);
    let kept: Vec<_> = (0..3).map(|_| namespace.pair_with(&listener, served)).collect();
    // The children of a closed listener stay.
    let gone = namespace.listen(orphaned);
    let orphans = [namespace.pair_with(&gone, orphaned), namespace.pair_with(&gone, orphaned)];
    drop(gone);
    let third = namespace.listen(left);
    for _ in 0..4 {
        namespace.pair_with(&third, left).close_by_client();
    }
    namespace.wait_until_quiet();

    let report = Synfin::run(["report", "--once", "-o", "json"]).report();
    let adopted = |count| RowCounts::default().and("adopted", count).open("established", count);
    let expected = [
        ("client", served.port(), adopted(3)),
        ("server", served.port(), adopted(3)),
        ("client", orphaned.port(), adopted(2)),
        ("client", left.port(), RowCounts::default().and("time_wait.now", 4)),
        ("server", left.port(), RowCounts::default()),
    ];
    for (role, port, counts) in expected {
        assert_eq!(report.difference(role, port, &counts), None);
    }
    // A single look shows no rates.
    for row in report.rows() {
        assert_eq!([&row["new_per_s"], &row["bad_per_s"]], [&Value::Null; 2], "{row}");
    }
    // A child of a closed listener looks like a client that bound its port.
    let is_of_orphans = |row: &&Value| row["role"] == "server" && row["port"] == orphaned.port();
    assert_eq!(report.rows().iter().find(is_of_orphans), None);

    let open = Synfin::run(["connections", "--open", "-o", "json"]).json_lines();
    let here: Vec<_> = open.iter().filter(|line| line["netns"] == namespace.id()).collect();
    assert_eq!(here.len(), 10);
    for line in here {
        assert_eq!(line["preexisting"], true, "{line}");
        assert_eq!(line["state"], "established", "{line}");
        assert_eq!([&line["handshake"], &line["opened_at"]], [&Value::Null; 2], "{line}");
        let is_orphan = line["local_port"] == orphaned.port();
        let is_child = line["local_port"] == served.port();
        let role = if is_orphan {
            "unknown"
        } else if is_child {
            "server"
        } else {
            "client"
        };
        assert_eq!(
            [&line["role"], &line["role_assumed"]],
            [&json!(role), &json!(is_orphan)],
            "{line}"
        );
        assert_eq!(line["service_port"] == 0, is_orphan, "{line}");
    }
    drop((kept, orphans));
}

#[test]
fn gauges_agree_with_ss() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let [queue, half_open, waits] = [10, 11, 12].map(|n| SocketAddr::from((Wire::FAR4, PORT + n)));

    let synfin = Synfin::watch(["report", "-o", "json"]);
    let lazy = wire.far.listen_up_to(queue, 5);
    let waiting: Vec<_> = (0..3).map(|_| wire.near.connect(queue).expect("a connection")).collect();
    let never_reading = wire.far.listen(half_open);
    let rule = format!("tcp dport {} tcp flags & (syn | ack) == ack drop", half_open.port());
    wire.far.filter("never_reading", &rule);
    let hoping: Vec<_> =
        (0..2).map(|_| wire.near.connect(half_open).expect("an apparent connection")).collect();
    let closing = wire.far.listen(waits);
    for number in 0..9 {
        let pair = wire.near.pair_with(&closing, waits);
        if number % 3 == 0 { pair.close_by_server() } else { pair.close_by_client() }
    }
    eventually("two half-open handshakes", || {
        (count(&wire.far.sockets(), "SYN-RECV", half_open.port()) == 2).then_some(())
    });
    let (near, far) = (wire.near.sockets(), wire.far.sockets());
    let report = synfin.finish().report();

    let row = report.row("server", queue.port());
    let listener = far.iter().find(|s| s.state == "LISTEN" && s.local_port == queue.port());
    let (in_queue, limit) = listener.expect("the listener").queue;
    assert_eq!((in_queue, limit), (3, 5));
    assert_eq!(row.count("accept_queue.now"), in_queue);
    assert_eq!(row.count("accept_queue.limit"), limit);
    assert_eq!(row.count("accept_queue.peak"), in_queue);
    assert_eq!(report.row("server", half_open.port()).count("half_open"), 2);
    assert_eq!(report.row("client", half_open.port()).count("established"), 2);

    let time_waits = |role| report.row(role, waits.port()).count("time_wait.now");
    let seen = |sockets: &[Sock]| {
        let of = |socket: &&Sock| [socket.local_port, socket.remote_port].contains(&waits.port());
        sockets.iter().filter(of).filter(|socket| socket.state == "TIME-WAIT").count() as u64
    };
    assert_eq!((time_waits("client"), time_waits("server")), (seen(&near), seen(&far)));
    assert_eq!((seen(&near), seen(&far)), (6, 3));
    drop((lazy, waiting, never_reading, hoping));
}

fn count(sockets: &[Sock], state: &str, local_port: u16) -> usize {
    sockets.iter().filter(|s| s.state == state && s.local_port == local_port).count()
}

#[test]
fn equal_addresses_in_two_namespaces_are_two_connections() {
    let _lab = lab::enter();
    let namespaces = [Namespace::new(), Namespace::new()];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT + 20));
    let chosen = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT + 21));

    let synfin = Synfin::watch(["connections", "-o", "json"]);
    let listeners = namespaces.each_ref().map(|namespace| namespace.listen(address));
    let open = [0, 1].map(|n| {
        let socket = namespaces[n].socket(address.ip());
        socket.bind(&chosen.into()).expect("its port");
        let client = connect_to(socket, address).expect("a connection");
        (client, lab::accept(&listeners[n]))
    });
    for (client, server) in open {
        lab::Pair { client, server }.close_by_client();
    }
    namespaces.iter().for_each(Namespace::wait_until_quiet);
    let ended = synfin.finish().json_lines();

    for namespace in &namespaces {
        let here = ended.iter().filter(|line| line["netns"] == namespace.id());
        let reported: BTreeSet<_> =
            here.map(|line| [line["role"].to_string(), line["reason"].to_string()]).collect();
        let expected = [["\"client\"", "\"closed_by_us\""], ["\"server\"", "\"closed_by_peer\""]];
        assert_eq!(reported, expected.map(|line| line.map(str::to_owned)).into());
    }
}
