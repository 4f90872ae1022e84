//! What is counted per port because a stranger decides how often it happens.

use synfin::{
    output::{
        column::Value,
        port_columns::{COLUMNS, PortRow},
    },
    tcp::{
        coverage::{Coverage, OptionalHook},
        group_by::By,
        role::Role,
    },
    trace::{
        counters::PortCount,
        filter::Filter,
        ids::NetnsId,
        scan::{EphemeralPorts, TimeWaitReuse},
        time::ClockAnchor,
    },
    tracker::{Common, Counters, Limits},
};
use synfin_common::{
    port_count::{Counted, SynQueue},
    reset::ResetReason::{self, *},
    state::TcpState::*,
};

use crate::story::{ELSEWHERE, HERE, Sock, Story};

fn resets(netns: NetnsId, port: u16, reason: ResetReason, count: u64) -> PortCount {
    PortCount { netns, port, counted: Counted::Reset(reason).number(), count }
}

fn synacks(port: u16, count: u64) -> PortCount {
    PortCount { netns: HERE, port, counted: Counted::SynackRetransmit.number(), count }
}

fn in_syn_queue(port: u16, what: SynQueue, count: u64) -> PortCount {
    PortCount { netns: HERE, port, counted: Counted::SynQueue(what).number(), count }
}

/// A figure of a server's port, as it is written.
fn shown(story: &mut Story, port: u16, name: &str, coverage: Coverage) -> Value {
    let row = story.row(Role::Server, port);
    let row =
        PortRow { row, end: story.now, seconds: 1.0, clock: ClockAnchor::default(), coverage };
    let figure = COLUMNS.iter().find(|figure| figure.info.key == name);
    figure.unwrap_or_else(|| panic!("no figure {name}")).value(&row)
}

/// A figure's sum over all rows, and the ports of those in which it is not 0; none for the rest.
fn sum(story: &mut Story, figure: impl Fn(&Counters) -> u64) -> (u64, Vec<Option<u16>>) {
    let rows = story.rows();
    let rows = rows.iter().map(|row| (figure(&row.counters), &row.port)).filter(|row| row.0 > 0);
    let port = |port: &Common<u16>| match port {
        Common::One(port) => Some(*port),
        Common::Unknown => None,
        Common::Several(_) => panic!("a row of several ports"),
    };
    rows.fold((0, Vec::new()), |(sum, mut ports), (count, of)| {
        ports.push(port(of));
        (sum + count, ports)
    })
}

#[test]
fn a_port_that_is_often_asked_for_in_vain_gets_a_row() {
    let mut story = Story::after_walks();
    story.counts(&[resets(HERE, 8080, NoSocket, 4)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (4, vec![None]));
    story.counts(&[resets(HERE, 8080, NoSocket, 1)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (1, vec![Some(8080)]));
    story.counts(&[resets(HERE, 8080, TimeWaitSocket, 1)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (1, vec![Some(8080)]));
    // Elsewhere it is another port.
    story.counts(&[resets(ELSEWHERE, 8080, NoSocket, 4)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (4, vec![None]));
}

#[test]
fn resets_are_told_apart_by_the_kernels_reason() {
    let mut story = Story::after_walks();
    story.counts(&[resets(HERE, 80, NoSocket, 7), resets(HERE, 80, TimeWaitSocket, 2)]);
    story.counts(&[resets(HERE, 80, NoSocket, 3)]);
    let row = story.row(Role::Server, 80);
    let counted = [NoSocket, TimeWaitSocket, InvalidSyn].map(|reason| row.counters.resets(reason));
    assert_eq!((counted, row.counters.resets_total()), ([10, 2, 0], 12));
}

#[test]
fn a_scan_is_in_the_rest_and_adds_up() {
    const PORTS: u16 = 10_000;
    let mut story = Story::after_walks();
    for first in (1..PORTS).step_by(250) {
        let batch: Vec<_> =
            (first..first + 250).map(|port| resets(HERE, port, NoSocket, 1)).collect();
        story.counts(&batch);
    }
    // And what the kernel side had no room for.
    story.counts(&[resets(0, 0, NoSocket, 55)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (u64::from(PORTS) + 55, vec![None]));
    // A service that is down stays recognisable.
    for _ in 0..5 {
        story.counts(&[resets(HERE, 8080, NoSocket, 1)]);
    }
    let (count, ports) = sum(&mut story, Counters::resets_total);
    assert_eq!((count, ports.contains(&Some(8080))), (5, true));
}

#[test]
fn a_scan_makes_forget_the_few_that_came_before() {
    let mut story = Story::after_walks();
    story.counts(&[resets(HERE, 8080, NoSocket, 4)]);
    let batch: Vec<_> = (10_000..15_000).map(|port| resets(HERE, port, NoSocket, 1)).collect();
    story.counts(&batch);
    story.counts(&[resets(HERE, 8080, NoSocket, 1)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (5_005, vec![None]));
}

#[test]
fn late_segments_for_clients_are_in_the_rest() {
    let mut story = Story::new();
    story.ephemeral_ports = Some(EphemeralPorts {
        first: 32_768,
        last: 60_999,
        reserved: 0,
        reuse: TimeWaitReuse::Never,
        reuse_after_ms: 1000,
    });
    story.scan(HERE, &[]);
    story.counts(&[resets(HERE, 32_768, NoSocket, 9), resets(HERE, 60_999, NoSocket, 9)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (18, vec![None]));
    story.counts(&[resets(HERE, 32_767, NoSocket, 9), resets(HERE, 61_000, NoSocket, 9)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (18, vec![Some(32_767), Some(61_000)]));
    // Unless somebody serves the port.
    story.listens(Sock::listener(1, 40_000), "server");
    story.counts(&[resets(HERE, 40_000, InvalidSyn, 1)]);
    assert_eq!(sum(&mut story, Counters::resets_total), (1, vec![Some(40_000)]));
}

#[test]
fn synacks_that_are_sent_again_are_their_listeners() {
    let mut story = Story::after_walks();
    story.listens(Sock::listener(1, 80), "server");
    story.counts(&[synacks(80, 3), synacks(81, 1)]);
    let figure = |counters: &Counters| counters.synack_retransmits;
    assert_eq!(sum(&mut story, figure), (4, vec![Some(80), Some(81)]));
    assert_eq!(sum(&mut story, figure), (0, vec![]), "that was in the last interval");
}

#[test]
fn counts_belong_to_the_server_even_where_a_client_has_the_port() {
    let mut story = Story::after_walks();
    story.ends_in_time_wait(Sock::client(1, 40_000));
    story.counts(&[resets(HERE, 443, NoSocket, 5)]);
    assert_eq!(story.row(Role::Server, 443).counters.resets_total(), 5);
    assert_eq!(story.row(Role::Client, 443).counters.resets_total(), 0);
}

#[test]
fn where_there_is_no_room_for_rows_nothing_is_lost() {
    let mut story = Story::with(Limits { connections: 10, rows: 4 });
    let batch: Vec<_> = (1..=100).map(|port| resets(HERE, port, NoSocket, 10)).collect();
    story.counts(&batch);
    let (count, ports) = sum(&mut story, Counters::resets_total);
    assert_eq!(count, 1_000);
    assert!(ports.len() <= 5, "{ports:?}");
}

#[test]
fn filters_leave_out_what_is_counted_elsewhere() {
    let port = Filter { service_ports: vec!["80".parse().unwrap()], ..Filter::default() };
    let netns = Filter { namespaces: vec![HERE], ..Filter::default() };
    let client = Filter { role: Some(Role::Client), ..Filter::default() };
    let remote = Filter { remote: vec!["198.51.100.0/24".parse().unwrap()], ..Filter::default() };
    let counts = [
        resets(HERE, 80, NoSocket, 10),
        resets(HERE, 81, NoSocket, 20),
        resets(ELSEWHERE, 80, NoSocket, 40),
        resets(0, 0, NoSocket, 80),
        synacks(80, 100),
        synacks(81, 200),
    ];
    // Who was at the other end is not known.
    for (filter, expected) in [(port, 150), (netns, 330), (client, 0), (remote, 0)] {
        let mut story = Story::filtered(filter.clone());
        story.counts(&counts);
        let all = |counters: &Counters| counters.resets_total() + counters.synack_retransmits;
        assert_eq!(sum(&mut story, all).0, expected, "{filter:?}");
    }
}

#[test]
fn a_reader_that_does_not_know_what_is_counted_leaves_it_out() {
    let mut story = Story::after_walks();
    let unknown = PortCount { netns: HERE, port: 80, counted: Counted::COUNT as u16, count: 5 };
    story.counts(&[unknown, PortCount { counted: u16::MAX, ..unknown }]);
    assert!(story.tracker.take_snapshot().rows(By::Port).is_empty());
}

#[test]
fn counts_do_not_overflow() {
    let mut story = Story::after_walks();
    for _ in 0..3 {
        story.counts(&[resets(HERE, 80, NoSocket, u64::MAX), synacks(80, u64::MAX)]);
    }
    let row = story.row(Role::Server, 80);
    assert_eq!(row.counters.resets_total(), u64::MAX);
    assert_eq!(row.counters.synack_retransmits, u64::MAX);
}

#[test]
fn a_port_to_which_only_syns_come_has_a_row() {
    for what in SynQueue::ALL {
        let mut story = Story::after_walks();
        story.counts(&[in_syn_queue(80, what, 3), in_syn_queue(81, what, 1)]);
        let figure = |counters: &Counters| counters.syn_queue(what);
        assert_eq!(sum(&mut story, figure), (4, vec![Some(80), Some(81)]), "{what:?}");
        assert_eq!(sum(&mut story, figure), (0, vec![]), "that was in the last interval");
    }
}

#[test]
fn a_servers_attempts_are_the_handshakes_that_came_to_it() {
    use SynQueue::{Completed, Dropped, Entered, Expired};
    let all = Coverage::of(&OptionalHook::ALL.map(OptionalHook::name));
    let counts = [(Entered, 5), (Completed, 2), (Dropped, 1), (Expired, 1)];
    let mut story = Story::after_walks().exact();
    story.listens(Sock::listener(1, 80), "server");
    // Two got through; a third came without a place in the queue (a SYN cookie).
    for id in 2..5 {
        story.connection(Sock::child(id, 80), &[SynRecv, Established]);
    }
    story.counts(&counts.map(|(what, count)| in_syn_queue(80, what, count)));
    assert_eq!(shown(&mut story, 80, "attempts", all), Value::Int(6));
    // The last one gets through in the next interval: it was counted before.
    story.connection(Sock::child(5, 80), &[SynRecv, Established]);
    story.counts(&[in_syn_queue(80, Completed, 1)]);
    assert_eq!(shown(&mut story, 80, "attempts", all), Value::Int(0));
}

#[test]
fn where_syn_queues_are_not_shown_their_figures_are_unknown() {
    let all = Coverage::of(&OptionalHook::ALL.map(OptionalHook::name));
    let figures = ["attempts", "syn_queue.entered", "syn_queue.completed", "syn_queue.dropped"];
    for figure in figures.into_iter().chain(["syn_queue.expired"]) {
        for (coverage, is_known) in [(all, true), (Coverage::default(), false)] {
            let mut story = Story::after_walks();
            story.listens(Sock::listener(1, 80), "server");
            story.connection(Sock::child(2, 80), &[SynRecv, Established]);
            let value = shown(&mut story, 80, figure, coverage);
            assert_eq!(value != Value::Unknown, is_known, "{figure}");
        }
    }
}
