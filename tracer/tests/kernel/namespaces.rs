//! Network and time namespaces that come and go, as on a host with containers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    thread,
    time::Duration,
};

use crate::lab::{self, Namespace, PROGRAM, Report, Synfin, Wire, eventually};

/// The port of this file's tests.
const PORT: u16 = 7501;

fn address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PORT).into()
}

/// Makes this many connections, which the client closes, and returns when nothing moves any more.
fn connect(namespace: &Namespace, count: usize) {
    let listener = namespace.listen(address());
    for _ in 0..count {
        namespace.pair_with(&listener, address()).close_by_client();
    }
    drop(listener);
    namespace.wait_until_quiet();
}

/// Makes a namespace with this inode number.
fn with_inode(wanted: u64) -> Namespace {
    const MOST: usize = 50;
    let mut others = Vec::new();
    eventually("the inode number is used again", || {
        let namespace = Namespace::new();
        if namespace.id() == wanted {
            return Some(namespace);
        }
        others.push(namespace);
        // Files in `/proc/net` have numbers of the same kind: one of another namespace may have taken it
        // (`fs/proc/generic.c:proc_alloc_inum`).
        if others.len() == MOST {
            others.clear();
        }
        None
    })
}

/// The TIME_WAITs of all rows in a namespace.
fn time_waits(report: &Report, inode: u64) -> u64 {
    let here = report.rows().iter().filter(|row| row["netns"] == inode);
    here.map(|row| row["time_wait"]["now"].as_u64().expect("a number")).sum()
}

#[test]
fn a_namespace_does_not_inherit_from_one_that_is_gone() {
    // Another test's namespace could take the inode number.
    let _lab = lab::enter_alone();
    if lab::lacks(lab::Feature::NamespaceCookie) {
        return;
    }
    let first = Namespace::new();
    let inode = first.id();
    let name = first.name("synfin-test-first");
    let synfin = Synfin::watch(["report", "1", "--by", "netns", "-o", "json", "--scan-always"]);
    connect(&first, 20);
    synfin.wait_for_printed("the name and the TIME_WAITs", |report| {
        let rows = report["ports"].as_array().expect("rows");
        rows.iter()
            .any(|row| row["netns_name"] == "synfin-test-first" && row["time_wait"]["now"] == 20)
    });
    drop((name, first));
    let second = with_inode(inode);
    connect(&second, 3);
    // The client's and the server's row.
    synfin.wait_for_printed("the connections of the second", |report| {
        let rows = report["ports"].as_array().expect("rows");
        rows.iter().any(|row| row["netns"] == inode && row["closed"] == 3)
    });
    let reports = synfin.finish().json_lines();
    let last = reports.last().expect("a report").clone();
    let rows = last["ports"].as_array().expect("rows").clone();
    let here: Vec<_> = rows.iter().filter(|row| row["netns"] == inode).collect();
    assert!(!here.is_empty(), "{last}");
    assert!(here.iter().all(|row| row["netns_name"].is_null()), "{here:?}");
    assert_eq!(time_waits(&Report::new(last), inode), 3);
}

#[test]
fn time_waits_end_with_their_namespace() {
    // Another test's namespace could take an inode number.
    let _lab = lab::enter_alone();
    let kept = Namespace::new();
    let synfin = Synfin::watch(["report", "--by", "netns", "-o", "json", "--scan-always"]);
    connect(&kept, 2);
    let inodes: Vec<_> = (0..20)
        .map(|_| {
            let namespace = Namespace::new();
            connect(&namespace, 10);
            namespace.id()
        })
        .collect();
    // The kernel destroys namespaces in the background.
    thread::sleep(Duration::from_secs(3));
    let report = synfin.finish().report();
    for inode in inodes.iter().filter(|&&inode| inode != kept.id()) {
        assert_eq!(time_waits(&report, *inode), 0, "{inode}");
    }
    assert_eq!(time_waits(&report, kept.id()), 2);
}

#[test]
fn a_scanned_namespace_can_be_removed() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let Wire { near, far } = wire;
    let synfin =
        Synfin::watch(["report", "-o", "json", "--scan-always", "-N", &far.id().to_string()]);
    thread::sleep(Duration::from_millis(500));
    drop(far);
    // The veth link ends with the namespace.
    eventually("the other end of the link is gone", || {
        (!near.run("ip -o link show").contains("wire")).then_some(())
    });
    synfin.finish();
}

#[test]
fn times_are_right_in_a_time_namespace() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let inside = ["--time", "--fork", "--monotonic", "864000", "--", PROGRAM];
    if Command::new("unshare").args(["--time", "--fork", "true"]).output().is_err() {
        return lab::skip("unshare --time does not run here");
    }
    let mut command = Command::new("unshare");
    command.args(inside).args(["connections", "--for", "4s", "-o", "json"]);
    let synfin = Synfin::watch_command(&mut command);
    let begun = humantime::format_rfc3339(std::time::SystemTime::now()).to_string();
    connect(&namespace, 5);
    let closed = synfin.end().json_lines();
    let here: Vec<_> = closed.iter().filter(|line| line["netns"] == namespace.id()).collect();
    assert_eq!(here.len(), 10);
    for line in here {
        let (opened, ended) =
            (line["opened_at"].as_str().unwrap(), line["closed_at"].as_str().unwrap());
        assert!(opened >= &begun[..19] && ended >= opened, "{line}");
        assert!(line["age_us"].as_u64().unwrap() < 10_000_000, "{line}");
    }
}

#[test]
fn a_listener_without_bind_has_the_port_that_it_gets() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let synfin = Synfin::watch(["report", "-o", "json"]);
    let (listener, port) = namespace.within(|| {
        let socket = lab::socket(Ipv4Addr::LOCALHOST.into());
        // A client that dissolves its connection keeps its old port in `inet_sport`.
        socket.listen(8).expect("listen() without bind()");
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        (socket, port)
    });
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let client = namespace.connect(target).expect("a connection");
    let report = synfin.finish().report();
    let here: Vec<_> = report.rows().iter().filter(|row| row["netns"] == namespace.id()).collect();
    let servers: Vec<_> = here.iter().filter(|row| row["role"] == "server").collect();
    assert_eq!(servers.len(), 1, "{servers:?}");
    assert_eq!(servers[0]["port"], port);
    assert_eq!(servers[0]["accept_queue"]["now"], 1);
    assert!(servers[0]["owner"].is_string(), "{servers:?}");
    drop((listener, client));
}
