//! `doctor` passes on a healthy host, and reports what is missing on others.

use serde_json::Value;
use synfin::trace::ring_size;

use crate::lab::{self, Broken, Namespace, Synfin};

/// The check with this id.
#[track_caller]
fn check<'a>(found: &'a Value, id: &str) -> &'a Value {
    let checks = found["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no {id} in {found:#}"))
}

fn parse(stdout: &str) -> Value {
    assert_eq!(stdout.lines().count(), 1, "one object: {stdout}");
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

#[test]
fn a_healthy_host_passes_all_checks() {
    // While other tests run, the kernel may skip the program, which `doctor` would report.
    let _lab = lab::enter_alone();
    let finished = Synfin::run(["doctor", "--for", "0.5", "-o", "json"]);
    let found = parse(&finished.stdout);
    assert_eq!((finished.code, &found["good"]), (0, &Value::Bool(true)), "{found:#}");
    assert_eq!(finished.stderr, "");
    for check in found["checks"].as_array().expect("checks") {
        assert_ne!(check["status"], "missing", "{check}");
    }
    let hooks = ["inet_sock_set_state", "tcp_receive_reset", "tcp_retransmit_synack"];
    for hook in hooks {
        assert_eq!(check(&found, &format!("hook.{hook}"))["status"], "ok");
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    let ring = match lab::since(6, 1) && cfg!(target_arch = "x86_64") {
        true => ring_size::default_bytes(cpus),
        false => ring_size::DEFAULT_SHARED,
    };
    assert_eq!(found["ring"]["default_bytes"], ring);
    assert!(found["rate"]["seconds"].as_f64().is_some_and(|seconds| (0.5..5.0).contains(&seconds)));
    let test = &found["self_test"];
    assert_eq!((&test["right"], &test["deviations"]), (&Value::Bool(true), &Value::Array(vec![])));
    // Eight kinds, twenty of each, two ends of each except for failures; and one that fills a queue.
    let per_address = 6 * 40 + 2 * 20 + 2;
    let ends = test["ends"].as_u64().expect("a number");
    assert!(ends == per_address || ends == 2 * per_address, "{ends}");

    let table = Synfin::run(["doctor", "--for", "0.1"]);
    assert_eq!(table.code, 0, "{}", table.stdout);
    assert_eq!(table.stdout.lines().last(), Some("all required checks passed"));
    assert_eq!(table.stdout.lines().count(), found["checks"].as_array().map_or(0, Vec::len) + 1);
}

#[test]
fn unusual_settings_pass_the_self_test() {
    let _lab = lab::enter_alone();
    let well = |namespace: &Namespace, broken: Broken| {
        let args = ["doctor", "--for", "0.1", "-o", "json"];
        let finished = namespace.within(|| broken.run(&args));
        assert_eq!(finished.code, 0, "{}", finished.stdout);
        parse(&finished.stdout)
    };
    let namespace = Namespace::new();
    let both = well(&namespace, Broken::not())["self_test"]["ends"].as_u64();

    // With a SYN cookie for every SYN, no server's handshake can be measured.
    namespace.set("ipv4/tcp_syncookies", 2);
    well(&namespace, Broken::not());
    // The kernel's PID of our process differs from ours.
    let found = well(&namespace, Broken::not().in_a_pid_namespace());
    assert_eq!(check(&found, "processes")["status"], "note");

    namespace.set("ipv6/conf/all/disable_ipv6", 1);
    let found = well(&namespace, Broken::not());
    assert_eq!(found["self_test"]["ends"].as_u64().map(|ends| 2 * ends), both);
}

#[test]
fn the_event_rate_is_measured() {
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 7451));
    let listener = namespace.listen(address);
    let found = std::thread::scope(|scope| {
        let doctor = scope.spawn(|| Synfin::run(["doctor", "--for", "2", "-o", "json"]));
        while !doctor.is_finished() {
            namespace.pair_with(&listener, address).close_by_client();
        }
        parse(&doctor.join().expect("the doctor").stdout)
    });
    let column = |name: &str| found["rate"][name].as_f64().expect("a number");
    let transitions = column("transitions_per_second");
    let [all, busiest] = ["bytes_per_second", "busiest_ring_bytes_per_second"].map(column);
    assert!(transitions > 100.0, "{found:#}");
    // A transition takes 64 to 120 bytes, and some of the other events another 32 or 48.
    assert!((60.0..=130.0).contains(&(all / transitions)), "{found:#}");
    // Each CPU has a ring buffer, or all share one.
    let rings = std::thread::available_parallelism().map_or(1, usize::from) as f64 + 1.0;
    assert!((all / rings..=all).contains(&busiest), "{found:#}");
    let needed = found["ring"]["needed_bytes"].as_f64().expect("a number");
    // Two seconds of 1.5 times the rate, and at most twice that for a power of two.
    assert!(needed >= 3.0 * busiest && needed < 6.0 * busiest + 8192.0, "{found:#}");
}

#[test]
fn a_missing_capability_is_named_and_the_rest_is_checked() {
    let _lab = lab::enter();
    let broken = Broken::not().without_capabilities(&["bpf", "sys_admin"]);
    let finished = broken.run(&["doctor", "--for", "0.1", "-o", "json"]);
    let found = parse(&finished.stdout);
    assert_eq!((finished.code, &found["good"]), (3, &Value::Bool(false)), "{found:#}");
    for (id, status) in [
        ("cap_bpf", "missing"),
        ("cap_perfmon", "ok"),
        ("cap_sys_admin", "note"),
        ("kernel_side", "missing"),
        ("self_test", "missing"),
        ("kernel", "ok"),
        ("btf", "ok"),
        ("tracefs", "ok"),
    ] {
        assert_eq!(check(&found, id)["status"], status, "{id}");
    }
    let text = check(&found, "kernel_side")["text"].as_str().expect("text");
    assert!(text.contains("without CAP_BPF"), "{text}");
    let remedy = check(&found, "cap_bpf")["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("--cap-add"), "{remedy}");
    assert_eq!([&found["rate"], &found["ring"], &found["self_test"]], [&Value::Null; 3]);
}

#[test]
fn an_unprivileged_user_gets_all_checks_that_are_possible() {
    let _lab = lab::enter();
    let finished = Broken::not().for_nobody().run(&["doctor"]);
    assert_eq!(finished.code, 3, "{}", finished.stdout);
    for part in
        ["missing cap_bpf ", "missing cap_perfmon ", "sudo", "ok      kernel ", "ok      btf "]
    {
        assert!(finished.stdout.contains(part), "no {part:?} in {}", finished.stdout);
    }
}

#[test]
fn a_limited_scan_is_a_note() {
    let _lab = lab::enter_alone();
    let other = Namespace::new();
    let note = |dropped: &[&str], text: &str| {
        let broken = Broken::not().without_capabilities(dropped);
        let found = broken.run(&["doctor", "--for", "0.1", "-o", "json"]);
        assert_eq!(found.code, 0, "{}", found.stdout);
        let found = parse(&found.stdout);
        for id in dropped.iter().map(|name| format!("cap_{name}")).chain(["namespaces".into()]) {
            assert_eq!(check(&found, &id)["status"], "note", "{id}");
        }
        let reported = check(&found, "namespaces")["text"].as_str().expect("text");
        assert!(reported.contains(text), "{reported}");
    };
    note(&["sys_admin"], "cannot enter the network namespace");
    note(&["sys_ptrace"], "processes are hidden");
    drop(other);
}

#[test]
fn names_of_containers_need_a_capability() {
    let _lab = lab::enter();
    let broken = Broken::not().without_capabilities(&["dac_read_search"]);
    let found = broken.run(&["doctor", "--for", "0.1", "-o", "json"]);
    assert_eq!(found.code, 0, "{}", found.stdout);
    let right = &parse(&found.stdout);
    let right = check(right, "cap_dac_read_search");
    assert_eq!(right["status"], "note");
    assert!(right["without"].as_str().is_some_and(|text| text.contains("containers")), "{right}");
}

#[test]
fn causes_of_failed_checks_are_named() {
    let _lab = lab::enter();
    let doctor = |broken: Broken| {
        let finished = broken.run(&["doctor", "--for", "0.1", "-o", "json"]);
        (finished.code, parse(&finished.stdout), finished.stderr)
    };
    // With this capability, bpf(2) would return the kernel's BTF.
    let (code, found, _) = doctor(Broken::not().without_btf().without_capabilities(&["sys_admin"]));
    assert_eq!((code, &check(&found, "btf")["status"]), (3, &"missing".into()));
    let (code, found, _) = doctor(Broken::not().with_lockdown("none integrity [confidentiality]"));
    assert_eq!((code, &check(&found, "lockdown")["status"]), (3, &"missing".into()));

    let hook = "btf_trace_tcp_receive_reset";
    let (_, found, _) =
        doctor(Broken::not().with_swapped_names(hook, "btf_trace_tcp_receive_resxx"));
    let hook = check(&found, "hook.tcp_receive_reset");
    assert_eq!(hook["status"], "note", "{found:#}");
    assert!(
        hook["without"]
            .as_str()
            .is_some_and(|text| text.contains("looks like one refused by ICMP"))
    );
    // Without that hook a refusal by RST looks like another, which the self-test detects.
    let test = &found["self_test"];
    assert_eq!(test["right"], false);
    let reported = test["deviations"][0].as_str().expect("a deviation");
    assert!(
        reported.contains("the reason is connect_refused_icmp, not connect_refused_rst"),
        "{reported}"
    );

    let (code, found, log) = doctor(Broken::not().with_swapped_names("sk_shutdown", "sk_destruct"));
    assert_eq!((code, &check(&found, "kernel_side")["status"]), (3, &"missing".into()));
    assert!(log.contains("kernel's log"), "{log}");
}

#[test]
fn a_self_test_that_cannot_run_says_why() {
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    namespace.run("ip link set lo down");
    let finished = namespace.within(|| Synfin::run(["doctor", "--for", "0.1"]));
    assert_eq!(finished.code, 3, "{}", finished.stdout);
    let line = finished.stdout.lines().find(|line| line.contains("self_test")).expect("the check");
    assert!(line.starts_with("missing ") && line.contains("ip link set lo up"), "{line}");
}
