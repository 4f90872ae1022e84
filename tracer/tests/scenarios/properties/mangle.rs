//! Faults in the input between the model and a tracker, and input that no model produces.

use std::{net::SocketAddr, ops::Range};

use proptest::{prelude::*, sample::Index};
use synfin::trace::{
    accept_queue::AcceptQueue,
    counters::{Counters, KERNEL_COUNTERS, KernelCounters, NetnsCounters, PortCount, Tick},
    event::{
        Accepted, Closing, Input, Opening, Reset, ResetDirection, TimeWaitChange, TimeWaitEntry,
        TimeWaitKind, Transition,
    },
    ids::{MptcpId, NetnsId, SockId},
    scan::{
        EphemeralPorts, NamespaceList, ScanBegin, ScanEnd, ScannedSocket, ScannedTimeWait,
        SocketHolder, TimeWaitReuse, Transfer,
    },
    time::Nanos,
};
use synfin_common::{
    event::{Flags, Kind},
    port_count::PortEvent,
    reset::ResetReason,
    state::TcpState,
};
use synfin_testkit::{SECOND, socket_id};

use super::world::{NAMESPACES, START};

/// A fault in the input.
#[derive(Clone, Debug)]
pub(crate) enum Mangle {
    CutOff(Index),
    BeginIn(Index),
    Drop(Index, usize),
    Repeat(Index, usize),
    Reverse(Index, usize),
    Move(Index, Index),
    Retime(Index, Nanos),
    Insert(Index, Box<Input>),
}

pub(crate) fn mangle() -> impl Strategy<Value = Mangle> {
    let index = any::<Index>;
    let some = 1..12usize;
    prop_oneof![
        1 => index().prop_map(Mangle::CutOff),
        1 => index().prop_map(Mangle::BeginIn),
        4 => (index(), some.clone()).prop_map(|(at, len)| Mangle::Drop(at, len)),
        4 => (index(), some.clone()).prop_map(|(at, len)| Mangle::Repeat(at, len)),
        4 => (index(), some).prop_map(|(at, len)| Mangle::Reverse(at, len)),
        4 => (index(), index()).prop_map(|(from, to)| Mangle::Move(from, to)),
        4 => (index(), time()).prop_map(|(at, time)| Mangle::Retime(at, time)),
        12 => (index(), wild_input()).prop_map(|(at, input)| Mangle::Insert(at, Box::new(input))),
    ]
}

impl Mangle {
    pub(crate) fn apply(&self, inputs: &mut Vec<Input>) {
        let place = |at: &Index| at.index(inputs.len() + 1);
        let range = |at: &Index, len: usize| -> Range<usize> {
            let start = place(at);
            start..inputs.len().min(start + len)
        };
        match self {
            Self::CutOff(at) => inputs.truncate(place(at)),
            Self::BeginIn(at) => drop(inputs.drain(..place(at))),
            Self::Drop(at, len) => drop(inputs.drain(range(at, *len))),
            Self::Repeat(at, len) => {
                let range = range(at, *len);
                let repeated = inputs[range.clone()].to_vec();
                inputs.splice(range.end..range.end, repeated);
            }
            Self::Reverse(at, len) => {
                let range = range(at, *len);
                inputs[range].reverse();
            }
            Self::Move(from, to) => {
                if !inputs.is_empty() {
                    let moved = inputs.remove(from.index(inputs.len()));
                    inputs.insert(to.index(inputs.len() + 1), moved);
                }
            }
            Self::Retime(at, time) => {
                if !inputs.is_empty() {
                    let at = at.index(inputs.len());
                    set_time(&mut inputs[at], *time);
                }
            }
            Self::Insert(at, input) => inputs.insert(place(at), (**input).clone()),
        }
    }
}

/// Lets the second program of the main hook record a transition that the first one has recorded, after at
/// most `later` further inputs.
pub(crate) fn record_again(inputs: &mut Vec<Input>, which: &Index, later: usize) {
    let transitions = inputs.iter().enumerate().filter_map(|(place, input)| match input {
        Input::Transition(transition) => Some((place, transition.clone())),
        _ => None,
    });
    let transitions: Vec<_> = transitions.collect();
    let Some((first, mut again)) = transitions.get(which.index(transitions.len() + 1)).cloned()
    else {
        return;
    };
    again.flags = again.flags.with(Flags::RECOVERED);
    // The socket does not change meanwhile.
    let following = inputs[first + 1..].iter().take(later);
    let place =
        first + 1 + following.take_while(|input| sock_of(input) != Some(again.sock)).count();
    for input in &mut inputs[place..] {
        if let Input::Tick(tick) = input {
            tick.counters.seen[Kind::Step as usize] += 1;
            tick.counters.recovered += 1;
        }
    }
    inputs.insert(place, Input::Transition(again));
}

fn sock_of(input: &Input) -> Option<SockId> {
    match input {
        Input::Transition(transition) => Some(transition.sock),
        Input::Reset(reset) => Some(reset.sock),
        Input::TimeWaitEntry(entry) => Some(entry.sock),
        Input::Accepted(accepted) => Some(accepted.sock),
        _ => None,
    }
}

fn set_time(input: &mut Input, time: Nanos) {
    match input {
        Input::Transition(transition) => transition.time = time,
        Input::Reset(reset) => reset.time = time,
        Input::TimeWaitEntry(entry) => entry.time = time,
        Input::TimeWaitChange(change) => change.time = time,
        Input::Accepted(accepted) => accepted.time = time,
        Input::ScanBegin(begin) => begin.time = time,
        Input::ScannedSocket(socket) => socket.time = time,
        Input::ScanEnd(end) => end.ended = time,
        Input::KernelCounters(read) => read.counters.time = time,
        Input::Tick(tick) => tick.time = time,
        Input::SocketHolders(holders) | Input::ListenerHolders(holders) => {
            *holders = holders.iter().map(|holder| SocketHolder { time, ..holder }).collect();
        }
        Input::Namespaces(list) => list.time = time,
        Input::ScannedTimeWait(_)
        | Input::Names(_)
        | Input::UnreadableRecord
        | Input::UnreadableScan => {}
    }
}

/// A time within the trace, or 0 or the maximum.
fn time() -> impl Strategy<Value = Nanos> {
    prop_oneof![
        4 => START..START + 100 * SECOND,
        1 => Just(0),
        1 => u64::MAX - 2 * SECOND..=u64::MAX,
        1 => any::<u64>(),
    ]
}

/// Arbitrary input with few sockets, namespaces and ports.
pub(crate) fn wild_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        12 => transition().prop_map(Input::Transition),
        1 => (time(), sock(), reset_direction())
            .prop_map(|(time, sock, direction)| Input::Reset(Reset { time, sock, direction })),
        2 => (time(), sock(), time_wait_kind())
            .prop_map(|(time, sock, kind)| TimeWaitEntry { time, sock, kind })
            .prop_map(Input::TimeWaitEntry),
        3 => (time(), netns(), endpoint(), endpoint(), any::<bool>())
            .prop_map(|(time, netns, local, remote, is_gone)| TimeWaitChange {
                time, netns, local, remote, is_gone
            })
            .prop_map(Input::TimeWaitChange),
        1 => (time(), sock()).prop_map(|(time, sock)| Input::Accepted(Accepted { time, sock })),
        1 => (time(), prop::collection::vec(netns(), 0..2))
            .prop_map(|(time, namespaces)| Input::Namespaces(NamespaceList { time, namespaces })),
        2 => (netns(), time())
            .prop_map(|(netns, time)| Input::ScanBegin(ScanBegin { netns, time })),
        6 => scanned_socket().prop_map(Input::ScannedSocket),
        3 => scanned_time_wait().prop_map(Input::ScannedTimeWait),
        3 => scan_end().prop_map(Input::ScanEnd),
        2 => (time(), counters(), prop::collection::vec(port_count(), 0..3))
            .prop_map(|(time, counters, ports)| Tick { time, counters, ports, awaits_scans: false })
            .prop_map(Input::Tick),
        1 => (netns(), kernel_counters())
            .prop_map(|(netns, counters)| NetnsCounters { netns, counters })
            .prop_map(Input::KernelCounters),
        1 => Just(Input::UnreadableRecord),
        1 => Just(Input::UnreadableScan),
    ]
}

fn scan_end() -> impl Strategy<Value = ScanEnd> {
    let error = prop::option::weighted(0.2, Just("gone".to_owned()));
    let facts = (prop::option::of(ephemeral_ports()), prop::option::of(kernel_counters()));
    (netns(), time(), time(), error, facts).prop_map(
        |(netns, started, ended, error, (ephemeral_ports, counters))| ScanEnd {
            netns,
            started,
            ended,
            error,
            ephemeral_ports,
            counters,
        },
    )
}

fn kernel_counters() -> impl Strategy<Value = KernelCounters> {
    (time(), any::<[u64; KERNEL_COUNTERS.len()]>())
        .prop_map(|(time, counts)| KernelCounters { time, counts })
}

/// Settings of a kernel, or of a damaged recording.
fn ephemeral_ports() -> impl Strategy<Value = EphemeralPorts> {
    let reuse = prop::sample::select(
        &[TimeWaitReuse::Never, TimeWaitReuse::Loopback, TimeWaitReuse::Always][..],
    );
    (any::<[u16; 3]>(), reuse, any::<u32>()).prop_map(
        |([first, last, reserved], reuse, reuse_after_ms)| EphemeralPorts {
            first,
            last,
            reserved,
            reuse,
            reuse_after_ms,
        },
    )
}

fn port_count() -> impl Strategy<Value = PortCount> {
    let counted = prop_oneof![4 => 0..PortEvent::COUNT as u16, 1 => any::<u16>()];
    let count = prop_oneof![4 => 1..20u64, 1 => any::<u64>()];
    (netns(), any::<u16>(), counted, count).prop_map(|(netns, port, counted, count)| PortCount {
        netns,
        port,
        counted,
        count,
    })
}

fn reset_direction() -> impl Strategy<Value = ResetDirection> {
    let reason = prop::sample::select(ResetReason::ALL);
    prop_oneof![
        Just(ResetDirection::Received),
        (reason, any::<bool>())
            .prop_map(|(reason, answer)| ResetDirection::Sent { reason, answer }),
    ]
}

fn time_wait_kind() -> impl Strategy<Value = TimeWaitKind> {
    prop::sample::select(
        &[TimeWaitKind::TimeWait, TimeWaitKind::FinWait2, TimeWaitKind::Nothing][..],
    )
}

fn sock() -> impl Strategy<Value = SockId> {
    (1..16u64).prop_map(socket_id)
}

fn netns() -> impl Strategy<Value = NetnsId> {
    prop_oneof![4 => prop::sample::select(&NAMESPACES[..]), 1 => Just(0), 1 => Just(u32::MAX)]
}

fn state() -> impl Strategy<Value = TcpState> {
    prop::sample::select(&TcpState::ALL[..])
}

fn endpoint() -> impl Strategy<Value = SocketAddr> {
    let port = prop_oneof![Just(0), Just(80), Just(40_000), Just(u16::MAX), any::<u16>()];
    (any::<bool>(), port).prop_map(|(ipv6, port)| {
        if ipv6 {
            SocketAddr::from(([0xfd00u16; 8], port))
        } else {
            SocketAddr::from(([192, 0, 2, 1], port))
        }
    })
}

/// Mostly small, sometimes the maximum.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..100u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn small_count() -> impl Strategy<Value = u32> {
    count().prop_map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn transition() -> impl Strategy<Value = Transition> {
    let opening = (small_count(), any::<[u8; 3]>()).prop_map(|(waiting, comm)| Opening {
        cgroup: 0,
        accept_queue: AcceptQueue { depth: waiting, limit: u32::MAX },
        comm: (&comm).into(),
        ..Opening::default()
    });
    let closing = (count(), count(), small_count(), prop::option::of(small_count())).prop_map(
        |(bytes_acked, bytes_received, unread, idle_ms)| Closing {
            bytes_acked,
            bytes_received,
            unread,
            idle_ms,
            drops: unread,
            segments_sent: unread,
            ..Closing::default()
        },
    );
    let what = (
        time(),
        sock(),
        netns(),
        state(),
        state(),
        endpoint(),
        endpoint(),
        any::<u16>(),
        any::<u8>(),
    );
    let details = (
        prop::option::of(small_count()),
        small_count(),
        small_count(),
        prop::option::of(opening),
        prop::option::of(closing),
    );
    (what, details).prop_map(|(what, (pid, rtt_us, total_retransmits, opening, closing))| {
        let (time, sock, netns, old, new, local, remote, flags, err) = what;
        Transition {
            time,
            sock,
            netns,
            old,
            new,
            local,
            remote,
            flags: Flags(flags.into()),
            err,
            err_soft: 0,
            pid,
            rtt_us,
            retransmits: err,
            probes: err,
            total_retransmits,
            mptcp: MptcpId::new(rtt_us.into()),
            opening,
            closing,
        }
    })
}

fn scanned_socket() -> impl Strategy<Value = ScannedSocket> {
    let what = (time(), sock(), state(), endpoint(), endpoint());
    (what, any::<Option<bool>>(), small_count(), small_count()).prop_map(
        |((time, sock, state, local, remote), port_by_connect, waiting, limit)| ScannedSocket {
            time,
            sock,
            state,
            local,
            remote,
            flags: Flags::default(),
            port_by_connect,
            retransmits: u8::MAX,
            rtt_us: u32::MAX,
            accept_queue: AcceptQueue { depth: waiting, limit },
            drops: u32::MAX,
            idle_ms: None,
            cgroup: u64::MAX,
            mptcp: MptcpId::new(waiting.into()),
            data_received_ms: Some(waiting),
            data_sent_ms: Some(u32::MAX - 1),
            port_range: None,
            min_rtt_us: None,
            transfer: Some(Transfer {
                total_retransmits: waiting,
                segments_sent: limit,
                bytes_acked: waiting.into(),
                bytes_received: limit.into(),
            }),
        },
    )
}

fn scanned_time_wait() -> impl Strategy<Value = ScannedTimeWait> {
    let remaining_ms = prop_oneof![Just(0), 0..60_000u32, Just(u32::MAX)];
    (any::<bool>(), any::<Option<bool>>(), endpoint(), endpoint(), remaining_ms).prop_map(
        |(fin_wait2, port_by_connect, local, remote, remaining_ms)| ScannedTimeWait {
            fin_wait2,
            port_by_connect,
            local,
            remote,
            remaining_ms,
        },
    )
}

fn counters() -> impl Strategy<Value = Counters> {
    let kinds = || prop::array::uniform::<_, { Kind::COUNT }>(count());
    (kinds(), kinds(), kinds(), count()).prop_map(|(seen, lost, filtered, missed)| Counters {
        seen,
        lost,
        filtered,
        refused: missed,
        missed,
        skipped: missed / 3,
        recovered: missed / 2,
    })
}
