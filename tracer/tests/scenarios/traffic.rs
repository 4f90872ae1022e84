//! What scans show of the traffic of open connections: segments, round trips and bytes.

use proptest::{collection::vec, prelude::*};
use synfin::{
    findings::diagnose,
    tcp::{group_by::By, handshake::Handshake},
    trace::{
        event::{Closing, Input},
        scan::{ScannedSocket, Transfer},
        session::Session,
    },
    tracker::{Limits, Segments, Snapshot, Tracker},
};
use synfin_common::{event::Flags, state::TcpState::*};
use synfin_testkit::{HERE, SECOND, Socket, TracedKernel, Tracked, closing};

/// An established connection of which a scan finds that it has sent and retransmitted so many segments
/// since it began.
fn found(sock: Socket, (segments_sent, total_retransmits): (u32, u32)) -> ScannedSocket {
    let transfer = Transfer { segments_sent, total_retransmits, ..Transfer::default() };
    let port_by_connect = Some(true);
    ScannedSocket { transfer: Some(transfer), port_by_connect, ..sock.scanned(Established) }
}

/// It ends after so many segments.
fn ends(kernel: &mut TracedKernel, sock: Socket, (segments_sent, total_retransmits): (u32, u32)) {
    kernel.closes_with(sock, Established, |end| {
        end.flags = Flags::HAS_SOCKET;
        end.total_retransmits = total_retransmits;
        end.closing = Some(Closing { segments_sent, ..closing(0, 0) });
    });
}

fn segments_in(snapshot: &Snapshot) -> (u64, u64) {
    let rows = snapshot.rows(By::Port);
    let sum = |of: fn(&Segments) -> u64| -> u64 {
        rows.iter().map(|row| of(&row.stats.counters.segments)).sum()
    };
    (sum(|segments| segments.sent), sum(|segments| segments.retransmitted))
}

/// Segments sent and retransmitted in the interval until now.
fn segments(kernel: &mut TracedKernel) -> (u64, u64) {
    segments_in(&kernel.tracker.take_snapshot())
}

#[test]
fn segments_count_from_one_scan_to_the_next() {
    let [old, young] = [1, 2].map(|id| Socket::client(id, 40_000 + id as u16));
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &[found(old, (1_000, 500))]);
    assert_eq!(segments(&mut kernel), (0, 0), "it sent them before the trace");
    kernel.scan(HERE, &[found(old, (1_100, 504))]);
    assert_eq!(segments(&mut kernel), (100, 4));
    kernel.connection(young, &[SynSent, Established]);
    kernel.scan(HERE, &[found(old, (1_100, 504)), found(young, (10, 1))]);
    assert_eq!(segments(&mut kernel), (10, 1));
    ends(&mut kernel, old, (1_150, 506));
    assert_eq!(segments(&mut kernel), (0, 0), "the next scan shows the others of the row");
    kernel.scan(HERE, &[found(young, (12, 1))]);
    assert_eq!(segments(&mut kernel), (52, 2));
    ends(&mut kernel, young, (20, 1));
    assert_eq!(segments(&mut kernel), (0, 0));
    kernel.scan(HERE, &[]);
    assert_eq!(segments(&mut kernel), (8, 0), "of the row without a connection");
}

#[test]
fn segments_of_a_connection_that_no_scan_found_count_at_its_end() {
    let [old, young] = [1, 2].map(|id| Socket::client(id, 40_000 + id as u16));
    let mut kernel = TracedKernel::traced();
    kernel.connection(young, &[SynSent, Established]);
    ends(&mut kernel, young, (20, 1));
    ends(&mut kernel, old, (1_000, 500));
    kernel.finish();
    assert_eq!(segments(&mut kernel), (20, 1), "of the old one it is not known when it sent them");
}

#[test]
fn a_lost_end_hides_segments_but_invents_none() {
    let [lost, kept] = [1, 2].map(|id| Socket::client(id, 40_000 + id as u16));
    let mut kernel = TracedKernel::scanned();
    kernel.connection(lost, &[SynSent, Established]);
    kernel.connection(kept, &[SynSent, Established]);
    kernel.scan(HERE, &[found(lost, (100, 9)), found(kept, (10, 0))]);
    kernel.scan(HERE, &[found(kept, (50, 0))]);
    kernel.scan(HERE, &[found(kept, (60, 1))]);
    assert_eq!(segments(&mut kernel), (120, 10));
}

/// Something that happens to one of the connections.
#[derive(Clone, Copy, Debug)]
enum Act {
    Begins,
    Sends(u32, u32),
    Ends,
    /// A scan finds all open connections, some of them twice. The connection ends before that or after.
    Scans {
        ends_first: bool,
        fails: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Model {
    socket: Socket,
    sent: (u32, u32),
    /// What it had sent when the trace began.
    before: (u32, u32),
    is_open: bool,
}

impl Model {
    /// What it has sent while it was watched.
    fn watched(&self) -> (u64, u64) {
        ((self.sent.0 - self.before.0).into(), (self.sent.1 - self.before.1).into())
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Begins),
        4 => (0..50_u32, 0..5_u32).prop_map(|(first, again)| Act::Sends(first + again, again)),
        2 => Just(Act::Ends),
        4 => any::<(bool, bool)>().prop_map(|(ends_first, fails)| Act::Scans { ends_first, fails }),
    ]
}

fn find(kernel: &mut TracedKernel, models: &[Model]) {
    for model in models.iter().filter(|model| model.is_open) {
        for _ in 0..=(model.socket.id % 2) {
            let found = found(model.socket, model.sent);
            kernel.report(Input::ScannedSocket(ScannedSocket { time: kernel.now, ..found }));
        }
    }
}

fn scan_ends(kernel: &mut TracedKernel, fails: bool) {
    if fails { kernel.scan_fails(HERE) } else { kernel.scan_ends(HERE) }
}

proptest! {
    #[test]
    fn segments_are_those_sent_while_watched(
        first_fails in any::<bool>(),
        acts in vec((0..4_usize, act()), 0..60),
    ) {
        let mut kernel = TracedKernel::traced();
        let old = |id| {
            let socket = Socket::client(id, 40_000 + id as u16);
            Model { socket, sent: (500, 100), before: (500, 100), is_open: true }
        };
        let mut models: Vec<_> = (0..4).map(old).collect();
        let (mut counted, mut expected) = (Vec::new(), Vec::new());
        let mut end = |kernel: &mut TracedKernel, model: &mut Model| {
            if std::mem::take(&mut model.is_open) {
                ends(kernel, model.socket, model.sent);
                expected.push(model.watched());
            }
        };
        kernel.scan_begins(HERE);
        find(&mut kernel, &models);
        scan_ends(&mut kernel, first_fails);
        for (at, act) in acts {
            let model = &mut models[at];
            match act {
                Act::Begins if !model.is_open => {
                    kernel.connection(model.socket, &[SynSent, Established]);
                    *model = Model { sent: (0, 0), before: (0, 0), is_open: true, ..*model };
                }
                Act::Sends(sent, again) if model.is_open => {
                    model.sent = (model.sent.0 + sent, model.sent.1 + again);
                }
                Act::Begins | Act::Sends(..) => {}
                Act::Ends => end(&mut kernel, model),
                Act::Scans { ends_first, fails } => {
                    kernel.scan_begins(HERE);
                    if ends_first {
                        end(&mut kernel, model);
                    }
                    find(&mut kernel, &models);
                    end(&mut kernel, &mut models[at]);
                    scan_ends(&mut kernel, fails);
                }
            }
            counted.push(segments(&mut kernel));
        }
        kernel.scan_begins(HERE);
        find(&mut kernel, &models);
        kernel.scan_ends(HERE);
        counted.push(segments(&mut kernel));
        expected.extend(models.iter().filter(|model| model.is_open).map(Model::watched));
        let sum = |counts: &[(u64, u64)]| -> (u64, u64) {
            (counts.iter().map(|it| it.0).sum(), counts.iter().map(|it| it.1).sum())
        };
        prop_assert_eq!(sum(&counted), sum(&expected));
    }
}

#[test]
fn a_row_has_the_round_trips_of_its_open_connections() {
    let socks: Vec<_> = (1..=100).map(|id| Socket::client(id, 40_000 + id as u16)).collect();
    let found = |rtt_us: fn(u64) -> u32| -> Vec<_> {
        let found = |sock: &Socket| ScannedSocket {
            rtt_us: rtt_us(sock.id),
            ..found(*sock, (10, u32::from(sock.id > 80)))
        };
        socks.iter().map(found).collect()
    };
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &found(|_| 7));
    kernel.scan(HERE, &found(|id| id as u32));
    let row = kernel.only_row();
    let quantiles = [0.5, 0.99].map(|quantile| row.stats.scanned.rtt.quantile(quantile));
    assert_eq!(quantiles, [Some(50), Some(99)], "those of the last scan");
    assert_eq!(row.stats.scanned.retransmitting, 20);
    assert_eq!(row.stats.gauges.preexisting, 100);
    ends(&mut kernel, socks[0], (10, 0));
    kernel.finish();
    assert_eq!(kernel.only_row().stats.gauges.preexisting, 99);
}

#[test]
fn a_retransmitted_syn_is_no_lost_segment() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.opens(sock, (Close, SynSent), None);
    kernel.establishes(sock, SynSent, 1_030_000, 1, Flags::default());
    let handshake = kernel.only_connection().handshake;
    assert!(matches!(handshake, Some(Handshake::Retransmitted { times: 1, .. })), "{handshake:?}");
    kernel.scan(HERE, &[found(sock, (10, 1))]);
    assert_eq!(kernel.only_row().stats.scanned.retransmitting, 0);
    kernel.scan(HERE, &[found(sock, (20, 3))]);
    assert_eq!(segments(&mut kernel), (10, 2));
}

/// What `diagnose` says about the path of three old connections, of which scans at the begin and at the
/// end of an interval found that each had sent and retransmitted so many segments.
fn said_of_path(before: (u32, u32), after: (u32, u32)) -> Vec<String> {
    let socks = [1, 2, 3].map(|id| Socket::client(id, 40_000 + id as u16));
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &socks.map(|sock| found(sock, before)));
    kernel.wait(10);
    let rtt_us = 5_000;
    kernel.scan(HERE, &socks.map(|sock| ScannedSocket { rtt_us, ..found(sock, after) }));
    let found = diagnose(&Session::default(), &kernel.tracker.take_snapshot());
    found
        .into_iter()
        .map(|finding| {
            assert_eq!(finding.rule.id, "path_loses");
            format!("{} | {}", finding.seen, finding.next_step.command)
        })
        .collect()
}

#[test]
fn a_path_that_loses_segments_of_open_connections_is_found() {
    assert_eq!(
        said_of_path((1_000_000, 0), (1_000_100, 2)),
        [
            "6 of 300 segments were retransmitted (2.0 %), by 3 of 3 connections that are open; half of the round trips took 5 ms or less | synfin connections --open -P 443 --role client --remote 192.0.2.80/32 -N 1"
        ]
    );
    assert_eq!(said_of_path((1_000, 100), (1_100, 100)), [""; 0], "it lost them before the trace");
    assert_eq!(said_of_path((0, 0), (1_000, 9)), [""; 0], "not enough of all");
}

#[test]
fn the_traffic_of_an_open_connection_is_that_of_the_last_scan() {
    let tracker = Tracker::new(Limits::default(), SECOND).with_traffic();
    let mut kernel = TracedKernel::new(SECOND, Tracked::new(tracker));
    let sock = Socket::client(1, 40_000);
    kernel.connection(sock, &[SynSent, Established]);
    assert!(kernel.tracker.traffic(sock.id).is_none());
    let found = |bytes_acked, bytes_received| {
        let transfer =
            Transfer { total_retransmits: 4, segments_sent: 9, bytes_acked, bytes_received };
        let (transfer, min_rtt_us) = (Some(transfer), Some(80));
        ScannedSocket { transfer, rtt_us: 90, min_rtt_us, ..sock.scanned(Established) }
    };
    kernel.at(1_000).scan(HERE, &[found(1, 0)]);
    let traffic = kernel.tracker.traffic(sock.id).expect("it was found");
    assert_eq!((traffic.sent_per_s(), traffic.received_per_s()), (None, None), "a single scan");
    kernel.at(3_000).scan(HERE, &[found(2_001, 500)]);
    let traffic = *kernel.tracker.traffic(sock.id).expect("it was found");
    let last = traffic.last;
    assert_eq!((last.rtt_us, last.min_rtt_us, last.retransmits), (Some(90), Some(80), Some(4)));
    assert_eq!((last.bytes_sent, last.bytes_received), (Some(2_000), Some(500)), "without the SYN");
    assert_eq!((traffic.sent_per_s(), traffic.received_per_s()), (Some(1_000.0), Some(250.0)));

    // The next connection of the same socket begins anew.
    kernel.closes(sock, Established, Flags::HAS_SOCKET, 0);
    kernel.connection(sock, &[SynSent, Established]);
    assert!(kernel.tracker.traffic(sock.id).is_none());
    kernel.scan(HERE, &[found(11, 0)]);
    let traffic = *kernel.tracker.traffic(sock.id).expect("it was found");
    assert_eq!((traffic.last.bytes_sent, traffic.sent_per_s()), (Some(10), None));
}
