//! How long handshakes take, against what `tcpdump` sees at either end of the same link, matched
//! connection by connection: SYN to SYN-ACK for a client, SYN-ACK to ACK for a server.
//!
//! `cargo xtask test latency:: --nocapture` prints the figures.

use std::{
    collections::HashMap,
    fmt,
    net::{TcpListener, TcpStream},
    ops::RangeInclusive,
    thread,
    time::Duration,
};

use serde::Deserialize;

use crate::lab::{self, Capture, Link, Loss, Namespace, Report, Segment, Synfin, accept};

/// The base of this file's ports.
const PORT: u16 = 7501;

/// The servers' ports.
const PORTS: RangeInclusive<u16> = PORT..=LOSSES[2].0;

/// What is lost of connections to which ports.
const LOSSES: [(u16, Loss); 3] =
    [(PORT + 1, Loss::Syn), (PORT + 2, Loss::SynAck), (PORT + 3, Loss::Ack)];

/// Of every kind.
const CONNECTIONS: usize = 200;

/// The errors of clean handshakes: half of them are at most this …
const MEDIAN: Duration = Duration::from_micros(20);
/// … and 99 in 100 at most this.
const P99: Duration = Duration::from_micros(200);
/// Both, on this machine. An emulated processor has its turn for ten milliseconds, in which what the
/// other one measures stands still; that is rare enough not to touch the median.
fn bounds() -> [Duration; 2] {
    if lab::is_slow() { [lab::slowed(5 * MEDIAN), lab::slowed(10 * P99)] } else { [MEDIAN, P99] }
}

/// What interrupts the kernel between its own clock and the capture's makes an error of either, in
/// some round. The median round is judged, and all are printed.
const ROUNDS: usize = 3;

/// A server's handshake of whole milliseconds looks like one by SYN cookie, and counts as not
/// measured: one in a thousand. So many at most are without a time.
const COOKIE_ALIKE: usize = 4;

/// The error of a retransmitted handshake.
const RETRANSMITTED: Duration = Duration::from_millis(5);

#[test]
fn clean_handshakes_take_as_long_as_a_capture_says() {
    let _lab = lab::enter_alone();
    let [median, p99] = bounds();
    for round_trip in [0, 1, 30, 200].map(Duration::from_millis) {
        let play = |link: &Link| {
            let listener = link.far.listen((Link::FAR, PORT));
            // The longer they take, the more at a time.
            let clients = 1 + usize::try_from(round_trip.as_millis() / 8).expect("few");
            connect(link, &listener, CONNECTIONS, clients, Duration::ZERO);
        };
        let rounds = [(); ROUNDS].map(|()| measure(|| Link::new(round_trip, &[]), play));
        for role in ["client", "server"] {
            let errors = rounds.each_ref().map(|handshakes| {
                let errors = Errors::of(handshakes.iter().filter(|it| it.role == role));
                eprintln!("round trip {round_trip:?}, {role}: {errors}");
                assert!(errors.0.len() + COOKIE_ALIKE >= CONNECTIONS);
                errors
            });
            for (share, most) in [(0.5, median), (0.99, p99)] {
                let mut found = errors.each_ref().map(|errors| errors.quantile(share));
                found.sort_unstable();
                assert!(
                    found[ROUNDS / 2] <= most,
                    "round trip {round_trip:?}, {role}: of {share} of the handshakes the error is \
                     at most {found:?} in {ROUNDS} rounds; half of these may be above {most:?}"
                );
            }
        }
    }
}

#[test]
fn retransmitted_handshakes_take_as_long_as_a_capture_says() {
    const EACH: usize = 20;
    let _lab = lab::enter_alone();
    for timestamps in [1, 0] {
        let lossy = || {
            let link = Link::new(Duration::from_millis(10), &LOSSES);
            link.near.set("ipv4/tcp_timestamps", timestamps);
            link
        };
        let play = |link: &Link| {
            thread::scope(|scope| {
                for (port, _) in LOSSES {
                    let listener = link.far.listen((Link::FAR, port));
                    scope.spawn(move || connect(link, &listener, EACH, EACH, SILENCE));
                }
            });
        };
        let handshakes = measure(lossy, play);
        for (port, loss) in LOSSES {
            for role in ["client", "server"] {
                let here: Vec<_> =
                    handshakes.iter().filter(|it| (it.role, it.port) == (role, port)).collect();
                let errors = Errors::of(here.iter().copied());
                eprintln!("timestamps {timestamps}, first {loss:?} lost, {role}: {errors}");
                assert!(here.len() + COOKIE_ALIKE >= EACH);
                assert!(
                    errors.quantile(1.0) <= lab::slowed(RETRANSMITTED),
                    "{role}, first {loss:?} lost"
                );
                // Whoever sent what was lost has to send it again. Whether the other one does as
                // well depends on who is faster.
                let sender = if loss == Loss::Syn { "client" } else { "server" };
                if role == sender {
                    let all = here.iter().all(|handshake| handshake.sent_again);
                    assert!(all, "{role}, first {loss:?} lost: {here:?}");
                }
            }
        }
    }
}

/// Longer than it takes until what was lost has been sent again.
const SILENCE: Duration = Duration::from_millis(1500);

/// Makes so many connections to a listener, by so many clients at a time, and closes them after a
/// silence: what a client sends, if only to close, would end a handshake in its ACK's place.
fn connect(link: &Link, listener: &TcpListener, count: usize, clients: usize, silence: Duration) {
    let address = listener.local_addr().expect("its address");
    thread::scope(|scope| {
        scope.spawn(|| {
            let accepted: Vec<_> = (0..count).map(|_| accept(listener)).collect();
            accepted.into_iter().for_each(lab::wait_for_end);
        });
        scope.spawn(|| {
            link.near.within(|| {
                thread::scope(|scope| {
                    for client in 0..clients {
                        // All of them, whatever the remainder.
                        let share = (count + client) / clients;
                        scope.spawn(move || {
                            let connect = |_| TcpStream::connect(address).expect("a connection");
                            let open: Vec<_> = (0..share).map(connect).collect();
                            thread::sleep(silence);
                            drop(open);
                        });
                    }
                });
            });
        });
    });
}

/// A handshake, as synfin tells of it and as it was captured.
#[derive(Debug)]
struct Handshake {
    role: &'static str,
    /// The listener's port.
    port: u16,
    /// As captured: what begins it was sent more than once.
    sent_again: bool,
    told: Duration,
    captured: Duration,
}

/// A line of `synfin connections`.
#[derive(Deserialize)]
struct Connection {
    role: String,
    netns: u64,
    local_port: u16,
    remote_port: u16,
    handshake: Option<String>,
    handshake_us: Option<u64>,
    handshake_retransmits: Option<u64>,
}

/// Watches what is played on a link, with synfin and at both ends of it. Handshakes that look like
/// ones by SYN cookie are not among those returned.
fn measure(make: impl Fn() -> Link, play: impl Fn(&Link)) -> Vec<Handshake> {
    let recording = tempfile::NamedTempFile::new().expect("a file");
    let path = recording.path().to_str().expect("a plain path");
    let watch = || -> (Report, (Link, [Vec<Segment>; 2])) {
        let link = make();
        let captures = link.both().map(|namespace| Capture::begin(namespace, Link::DEVICE));
        let synfin = Synfin::watch(["report", "-o", "json", "--record", path]);
        play(&link);
        link.both().into_iter().for_each(Namespace::settle);
        (synfin.finish().report(), (link, Capture::end(captures)))
    };
    let (_, (link, captured)) = lab::conclusive(watch);
    let ends = [("client", &link.near), ("server", &link.far)];
    let mut captured = captured.map(|segments| by_connection(&segments));
    let mut handshakes = Vec::new();
    let told = Synfin::run(["connections", "-o", "json", "--from", path]);
    told.each_line(|connection: Connection| {
        let end = ends.iter().position(|&(role, namespace)| {
            connection.role == role && connection.netns == namespace.id()
        });
        let Some(end) = end else { return };
        let (role, _) = ends[end];
        let ports = match role {
            "client" => [connection.local_port, connection.remote_port],
            _ => [connection.remote_port, connection.local_port],
        };
        let segments = captured[end].remove(&ports).expect("captured packets");
        let (captured, sent_again) = captured_handshake(role, &segments);
        let class = connection.handshake.expect("it got through");
        if (role, &*class) == ("server", "unmeasured") {
            let off_a_millisecond = captured.subsec_micros() % 1_000;
            let error = off_a_millisecond.min(1_000 - off_a_millisecond);
            assert!(Duration::from_micros(error.into()) <= bounds()[1], "{captured:?} has no time");
            return;
        }
        let expected = if sent_again { "retransmitted" } else { "clean" };
        assert_eq!(class, expected, "{role}: {segments:?}");
        assert_eq!(connection.handshake_retransmits > Some(0), sent_again, "{role}: {segments:?}");
        handshakes.push(Handshake {
            role,
            port: ports[1],
            sent_again,
            told: Duration::from_micros(connection.handshake_us.expect("its time")),
            captured,
        });
    });
    assert!(captured.iter().all(HashMap::is_empty), "synfin saw all that was captured");
    handshakes
}

/// The segments of each connection, by the ports of client and server.
fn by_connection(segments: &[Segment]) -> HashMap<[u16; 2], Vec<Segment>> {
    let mut connections: HashMap<_, Vec<_>> = HashMap::new();
    for segment in segments {
        let [from, to] = segment.ports;
        let is_server = PORTS.contains(&from);
        let ports = if is_server { [to, from] } else { [from, to] };
        connections.entry(ports).or_default().push(*segment);
    }
    connections
}

/// How long it took from the first segment that begins a handshake to the first that answers it,
/// and whether another one that begins it was between them.
fn captured_handshake(role: &str, segments: &[Segment]) -> (Duration, bool) {
    let [begins, answers] = match role {
        "client" => [(true, false), (true, true)],
        _ => [(true, true), (false, true)],
    };
    let flags = |segment: &Segment| (segment.syn, segment.ack);
    let first = |wanted| {
        let at = segments.iter().position(|segment| flags(segment) == wanted);
        at.unwrap_or_else(|| panic!("no handshake: {segments:?}"))
    };
    let (begin, answer) = (first(begins), first(answers));
    let sent = segments[begin..answer].iter().filter(|segment| flags(segment) == begins).count();
    (segments[answer].time - segments[begin].time, sent > 1)
}

/// How far off synfin is, from the least to the most.
struct Errors(Vec<Duration>);

impl Errors {
    fn of<'a>(handshakes: impl IntoIterator<Item = &'a Handshake>) -> Self {
        let errors = handshakes.into_iter().map(|it| it.told.abs_diff(it.captured));
        let mut errors: Vec<_> = errors.collect();
        errors.sort_unstable();
        Self(errors)
    }

    /// At most this is such a share of them.
    fn quantile(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0[rank.max(1) - 1]
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, most] = [0.5, 0.99, 1.0].map(|share| self.quantile(share));
        let count = self.0.len();
        write!(f, "{count} handshakes, error median {median:?}, p99 {p99:?}, most {most:?}")
    }
}
