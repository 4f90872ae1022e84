//! A host like a container platform's: namespaces come and go all the time with traffic in each,
//! their names and inode numbers are used again, and one port is flooded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    mem,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    flood::Target,
    lab::{self, Feature, Name, Namespace, Pair, Report, Synfin, accept, connect_to, eventually},
};

/// Namespaces made and removed per second, and for how many seconds.
const PER_SECOND: usize = 50;
const SECONDS: usize = 20;

/// How long a namespace is kept after its traffic.
const KEPT: Duration = Duration::from_millis(300);

/// The namespaces that live on, which are made after all others.
const LIVING: usize = 10;

/// Names of namespaces. As many can live at once.
const NAMES: usize = 64;

/// The name of the namespace that lives from before the trace to its end.
const HOME: &str = "synfin-test-home";

/// The ports of the listener that is older than the trace, and of the flooded one.
const OLD: u16 = 9_851;
const FLOODED: u16 = 9_852;

/// Each namespace has ports of its own, by which the test knows it: two listeners and a closed port.
const FIRST_PLAIN: u16 = 10_000;
const FIRST_MPTCP: u16 = 15_000;
const FIRST_CLOSED: u16 = 20_000;

/// The ports from here on are the clients'.
const FIRST_EPHEMERAL: u16 = 32_768;

nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);

/// Written while a program starts and runs, read while sockets are closed. Until it calls execve() a
/// program holds the sockets of this process too: it would be the last to close what another thread
/// closes, whose owner would be unknown then.
static FORKED: RwLock<()> = RwLock::new(());

/// What the test knows of a namespace.
#[derive(Clone)]
struct Known {
    inode: u64,
    name: String,
}

/// An end of a connection: its role, service port and reason.
type End = (&'static str, u16, &'static str);

/// The connections that a namespace has, with the ports by its number.
struct Traffic {
    number: u16,
    has_mptcp: bool,
}

impl Traffic {
    /// Makes the connections in the current thread's namespace, and returns its listeners.
    fn play(&self) -> Vec<TcpListener> {
        let plain = listen(Protocol::TCP, FIRST_PLAIN + self.number);
        let pair = |listener: &TcpListener| pair(Protocol::TCP, listener);
        for _ in 0..3 {
            pair(&plain).close_by_client();
        }
        pair(&plain).close_by_server();
        let Pair { client, server } = pair(&plain);
        lab::reset(server);
        lab::wait_for_end(client);
        let mut unread = pair(&plain);
        mem::swap(&mut unread.client, &mut unread.server);
        unread.answer_unread(b"never read");
        drop(unread.client);
        lab::wait_for_end(unread.server);
        let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST_CLOSED + self.number));
        connect_to(lab::socket(closed.ip()), closed).expect_err("nobody listens");
        let mut listeners = vec![plain];
        if self.has_mptcp {
            let mptcp = listen(Protocol::MPTCP, FIRST_MPTCP + self.number);
            let mut both = self::pair(Protocol::MPTCP, &mptcp);
            both.send(b"question");
            both.answer(b"answer");
            both.close_by_client();
            // A client without MPTCP.
            pair(&mptcp).close_by_server();
            listeners.push(mptcp);
        }
        listeners
    }

    /// Closes the listener while a connection waits in its queue.
    fn end(mut listeners: Vec<TcpListener>) {
        let waiting = connect(Protocol::TCP, &listeners[0]);
        drop(listeners.swap_remove(0));
        lab::wait_for_end(waiting);
    }

    /// The ends of its connections, sorted. `has_ended`: whether [`Self::end`] has run.
    fn expected(&self, has_ended: bool) -> Vec<End> {
        let (plain, mptcp) = (FIRST_PLAIN + self.number, FIRST_MPTCP + self.number);
        let mut ends = vec![("client", FIRST_CLOSED + self.number, "connect_refused_rst")];
        let mut both = |count, port, client, server| {
            for _ in 0..count {
                ends.extend([("client", port, client), ("server", port, server)]);
            }
        };
        both(3, plain, "closed_by_us", "closed_by_peer");
        both(1, plain, "closed_by_peer", "closed_by_us");
        both(1, plain, "reset_by_peer", "reset_by_us_linger0");
        both(1, plain, "reset_by_peer", "reset_by_us_unread_data");
        if self.has_mptcp {
            both(1, mptcp, "closed_by_us", "closed_by_peer");
            both(1, mptcp, "closed_by_peer", "closed_by_us");
        }
        if has_ended {
            both(1, plain, "reset_by_peer", "reset_by_us_listener_closed");
        }
        ends.sort_unstable();
        ends
    }
}

fn socket(protocol: Protocol) -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, Some(protocol)).expect("a socket")
}

fn listen(protocol: Protocol, port: u16) -> TcpListener {
    let listener = socket(protocol);
    listener.set_reuse_address(true).expect("SO_REUSEADDR");
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("the address");
    listener.listen(8).expect("it listens");
    listener.into()
}

fn connect(protocol: Protocol, listener: &TcpListener) -> TcpStream {
    let to = listener.local_addr().expect("its address");
    connect_to(socket(protocol), to).expect("a connection")
}

fn pair(protocol: Protocol, listener: &TcpListener) -> Pair {
    Pair { client: connect(protocol, listener), server: accept(listener) }
}

/// The number of the current thread's namespace.
fn inode() -> u64 {
    fs::metadata(NAMESPACE).expect("the namespace's file").ino()
}

const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Sets the loopback of the current thread's namespace up.
fn set_loopback_up() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    // SAFETY: all fields are integers, or unions of integers.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is of the expected type and outlives the call.
    unsafe { set_flags(socket.as_raw_fd(), &raw const request) }.expect("the loopback");
}

/// A bind mount, as `ip netns` makes them.
struct Mounted(PathBuf);

impl Mounted {
    /// Gives the current thread's namespace a name.
    fn new(name: &str) -> Self {
        let file = Path::new("/run/netns").join(name);
        File::create(&file).expect("a file to mount on");
        let none = None::<&str>;
        mount(Some(NAMESPACE), &file, none, MsFlags::MS_BIND, none).expect("a bind mount");
        Self(file)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.0);
    }
}

/// Lives as a container does, in a new namespace of the current thread, which ends with it. A veth
/// link to [`HOME`] lives as long as the namespace does in the kernel.
fn live(traffic: &Traffic, name: String, names: &Mutex<Vec<String>>) -> Known {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    set_loopback_up();
    let mounted = Mounted::new(&name);
    let known = Known { inode: inode(), name: name.clone() };
    let device = format!("veth{}", traffic.number);
    let mut ip = Command::new("ip");
    ip.args(["link", "add", "up", "type", "veth", "peer", "name", &device, "netns", HOME]);
    {
        let _forked = FORKED.write().expect("no panic");
        assert!(ip.status().expect("ip").success());
    }
    let alone = || FORKED.read().expect("no panic");
    let listeners = {
        let _alone = alone();
        traffic.play()
    };
    thread::sleep(KEPT);
    {
        let _alone = alone();
        Traffic::end(listeners);
    }
    drop(mounted);
    // The next namespace takes it at once.
    names.lock().expect("the names").push(name);
    known
}

/// Makes and removes namespaces on a schedule, and returns them in order.
fn churn(count: usize, has_mptcp: bool, names: &Mutex<Vec<String>>) -> Vec<Known> {
    let begun = Instant::now();
    let known = thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let due = Duration::from_secs(number as u64) / PER_SECOND as u32;
                thread::sleep(due.saturating_sub(begun.elapsed()));
                let name = eventually("a name is free", || names.lock().expect("the names").pop());
                let traffic = Traffic { number: number as u16, has_mptcp };
                scope.spawn(move || live(&traffic, name, names))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a namespace")).collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    lab::note(&format!("{:.0} namespaces per second for {seconds:.1} s", count as f64 / seconds));
    known
}

/// A namespace that lives on, with open connections and TIME_WAITs.
struct Living {
    namespace: Namespace,
    known: Known,
    _name: Name,
    _open: (Vec<TcpListener>, Vec<Pair>),
    _waiting: TcpStream,
}

impl Living {
    fn new(number: usize, has_mptcp: bool, names: &Mutex<Vec<String>>) -> Self {
        let namespace = Namespace::new();
        let name = names.lock().expect("the names").pop().expect("a free name");
        let known = Known { inode: namespace.id(), name: name.clone() };
        let named = namespace.name(&name);
        let traffic = Traffic { number: number as u16, has_mptcp };
        let (listeners, pairs, waiting) = namespace.within(|| {
            let listeners = traffic.play();
            let mut pairs = vec![pair(Protocol::TCP, &listeners[0])];
            if let Some(mptcp) = listeners.get(1) {
                let mut both = pair(Protocol::MPTCP, mptcp);
                both.send(b"question");
                both.answer(b"answer");
                pairs.push(both);
            }
            let waiting = connect(Protocol::TCP, &listeners[0]);
            (listeners, pairs, waiting)
        });
        let open = (listeners, pairs);
        Self { namespace, known, _name: named, _open: open, _waiting: waiting }
    }
}

/// The gauges that are not zero, by role, port and column.
type Gauges = BTreeMap<(String, u64, &'static str), u64>;

/// The gauges of a namespace by `ss`.
fn gauges_of_kernel(namespace: &Namespace) -> Gauges {
    let mut gauges = Gauges::new();
    for socket in namespace.sockets() {
        let is_server = socket.local_port < FIRST_EPHEMERAL && socket.local_port > 9_000;
        let (role, port) =
            if is_server { ("server", socket.local_port) } else { ("client", socket.remote_port) };
        let mut add = |column, count| {
            if count > 0 {
                *gauges.entry((role.to_owned(), port.into(), column)).or_default() += count;
            }
        };
        match socket.state.as_str() {
            "LISTEN" => {
                add("accept_queue.now", socket.queue.0);
                add("listeners", 1);
            }
            "SYN-RECV" => add("half_open", 1),
            "TIME-WAIT" => add("time_wait.now", 1),
            "ESTAB" => add("states.established", 1),
            "CLOSE-WAIT" => add("states.close_wait", 1),
            other => panic!("a socket in {other}: {socket:?}"),
        }
    }
    gauges
}

/// The gauges of a report that only scans know, which are far apart on a busy host. The last report
/// has a whole round of them.
const SCANNED: [&str; 4] =
    ["accept_queue.now", "half_open", "listeners", "time_wait.fin_wait2_orphans"];

/// The gauges that every report has at once.
const GAUGES: [&str; 9] = [
    "states.close_wait",
    "states.closing",
    "states.established",
    "states.fin_wait1",
    "states.fin_wait2",
    "states.last_ack",
    "states.syn_recv",
    "states.syn_sent",
    "time_wait.now",
];

/// The gauges of the rows that `which` selects.
fn gauges_of_report(report: &Value, which: impl Fn(&Value) -> bool) -> Gauges {
    let mut gauges = Gauges::new();
    for row in report["ports"].as_array().expect("rows").iter().filter(|row| which(row)) {
        let (role, port) = (row["role"].as_str().expect("a role"), row["port"].as_u64());
        for column in GAUGES.into_iter().chain(SCANNED) {
            let value = column.split('.').fold(row, |value, part| &value[part]);
            if let Some(count @ 1..) = value.as_u64() {
                let key = (role.to_owned(), port.unwrap_or(0), column);
                *gauges.entry(key).or_default() += count;
            }
        }
    }
    gauges
}

/// The closed connections in a recording.
fn closed(recording: &str) -> Vec<Value> {
    Synfin::run(["connections", "-o", "json", "--from", recording]).json_lines()
}

/// The number of the namespace to which a service port belongs.
fn number_of(port: u64, count: usize) -> Option<usize> {
    let port = usize::try_from(port).expect("a port");
    [FIRST_PLAIN, FIRST_MPTCP, FIRST_CLOSED].into_iter().find_map(|first| {
        let number = port.checked_sub(first.into())?;
        (number < count).then_some(number)
    })
}

/// What remains of a run.
struct Played {
    /// All namespaces with traffic, those that live on at the end.
    known: Vec<Known>,
    /// Number of namespaces that live on.
    living: Vec<Living>,
    home: Target,
    /// The reports, and the first one that has to be right.
    reports: Vec<Value>,
    settled: usize,
    drops: u64,
    gauges: Vec<Gauges>,
}

impl Played {
    fn spaces(&self) -> Vec<&Namespace> {
        let living = self.living.iter().map(|living| &living.namespace);
        [&self.home.namespace].into_iter().chain(living).collect()
    }
}

/// Ends what runs until this is set, also if the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn play(recording: &str, count: usize, has_mptcp: bool) -> Played {
    let mut home = Target::new(0);
    let _name = home.namespace.name(HOME);
    // No half-open handshake expires before the end.
    home.namespace.set("ipv4/tcp_synack_retries", 10);
    let flooded = home.namespace.listen((Ipv4Addr::UNSPECIFIED, FLOODED));
    let (listener, old) = home.namespace.within(|| {
        let listener = listen(Protocol::TCP, OLD);
        let pair = pair(Protocol::TCP, &listener);
        (listener, pair)
    });
    let names = (0..NAMES).map(|number| format!("synfin-test-platform-{number}"));
    let names = Mutex::new(names.collect());
    let synfin = Synfin::watch(["report", "1", "-o", "json", "--record", recording]);
    synfin.wait_for_printed("a report", |_| true);
    let over = AtomicBool::new(false);
    let mut known = thread::scope(|scope| {
        let flood = || {
            while !over.load(Ordering::Relaxed) {
                home.flood(FLOODED, 10);
                thread::sleep(Duration::from_millis(10));
            }
        };
        let flood = scope.spawn(flood);
        let ends = Ends(&over);
        let known = churn(count, has_mptcp, &names);
        drop(ends);
        flood.join().expect("the flood");
        known
    });
    for _ in 0..5 {
        let pair = home.namespace.within(|| pair(Protocol::TCP, &listener));
        pair.close_by_client();
    }
    old.close_by_server();
    let living: Vec<_> =
        (count..count + LIVING).map(|number| Living::new(number, has_mptcp, &names)).collect();
    known.extend(living.iter().map(|living| living.known.clone()));
    eventually("the removed namespaces are gone from the kernel", || {
        (!home.namespace.run("ip -o link show").contains("veth")).then_some(())
    });
    check_no_thread_is_in_another_namespace(&synfin, &living, &home);
    let spaces = living.iter().map(|living| &living.namespace);
    let spaces: Vec<_> = [&home.namespace].into_iter().chain(spaces).collect();
    spaces[1..].iter().for_each(|namespace| namespace.wait_until_quiet());
    let quiet = SystemTime::now();
    let gauges: Vec<_> = spaces.iter().map(|namespace| gauges_of_kernel(namespace)).collect();
    thread::sleep(Duration::from_secs(3));
    let after: Vec<_> = spaces.iter().map(|namespace| gauges_of_kernel(namespace)).collect();
    assert_eq!(gauges, after, "nothing moves");
    drop(spaces);
    let reports = synfin.finish().json_lines();
    let settled = reports.iter().position(|report| {
        let end = report["interval"]["end"].as_str().expect("a time");
        let end = humantime::parse_rfc3339(end).expect("a time");
        end >= quiet + Duration::from_secs(1)
    });
    let settled = settled.expect("a report");
    let drops = home.namespace.counters().get("ListenDrops");
    drop((flooded, listener));
    Played { known, living, home, reports, settled, drops, gauges }
}

/// A thread that stays in a namespace keeps it.
fn check_no_thread_is_in_another_namespace(synfin: &Synfin, living: &[Living], home: &Target) {
    let mut allowed: BTreeSet<_> = living.iter().map(|living| living.known.inode).collect();
    allowed.extend([inode(), home.namespace.id()]);
    let tasks = format!("/proc/{}/task", synfin.process().0);
    for task in fs::read_dir(tasks).expect("its threads") {
        let namespace = task.expect("a thread").path().join("ns/net");
        // A thread may have ended.
        if let Ok(found) = fs::metadata(&namespace) {
            assert!(allowed.contains(&found.ino()), "{}", namespace.display());
        }
    }
}

/// Checks the rows of all reports.
fn check_reports(played: &Played) -> Vec<String> {
    let known = &played.known;
    let mut wrong = Vec::new();
    for (number, report) in played.reports.iter().enumerate() {
        for row in Report::new(report.clone()).rows() {
            let owner = row["port"].as_u64().and_then(|port| number_of(port, known.len()));
            let Some(owner) = owner.map(|number| &known[number]) else { continue };
            let is_named = row["netns_name"].is_null() || row["netns_name"] == owner.name;
            if row["netns"] != owner.inode || !is_named {
                let [role, port, netns, name] =
                    ["role", "port", "netns", "netns_name"].map(|column| &row[column]);
                wrong.push(format!(
                    "report {number}: {role} {port} is in {netns} {name}, not in {} {}",
                    owner.inode, owner.name
                ));
            }
        }
    }
    for (number, report) in played.reports.iter().enumerate().skip(played.settled) {
        let count = known.len() - played.living.len();
        let is_dead =
            |row: &Value| row["port"].as_u64().and_then(|port| number_of(port, count)).is_some();
        let left = gauges_of_report(report, is_dead);
        if !left.is_empty() {
            wrong.push(format!("{number}: left of removed namespaces: {left:?}"));
        }
        for (namespace, gauges) in played.spaces().into_iter().zip(&played.gauges) {
            let id = namespace.id();
            let found = gauges_of_report(report, |row| row["netns"] == id);
            let is_last = number + 1 == played.reports.len();
            let is_known = |(_, _, column): &(_, _, &str)| is_last || GAUGES.contains(column);
            let known = |gauges: &Gauges| -> Gauges {
                gauges.clone().into_iter().filter(|(key, _)| is_known(key)).collect()
            };
            if known(&found) != known(gauges) {
                wrong.push(format!("{number}: {id} has {found:?}, ss {gauges:?}"));
            }
        }
    }
    let drops = |report: &Value| {
        let id = played.home.namespace.id();
        let rows = report["ports"].as_array().expect("rows").iter();
        let rows = rows.filter(|row| row["port"] == FLOODED && row["netns"] == id);
        rows.filter_map(|row| row["listener"]["drops"].as_u64()).sum::<u64>()
    };
    let found: u64 = played.reports.iter().map(drops).sum();
    if found != played.drops {
        wrong.push(format!("{found} SYNs dropped, the kernel counts {}", played.drops));
    }
    wrong
}

/// Checks the connections of all namespaces.
fn check_connections(played: &Played, has_mptcp: bool, lines: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ends = BTreeMap::<usize, Vec<(&str, u16, &str)>>::new();
    for line in lines {
        let port = line["service_port"].as_u64().expect("a port");
        let Some(number) = number_of(port, played.known.len()) else { continue };
        let text = |name: &str| line[name].as_str().expect("text");
        ends.entry(number).or_default().push((text("role"), port as u16, text("reason")));
        let facts = [&line["netns"], &line["pid"], &line["role_assumed"], &line["preexisting"]];
        let truth: [Value; 4] =
            [played.known[number].inode.into(), process::id().into(), false.into(), false.into()];
        if facts != truth.each_ref() {
            wrong.push(format!("{number}: {facts:?}, not {truth:?}: {line}"));
        }
    }
    let count = played.known.len() - played.living.len();
    for number in 0..played.known.len() {
        let mut found = ends.remove(&number).unwrap_or_default();
        found.sort_unstable();
        let traffic = Traffic { number: number as u16, has_mptcp };
        let expected = traffic.expected(number < count);
        if found != expected {
            wrong.push(format!("{number}: {found:?}, not {expected:?}"));
        }
    }
    wrong
}

/// The connections of the listener that is older than the trace.
fn check_old(played: &Played, lines: &[Value]) {
    let home = played.home.namespace.id();
    let mut found: Vec<_> = lines
        .iter()
        .filter(|line| line["netns"] == home && line["service_port"] == OLD)
        .map(|line| {
            assert_eq!(line["pid"], process::id(), "{line}");
            let text = |name: &str| line[name].as_str().expect("text").to_owned();
            (text("role"), text("reason"), line["preexisting"].as_bool().expect("a flag"))
        })
        .collect();
    found.sort();
    let mut expected = Vec::new();
    for (role, reason, other) in
        [("client", "closed_by_us", "closed_by_peer"), ("server", "closed_by_peer", "closed_by_us")]
    {
        expected.extend((0..5).map(|_| (role.to_owned(), reason.to_owned(), false)));
        expected.push((role.to_owned(), other.to_owned(), true));
    }
    expected.sort();
    assert_eq!(found, expected);
}

/// Without optimization (`--profile testing`) synfin is too slow for it.
#[test]
fn a_host_with_namespaces_that_come_and_go_is_seen_as_it_is() {
    // Another test's namespace could take an inode number.
    let _lab = lab::enter_alone();
    if lab::is_slow() {
        return lab::skip(
            "this machine is too slow: an interrupt often finds synfin's program running",
        );
    }
    let has_mptcp = lab::since(6, 1) && !lab::lacks_for_a_part(Feature::Mptcp);
    let count = PER_SECOND * SECONDS;
    let (_folder, recording) = lab::recording_file();
    let played = lab::seen_whole(|| {
        let played = play(&recording, count, has_mptcp);
        let missed = |report: &Value| report["events"]["missed"].as_u64().expect("a count");
        (played.reports.iter().all(|report| missed(report) == 0), played)
    });
    let inodes: BTreeSet<_> = played.known.iter().map(|known| known.inode).collect();
    assert!(inodes.len() < count * 9 / 10, "{} inode numbers", inodes.len());

    let lines = closed(&recording);
    let mut wrong = check_reports(&played);
    wrong.extend(check_connections(&played, has_mptcp, &lines));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    check_old(&played, &lines);
    let findings = Synfin::run(["diagnose", "-o", "json", "--from", &recording]).findings();
    let of_flood: Vec<_> = findings.iter().filter(|it| it["id"] == "syn_flood").collect();
    let [finding] = of_flood[..] else { panic!("{findings:#?}") };
    assert_eq!(finding["port"], FLOODED);
    assert!(finding["seen"].to_string().contains(&format!("{} SYNs were dropped", played.drops)));
}
