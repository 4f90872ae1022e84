//! Metrics pushed to a collector.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::lab::{
    self, Collector, Namespace, PROGRAM, Pushed, Report, Sock, Synfin, eventually, lacks_collector,
};

/// The first port of this file's tests.
const PORT: u16 = 7481;

/// Starts synfin that traces one namespace and pushes from another, so that its own traffic is not
/// traced.
fn push(from: &Namespace, watched: &Namespace, url: &str, variables: &[(&str, &str)]) -> Synfin {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "-N", &watched.id().to_string(), "--listen", "127.0.0.1:0"]);
    command.args(["--otlp", url, "--otlp-interval", "200ms"]).envs(variables.iter().copied());
    from.within(|| Synfin::watch_command(&mut command))
}

fn url() -> String {
    format!("http://{}", Collector::ADDRESS)
}

/// Connections with several close reasons.
fn traffic(namespace: &Namespace) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let listener = namespace.listen(address);
    for _ in 0..20 {
        namespace.pair_with(&listener, address).close_by_client();
    }
    let mut reset = namespace.pair_with(&listener, address);
    reset.answer_unread(b"an answer");
    drop(reset.client);
    let refused = namespace.connect((Ipv4Addr::LOCALHOST, PORT + 1));
    assert!(refused.is_err(), "nothing listens there");
}

#[test]
fn a_collector_receives_the_values_of_a_report() {
    if lacks_collector() {
        return;
    }
    let _lab = lab::enter();
    let (collector, report, pushed) = lab::seen_whole(|| {
        let [namespace, elsewhere] = [(); 2].map(|()| Namespace::new());
        let collector = Collector::start(&elsewhere);
        let variables = [("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=a%20test")];
        let serve = push(&elsewhere, &namespace, &url(), &variables);
        let report = Synfin::watch(["report", "-o", "json", "-N", &namespace.id().to_string()]);
        traffic(&namespace);
        eventually("metrics are pushed during the trace", || {
            (established(&collector.last(), "server") > 0.0).then_some(())
        });
        // The final push is at the end of the trace.
        let (report, served) = (report.finish().report(), serve.finish());
        assert!(served.stderr.contains("metrics are pushed to"), "{}", served.stderr);
        let pushed = collector.last();
        (report.missing() == 0, (collector, report, pushed))
    });
    compare(&report, &pushed);
    let printed = collector.printed();
    for attribute in ["service.name: Str(synfin)", "deployment.environment.name: Str(a test)"] {
        assert!(printed.contains(attribute), "no {attribute} in:\n{printed}");
    }
}

fn established(pushed: &Pushed, role: &str) -> f64 {
    let role = format!("network.tcp.handshake.role={role}");
    pushed.value("synfin.connections_established", &[&role, &format!("server.port={PORT}")])
}

#[track_caller]
fn compare(report: &Report, pushed: &Pushed) {
    let mut compared = 0.0;
    let at = format!("server.port={PORT}");
    // A single refused attempt does not get its own series.
    let rest = "otel.metric.overflow=true";
    for (role, port, at) in
        [("client", PORT, &*at), ("server", PORT, &at), ("client", PORT + 1, rest)]
    {
        let row = report.row(role, port);
        let role_of_row = format!("network.tcp.handshake.role={role}");
        let own = [&*role_of_row, at];
        let value = |name: &str, more: &[&str]| pushed.value(name, &[&own, more].concat());
        let mut check = |column: &str, name: &str, more: &[&str]| {
            let value = value(name, more);
            assert_eq!(
                value,
                row.count(column) as f64,
                "{role} {port}: {column} is {name}{more:?}"
            );
            compared += value;
        };
        check("established", "synfin.connections_established", &[]);
        check("time_wait.entered", "synfin.time_wait_entered", &[]);
        for state in ["established", "close_wait"] {
            let labelled = format!("network.connection.state={state}");
            check(&format!("states.{state}"), "system.network.connection.count", &[&labelled]);
        }
        for reason in ["closed_by_us", "closed_by_peer"] {
            let labels = [&*format!("synfin.reason={reason}"), "synfin.class=normal"];
            check(&format!("closes.{reason}"), "synfin.connections_closed", &labels);
        }
        for reason in ["reset_by_peer", "reset_by_us_unread_data"] {
            let [own, error] = ["synfin.reason", "error.type"].map(|key| format!("{key}={reason}"));
            let labels = [&*own, &error, "synfin.class=abnormal"];
            check(&format!("closes.{reason}"), "synfin.connections_closed", &labels);
        }
        let refused = [
            "synfin.reason=connect_refused_rst",
            "error.type=connect_refused_rst",
            "synfin.class=abnormal",
        ];
        check("failures.connect_refused_rst", "synfin.connection_failures", &refused);
        let handshakes = "system.network.tcp.handshake.duration";
        check("handshake.clean.count", handshakes, &["synfin.class=clean"]);
        // Durations above a bound have to be above it in the collector too.
        let slowest = row.count("handshake.clean.max_us") as f64 / 1e6;
        let above: f64 = [1.0, 3.0, 7.0, 15.0]
            .map(|bound| value(handshakes, &["synfin.class=clean", &format!("le={bound}")]))
            .iter()
            .sum();
        assert!(slowest < 0.5 && above == 0.0, "{slowest} s, and {above} of them above the bound");
    }
    assert!(compared > 100.0, "only {compared} values were compared");
    for outcome in ["delivered", "lost", "filtered", "missed", "gaps"] {
        let labelled = format!("synfin.outcome={outcome}");
        let value = pushed.value("synfin.events", &[&labelled]);
        if outcome != "filtered" {
            assert_eq!(value, report.event(outcome) as f64, "{outcome}");
        }
    }
}

#[test]
fn a_missing_collector_is_reported_once_and_receives_everything_later() {
    if lacks_collector() {
        return;
    }
    let _lab = lab::enter();
    let [namespace, elsewhere] = [(); 2].map(|()| Namespace::new());
    let serve = push(&elsewhere, &namespace, &url(), &[]);
    traffic(&namespace);
    eventually("several pushes are refused", || {
        (elsewhere.counters().get("OutRsts") >= 3).then_some(())
    });
    let collector = Collector::start(&elsewhere);
    eventually("the collector receives earlier counts", || {
        (established(&collector.last(), "server") >= 21.0).then_some(())
    });
    let printed = serve.finish().stderr;
    let count = |part: &str| printed.matches(part).count();
    assert_eq!(count("cannot push metrics to"), 1, "{printed}");
    assert_eq!(count("  why: Connection refused"), 1, "{printed}");
    assert_eq!(count("metrics are pushed to"), 1, "{printed}");
}

#[test]
fn unusable_collector_urls_are_refused_at_once() {
    let _lab = lab::enter();
    let refused = |url: &str, variable: Option<(&str, &str)>, parts: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--listen", "127.0.0.1:0", "--otlp", url]).envs(variable);
        let finished = Synfin::run_command(&mut command);
        assert_eq!(finished.code, 2, "{}", finished.stderr);
        for part in parts {
            assert!(finished.stderr.contains(part), "no {part} in:\n{}", finished.stderr);
        }
    };
    refused("https://collector:4318", None, &["TLS"]);
    refused("127.0.0.1:4318", None, &["http://127.0.0.1:4318"]);
    let secret = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization");
    refused("http://127.0.0.1:4318", Some(secret), &["OTEL_EXPORTER_OTLP_HEADERS", "name=value"]);
}

/// Answers each request with the next of these, and further ones with the last. Keeps the heads of
/// the requests.
fn answer(
    listener: &TcpListener,
    answers: &[Vec<u8>],
    heads: &Mutex<Vec<String>>,
    until: &AtomicBool,
) {
    listener.set_nonblocking(true).expect("a listener that does not block");
    while !until.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_nonblocking(false).expect("a stream that blocks");
        let mut request = BufReader::new(&stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(request.read_line(&mut head).expect("a request") > 0, "{head}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.parse().ok()).expect("its length");
        io::copy(&mut request.take(length), &mut io::sink()).expect("its body");
        // The client may close before it has read everything.
        let mut heads = heads.lock().expect("the heads");
        let _ = stream.write_all(&answers[heads.len().min(answers.len() - 1)]);
        heads.push(head);
    }
}

#[test]
fn every_answer_of_a_collector_is_reported() {
    let _lab = lab::enter();
    let [namespace, elsewhere] = [(); 2].map(|()| Namespace::new());
    let listener = elsewhere.listen(Collector::ADDRESS);
    let status = |status: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let with_body = |body: &[u8], length: usize| {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    // Partial success: 7 points rejected, `too old`.
    let partial = b"\x0a\x0b\x08\x07\x12\x07too old";
    let answers = [
        status("401 Unauthorized"),
        status("404 Not Found"),
        status("503 Service Unavailable"),
        b"\x16\x03\x01 this is no HTTP\r\n\r\n".to_vec(),
        with_body(partial, partial.len()),
        with_body(&vec![b'x'; 1 << 20], 1 << 30),
        status("200 OK"),
    ];
    let (heads, ends) = (Mutex::default(), AtomicBool::new(false));
    let printed = thread::scope(|scope| {
        scope.spawn(|| answer(&listener, &answers, &heads, &ends));
        let secret = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x%3Dy");
        let serve = push(&elsewhere, &namespace, &url(), &[secret]);
        eventually("all answers are sent", || {
            (heads.lock().expect("the heads").len() >= answers.len()).then_some(())
        });
        let printed = serve.finish().stderr;
        ends.store(true, Ordering::Relaxed);
        printed
    });
    for head in heads.lock().expect("the heads").iter() {
        assert!(head.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{head}");
        for header in ["content-type: application/x-protobuf", "authorization: Bearer x=y"] {
            assert!(head.contains(header), "no {header} in:\n{head}");
        }
    }
    for part in [
        "  why: the response is 401 Unauthorized\n  remedy: set the headers that it requires in OTEL_EXPORTER",
        "  why: the response is 404 Not Found\n  remedy: give the whole URL",
        "  why: the response is 503 Service Unavailable\n  remedy: check the collector's log",
        "  why: it rejected a part: too old",
        "synfin: metrics are pushed to http://127.0.0.1:4318/v1/metrics every 200ms",
    ] {
        assert_eq!(printed.matches(part).count(), 1, "{part} in:\n{printed}");
    }
    assert!(!printed.contains("Bearer"), "{printed}");
}

#[test]
fn a_collector_that_never_answers_delays_only_the_end() {
    let _lab = lab::enter();
    let [namespace, elsewhere] = [(); 2].map(|()| Namespace::new());
    // The kernel completes handshakes, but no process accepts.
    let _listener = elsewhere.listen(Collector::ADDRESS);
    let serve = push(&elsewhere, &namespace, &url(), &[]);
    eventually("the collector's port is connected to", || {
        let is_connected =
            |it: &Sock| it.state == "ESTAB" && it.remote_port == Collector::ADDRESS.port();
        elsewhere.sockets().iter().any(is_connected).then_some(())
    });
    let begun = Instant::now();
    let printed = serve.finish().stderr;
    assert!(printed.contains("why: no response within 5 s"), "{printed}");
    assert!(begun.elapsed() < lab::slowed(Duration::from_secs(8)), "{:?}", begun.elapsed());
}
