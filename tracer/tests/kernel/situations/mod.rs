//! `diagnose` on a host with all [`SITUATIONS`] and [`HEALTHY`] loads at once: the right finding for
//! each of them, and no other, both live and from a recording.

mod both;
mod clients;
mod healthy;
mod servers;
#[path = "../../situations/mod.rs"]
mod tried;

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::{Mutex, OnceLock},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use synfin::{findings::thresholds::LEAST, tracker::LONG};
use synfin_common::state::TcpState;

use self::tried::{HEALTHY, SITUATIONS, Situation};
use crate::{
    flood::Target,
    lab::{self, Namespace, Pair, Synfin, Wire, wait_for_state},
};

/// As few connections as can be a pattern.
const FEW: usize = LEAST as usize;

/// The port of the first situation; the others follow.
const FIRST_PORT: u16 = 9701;

/// An address that only the servers of [`Stage::within`] have.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 2));

/// The length of an observation, unless the user says otherwise.
const DEFAULT: Duration = Duration::from_secs(10);

/// The host, and what it is connected to.
struct Stage {
    /// A link over which clients of this host reach servers of others.
    outward: Wire,
    /// A link over which clients of other hosts reach servers of this one.
    inward: Wire,
    /// A link of which both ends belong to this host.
    within: Wire,
    /// Like `outward`, with 100 ephemeral ports.
    few_ports: Wire,
    /// Like `outward`, with a TIME_WAIT table of two entries.
    small_table: Wire,
    flooded: Mutex<Target>,
    /// Held while a child begins, which has a copy of every socket until it executes its program, and
    /// while a listener closes, which takes effect with its last copy.
    children: Mutex<()>,
    /// Set when synfin watches.
    is_watched: OnceLock<()>,
    /// Set when it no longer does.
    is_over: OnceLock<()>,
}

impl Stage {
    fn new() -> Self {
        let [outward, inward, within, few_ports, small_table] =
            std::array::from_fn(|_| Wire::new());
        for (namespace, address) in [(&within.near, "10.78.0.1"), (&within.far, "10.78.0.2")] {
            namespace.run(&format!("ip address add {address}/24 dev wire"));
        }
        outward.near.set("ipv4/tcp_syn_retries", 1);
        few_ports.near.set("ipv4/ip_local_port_range", "40000 40099");
        small_table.near.set("ipv4/tcp_max_tw_buckets", 2);
        Self {
            outward,
            inward,
            within,
            few_ports,
            small_table,
            flooded: Mutex::new(Target::new(0)),
            children: Mutex::new(()),
            is_watched: OnceLock::new(),
            is_over: OnceLock::new(),
        }
    }

    /// The namespaces of the host.
    fn namespaces(&self) -> String {
        let Self { outward, inward, within, few_ports, small_table, .. } = self;
        let flooded = self.flooded.lock().expect("no failure").namespace.id();
        let others = [
            &outward.near,
            &inward.far,
            &within.near,
            &within.far,
            &few_ports.near,
            &small_table.near,
        ];
        format!("{},{flooded}", lab::ids(others))
    }
}

/// Lets all plays go on, and in the end come to their end, even if the test fails.
struct Curtain<'a>(&'a Stage);

impl Drop for Curtain<'_> {
    fn drop(&mut self) {
        let Stage { is_watched, is_over, .. } = self.0;
        is_watched.get_or_init(|| ());
        is_over.get_or_init(|| ());
    }
}

/// A situation while it is played.
struct Play<'a> {
    stage: &'a Stage,
    name: &'static str,
    port: u16,
}

impl Play<'_> {
    /// Where servers listen whose clients are elsewhere, and the other way round.
    fn at(&self) -> SocketAddr {
        (Wire::FAR4, self.port).into()
    }

    /// Where servers listen whose clients are on this host.
    fn here(&self) -> SocketAddr {
        (HERE, self.port).into()
    }

    /// Waits until synfin watches.
    fn begin(&self) {
        self.stage.is_watched.wait();
    }

    /// Keeps everything until synfin has reported.
    fn keep<T>(&self, all: T) {
        self.stage.is_over.wait();
        drop(all);
    }

    /// Drops incoming packets of this port that also match a rule.
    fn drop_packets(&self, namespace: &Namespace, rule: &str) {
        self.filter(namespace, &format!("{rule} drop"));
    }

    fn filter(&self, namespace: &Namespace, rule: &str) {
        let _alone = self.stage.children.lock().expect("no failure");
        namespace.filter(self.name, rule);
    }

    fn close(&self, listener: TcpListener) {
        let _alone = self.stage.children.lock().expect("no failure");
        drop(listener);
    }
}

/// Connects as often as a pattern needs.
fn few_pairs(wire: &Wire, listener: &TcpListener) -> Vec<Pair> {
    let at = listener.local_addr().expect("its address");
    wire.pairs(listener, at, FEW).collect()
}

/// Fails to connect as often as a pattern needs.
fn be_refused(from: &Namespace, at: SocketAddr) {
    for _ in 0..FEW {
        from.connect(at).expect_err("it is refused");
    }
}

/// Clients send a question and close, and the answer comes after that.
fn answer_too_late(pairs: Vec<Pair>) {
    for mut pair in pairs {
        pair.send(b"question");
        let mut server = pair.leak_server();
        server.write_all(b"answer").expect("the data is sent");
        wait_for_state(&server, TcpState::Close);
    }
}

type PlayFn = fn(&Play<'_>);

macro_rules! plays {
    ($($module:ident: $($name:ident)*;)*) => {
        /// All plays, by the name of their situation.
        const PLAYS: &[(&str, PlayFn)] = &[$($((stringify!($name), $module::$name),)*)*];
    };
}

plays! {
    clients:
        refused rejected unanswered given_up given_up_early waits host_down spread syn_lost path_dies black_hole lossy lossy_open forgotten used_once_more
        reset_in_use client_does_not_read answer_too_late client_leaks ports_run_out table_is_full;
    servers:
        overflows hangs hangs_since accepts_late half_open flooded restarts closes_partly not_there elsewhere
        checked impatient server_leaks clients_vanish;
    both:
        server_does_not_read nobody_here overflows_here one_address resets_here restarts_here;
    healthy:
        scan load_test server_closes half_closes kept_alive idle bulk rolling_restart handed_over
        early_client cancelled closes_later;
}

/// The ports of all situations and healthy loads.
fn ports() -> impl Iterator<Item = (&'static str, u16)> {
    let names = SITUATIONS.iter().map(|situation| situation.name);
    names.chain(HEALTHY.iter().map(|load| load.name)).zip(FIRST_PORT..)
}

#[test]
fn every_situation_is_diagnosed_and_no_other() {
    let _lab = lab::enter_alone();
    let (_folder, recording) = lab::recording_file();
    let stage = Stage::new();
    let found = thread::scope(|scope| {
        let curtain = Curtain(&stage);
        for (name, port) in ports() {
            let (_, play) = PLAYS.iter().find(|play| play.0 == name).expect("its function");
            let stage = &stage;
            let work = move || play(&Play { stage, name, port });
            thread::Builder::new().name(name.into()).spawn_scoped(scope, work).expect("a thread");
        }
        // Some situations are older than the trace.
        thread::sleep(LONG + lab::slowed(Duration::from_secs(1)));
        let ids = stage.namespaces();
        let mut diagnose = vec!["diagnose", "-o", "json", "-N", &ids, "--record", &recording];
        let longer = format!("{}s", lab::slowed(DEFAULT).as_secs());
        if lab::is_slow() {
            diagnose.extend(["--for", &longer]);
        }
        let synfin = Synfin::watch(diagnose);
        stage.is_watched.get_or_init(|| ());
        let found = synfin.end().findings();
        drop(curtain);
        found
    });
    let differences = differences(&found);
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    let again = Synfin::run(["diagnose", "-o", "json", "--from", &recording]).findings();
    let differences = self::differences(&again);
    assert!(differences.is_empty(), "from the recording:\n{}", differences.join("\n"));
    store(&found);
}

/// What is not as expected.
fn differences(found: &[Value]) -> Vec<String> {
    let mut differences = Vec::new();
    let is_known = |finding: &Value| ports().any(|(_, port)| finding["port"] == port);
    for finding in found.iter().filter(|finding| !is_known(finding)) {
        differences.push(format!("no situation has this: {finding:#}"));
    }
    for (name, port) in ports() {
        let here: Vec<_> = found.iter().filter(|finding| finding["port"] == port).collect();
        if let Some(load) = HEALTHY.iter().find(|it| it.name == name) {
            let what = load.what;
            differences.extend(here.iter().map(|it| format!("{what}: is healthy, not {it:#}")));
        }
        if let Some(situation) = SITUATIONS.iter().find(|it| it.name == name) {
            let found = match here[..] {
                [finding] => difference(situation, finding, port),
                _ => Some("one finding is expected".to_owned()),
            };
            let what = situation.what;
            differences.extend(found.map(|it| format!("{what}: {it}, found {here:#?}")));
        }
    }
    differences
}

fn difference(situation: &Situation, finding: &Value, port: u16) -> Option<String> {
    let expected = &situation.finding;
    for (key, expected) in
        [("id", expected.id), ("role", expected.role), ("severity", expected.severity)]
    {
        if finding[key] != expected {
            return Some(format!("{key} is not {expected}"));
        }
    }
    let said =
        ["seen", "affects", "knob", "command", "capture"].map(|key| finding[key].to_string());
    let said = said.join(" ");
    let port = format!(" -P {port} ");
    let parts = expected.says.iter().copied().chain([port.as_str()]);
    let missing = parts.into_iter().find(|part| !said.contains(part));
    missing.map(|part| format!("it does not say {part:?}"))
}

/// Stores what was said, for `docs/findings.md`.
fn store(found: &[Value]) {
    if env::var_os("UPDATE_SITUATIONS").is_none() {
        return;
    }
    let said = |(name, port): (&'static str, u16)| {
        let finding = found.iter().find(|finding| finding["port"] == port)?;
        Some((name, json!({"seen": finding["seen"], "affects": finding["affects"]})))
    };
    let said: BTreeMap<_, _> = ports().filter_map(said).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/situations/said.json");
    let text = serde_json::to_string_pretty(&said).expect("text") + "\n";
    let text = text.replace(fs::read_to_string("/proc/self/comm").expect("a name").trim(), "app");
    fs::write(file, text).expect("the file");
}
