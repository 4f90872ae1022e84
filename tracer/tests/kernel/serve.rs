//! The metrics endpoint: its content, and clients that must not block others.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::lab::{self, Namespace, PROGRAM, Synfin, eventually_equal};

/// The first port of this file's tests.
const PORT: u16 = 7491;

const ENDPOINT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9764);

/// Starts an endpoint in a namespace of its own.
pub(crate) fn serve(namespace: &Namespace, args: &[&str]) -> Synfin {
    let netns = namespace.id().to_string();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "-N", &netns]).args(args);
    namespace.within(|| Synfin::watch_command(&mut command))
}

pub(crate) fn connect(namespace: &Namespace) -> TcpStream {
    namespace.within(|| TcpStream::connect(ENDPOINT)).expect("the endpoint")
}

/// The whole response to a request.
fn asked(namespace: &Namespace, request: &[u8]) -> String {
    let mut stream = connect(namespace);
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // The server may close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn get(namespace: &Namespace, path: &str) -> String {
    asked(
        namespace,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

/// The value of a sample; 0 if there is none.
pub(crate) fn sample(page: &str, labelled: &str) -> f64 {
    let mut lines = page.lines();
    let value = lines.find_map(|line| line.strip_prefix(labelled)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or(0.0)
}

#[test]
fn metrics_agree_with_the_traffic() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let listener = namespace.listen(address);
    let synfin = serve(&namespace, &[]);
    for _ in 0..20 {
        namespace.pair_with(&listener, address).close_by_client();
    }
    let open = namespace.pair_with(&listener, address);
    let of = |name: &str, role: &str, labels: &str| {
        let page = get(&namespace, "/metrics");
        sample(&page, &format!("{name}{{role=\"{role}\",port=\"{PORT}\"{labels}}}"))
    };
    for role in ["server", "client"] {
        let count =
            |name, labels| eventually_equal(name, expected(name), || of(name, role, labels));
        count("synfin_connections_established_total", "");
        count("synfin_handshake_duration_seconds_count", ",class=\"clean\"");
        count("synfin_connections", ",state=\"established\"");
    }
    let closes = [("server", "closed_by_peer"), ("client", "closed_by_us")];
    for (role, reason) in closes {
        let labels = format!(",reason=\"{reason}\",class=\"normal\"");
        let closed = || of("synfin_connections_closed_total", role, &labels);
        eventually_equal(reason, 20.0, closed);
    }
    // Both formats, and the health check.
    let page = get(&namespace, "/metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("version=0.0.4"), "{page}");
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        Accept: application/openmetrics-text;version=1.0.0\r\n\r\n";
    let page = asked(&namespace, request);
    assert!(page.ends_with("# EOF\n") && page.contains("TYPE synfin_events counter\n"), "{page}");
    assert!(get(&namespace, "/healthz").ends_with("ok\n"));
    assert!(get(&namespace, "/").contains("/metrics"));
    drop(open);
    assert_eq!(synfin.finish().code, 0);
}

fn expected(name: &str) -> f64 {
    if name == "synfin_connections" { 1.0 } else { 21.0 }
}

#[test]
fn slow_and_silent_clients_do_not_block_others() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let synfin = serve(&namespace, &[]);
    let works = || {
        let begun = Instant::now();
        let page = get(&namespace, "/metrics");
        assert!(page.contains("synfin_info{"), "{page}");
        assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    };
    works();
    let before = synfin.process().memory();

    // Invalid requests get an error.
    for (request, answer) in [
        (
            &b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                [..],
            "405",
        ),
        (b"GET /elsewhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        (b"GET /metrics\x00 HTTP/9.9\r\n\r\n", "400"),
    ] {
        let printed = asked(&namespace, request);
        assert!(printed.starts_with(&format!("HTTP/1.1 {answer} ")), "{printed}");
    }
    let huge = [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    let printed = asked(&namespace, &huge);
    assert!(printed.is_empty() || printed.starts_with("HTTP/1.1 4"), "{printed}");
    works();

    // Silent and slow clients do not block others.
    let silent: Vec<_> = (0..30).map(|_| connect(&namespace)).collect();
    let mut slow = connect(&namespace);
    slow.write_all(b"GET /met").expect("some of it");
    works();
    // Clients that never read do not block others either; many clients at once are all answered.
    let mut never_reading: Vec<_> = (0..20).map(|_| connect(&namespace)).collect();
    for stream in &mut never_reading {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    }
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert!(get(&namespace, "/metrics").contains("synfin_info{")));
        }
    });
    works();
    drop((silent, slow, never_reading));
    let grown = synfin.process().memory().saturating_sub(before);
    assert!(grown < 16 << 10, "it has grown by {grown} KiB");
    assert_eq!(synfin.finish().code, 0);
}

#[test]
fn promtool_accepts_the_metrics() {
    let _lab = lab::enter();
    if lab::lacks_prometheus("promtool") {
        return;
    }
    let namespace = Namespace::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT + 1));
    let listener = namespace.listen(address);
    let synfin = serve(&namespace, &[]);
    namespace.pair_with(&listener, address).close_by_client();
    let page = get(&namespace, "/metrics");
    let (_, page) = page.split_once("\r\n\r\n").expect("a page");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("promtool");
    let output = promtool.wait_with_output().expect("promtool");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.is_empty() && output.stdout.is_empty(), "{printed}");
    synfin.finish();
}
