//! Handshake durations, compared per connection with a `tcpdump` capture at each end of the link:
//! SYN to SYN-ACK for a client, SYN-ACK to ACK for a server.
//!
//! `cargo xtask test latency:: --nocapture` prints the errors.

use std::{
    collections::HashMap,
    fmt,
    net::{TcpListener, TcpStream},
    ops::RangeInclusive,
    thread,
    time::Duration,
};

use serde::Deserialize;

use crate::lab::{self, Capture, Link, Loss, Report, Segment, Synfin, accept};

/// The first port of this file's tests.
const PORT: u16 = 7501;

/// The servers' ports.
const PORTS: RangeInclusive<u16> = PORT..=LOSSES[2].0;

/// The ports whose handshakes lose a packet.
const LOSSES: [(u16, Loss); 3] =
    [(PORT + 1, Loss::Syn), (PORT + 2, Loss::SynAck), (PORT + 3, Loss::Ack)];

/// Connections per round.
const CONNECTIONS: usize = 200;

/// The bound for the median error of clean handshakes. Between the capture at the device and the
/// timestamps of TCP lies the kernel's receive path: 5 to 15 µs, on a busy virtual machine up to
/// 30 µs.
const MEDIAN: Duration = Duration::from_micros(50);
/// The bound for the 99th percentile.
const P99: Duration = Duration::from_micros(300);
/// Both bounds on this machine. An emulated CPU runs for ten milliseconds while the measurement on
/// the other one is suspended, which is too rare to affect the median.
fn bounds() -> [Duration; 2] {
    if lab::is_slow() { [lab::slowed(5 * MEDIAN), lab::slowed(10 * P99)] } else { [MEDIAN, P99] }
}

/// An interrupt between synfin's timestamp and the capture's causes an error of neither,
/// so the median round has to be within the bounds. All rounds are printed.
const ROUNDS: usize = 3;

/// Maximum number of handshakes without a duration: one in a thousand takes whole milliseconds on
/// the server, which looks like a SYN cookie and counts as unmeasured.
const COOKIE_ALIKE: usize = 4;

/// The bound for the error of a retransmitted handshake, which takes a second or more. On an emulated CPU, where
/// the other one may be suspended meanwhile, it is a tenth of that.
fn most_of_retransmitted() -> Duration {
    Duration::from_millis(if lab::is_slow() { 100 } else { 5 })
}

#[test]
fn durations_of_clean_handshakes_agree_with_a_capture() {
    let _lab = lab::enter_alone();
    let [median, p99] = bounds();
    for round_trip in [0, 1, 30, 200].map(Duration::from_millis) {
        let play = |link: &Link| {
            let listener = link.far.listen((Link::FAR, PORT));
            // More clients for longer round trips.
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
fn durations_of_retransmitted_handshakes_agree_with_a_capture() {
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
                    errors.quantile(1.0) <= most_of_retransmitted(),
                    "{role}, first {loss:?} lost"
                );
                // The sender of the lost packet has to retransmit it. Whether the other side
                // retransmits as well depends on timing.
                let sender = if loss == Loss::Syn { "client" } else { "server" };
                if role == sender {
                    let all = here.iter().all(|handshake| handshake.sent_again);
                    assert!(all, "{role}, first {loss:?} lost: {here:?}");
                }
            }
        }
    }
}

/// Longer than the first retransmission takes.
const SILENCE: Duration = Duration::from_millis(1500);

/// Makes this number of connections with this number of clients at a time, and closes them after a
/// silence, because a FIN would complete the handshake in place of a lost ACK.
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
                        // The shares add up to the count.
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

/// A handshake as reported by synfin and as captured.
#[derive(Debug)]
struct Handshake {
    role: &'static str,
    /// The listener's port.
    port: u16,
    /// Whether the capture has a retransmission of the packet that begins it.
    sent_again: bool,
    reported: Duration,
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

/// By how many seconds the wall clock is ahead of the monotonic one.
fn wall_clock() -> f64 {
    lab::unix_now() - lab::now() as f64 / 1e9
}

/// Traces `play` on a link, and captures at both ends. Returns all handshakes except those
/// that look like SYN cookies.
fn measure(make: impl Fn() -> Link, play: impl Fn(&Link)) -> Vec<Handshake> {
    let (_folder, recording) = lab::recording_file();
    let path = &*recording;
    let watch = || -> (Report, (Link, [Vec<Segment>; 2])) {
        let link = make();
        let captures = link.both().map(|namespace| Capture::begin(namespace, Link::DEVICE));
        let synfin = Synfin::watch(["report", "-o", "json", "--record", path, "--force"]);
        play(&link);
        link.wait_until_quiet();
        (synfin.finish().report(), (link, Capture::end(captures)))
    };
    let (_, (link, captured)) = lab::under("nobody set the wall clock, which tcpdump uses", || {
        let before = wall_clock();
        let found = lab::conclusive(watch);
        ((wall_clock() - before).abs() < MEDIAN.as_secs_f64()).then_some(found)
    });
    let ends = [("client", &link.near), ("server", &link.far)];
    let mut captured = captured.map(|segments| by_connection(&segments));
    let mut handshakes = Vec::new();
    let reported = Synfin::run(["connections", "-o", "json", "--from", path]);
    reported.each_line(|connection: Connection| {
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
        let class = connection.handshake.expect("a completed handshake");
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
            reported: Duration::from_micros(connection.handshake_us.expect("a duration")),
            captured,
        });
    });
    assert!(captured.iter().all(HashMap::is_empty), "synfin reports all captured handshakes");
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

/// The time from the first segment that begins a handshake to the first that answers it, and
/// whether the former was retransmitted in between.
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
    (segments[answer].time.saturating_sub(segments[begin].time), sent > 1)
}

/// The errors of synfin's durations, sorted.
struct Errors(Vec<Duration>);

impl Errors {
    fn of<'a>(handshakes: impl IntoIterator<Item = &'a Handshake>) -> Self {
        let errors = handshakes.into_iter().map(|it| it.reported.abs_diff(it.captured));
        let mut errors: Vec<_> = errors.collect();
        errors.sort_unstable();
        Self(errors)
    }

    /// The error that this share of the handshakes does not exceed.
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
