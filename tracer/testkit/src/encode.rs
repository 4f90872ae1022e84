//! Encodes input as the bytes that the eBPF programs write.

use std::net::{IpAddr, SocketAddr};

use synfin::trace::{
    event::{
        Accepted, Input, Opening, Reset, ResetDirection, TimeWaitChange, TimeWaitEntry,
        TimeWaitKind,
    },
    ids::MptcpId,
};
use synfin_common::{
    event::{self as wire, Flags, Kind},
    scan::{self, FASTREUSE_UNKNOWN},
    state::TcpState,
};
use zerocopy::IntoBytes;

/// A batch as read from the ring buffer: each record is preceded by its length.
///
/// # Panics
///
/// If an input is not a hook's record.
#[must_use]
pub fn batch<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Vec<u8> {
    inputs.into_iter().flat_map(|input| sized(&record(input))).collect()
}

/// A record preceded by its length.
#[expect(clippy::cast_possible_truncation, reason = "records are short")]
#[must_use]
pub fn sized(record: &[u8]) -> Vec<u8> {
    [&(record.len() as u32).to_le_bytes(), record].concat()
}

/// The output of a scan.
///
/// # Panics
///
/// If an input is not the output of a scan.
#[must_use]
pub fn scan<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Vec<u8> {
    inputs.into_iter().flat_map(found).collect()
}

/// The bytes that a hook writes for this input.
fn record(input: &Input) -> Vec<u8> {
    let transition = match input {
        Input::Reset(Reset { time, sock, direction }) => {
            let (kind, reason, answer) = match *direction {
                ResetDirection::Received => (Kind::ResetReceived, 0, false),
                ResetDirection::Sent { reason, answer } => (Kind::ResetSent, reason as u8, answer),
            };
            let (kind, answer) = (kind as u8, answer.into());
            let (time, sock) = (*time, *sock);
            let reset = wire::Reset { kind, reason, answer, time, sock, ..Default::default() };
            return reset.as_bytes().to_vec();
        }
        Input::TimeWaitEntry(entry) => return time_wait_entry(entry),
        Input::TimeWaitChange(change) => return time_wait_change(change),
        Input::Accepted(Accepted { time, sock }) => {
            let (time, sock) = (*time, *sock);
            let kind = Kind::Accepted as u8;
            let accepted = wire::Accepted { kind, reserved: [0; 7], time, sock };
            return accepted.as_bytes().to_vec();
        }
        Input::Transition(transition) => transition,
        other => panic!("not a record of a hook: {other:?}"),
    };
    let step = wire::Step {
        kind: Kind::Step as u8,
        old: transition.old.number(),
        new: transition.new.number(),
        err: transition.err,
        flags: transition.flags,
        time: transition.time,
        sock: transition.sock,
        netns: transition.netns,
        pid: transition.pid.unwrap_or(0),
        local_port: transition.local.port(),
        remote_port: transition.remote.port(),
        rtt_us: transition.rtt_us,
        err_soft: transition.err_soft,
        retransmits: transition.retransmits,
        probes: transition.probes,
        reserved: 0,
        total_retransmits: transition.total_retransmits,
    };
    let mptcp = transition.mptcp.map_or(0, MptcpId::get);
    let mut record = match (&transition.opening, &transition.closing) {
        (Some(opening), _) => opening_record(step, mptcp, opening).as_bytes().to_vec(),
        (None, Some(closing)) => wire::Closing {
            step: wire::Step { kind: Kind::Closing as u8, ..step },
            bytes_acked: closing.bytes_acked,
            bytes_received: closing.bytes_received,
            unread: closing.unread,
            idle_ms: closing.idle_ms.unwrap_or(u32::MAX),
            drops: closing.drops,
            min_rtt_us: closing.min_rtt_us.unwrap_or(u32::MAX),
            segments_out: closing.segments_sent,
            window_limited_ms: closing.window_limited_ms.unwrap_or(u32::MAX),
            buffer_limited_ms: closing.buffer_limited_ms.unwrap_or(u32::MAX),
            ..Default::default()
        }
        .as_bytes()
        .to_vec(),
        (None, None) if transition.new == TcpState::Established => {
            let step = wire::Step { kind: Kind::Established as u8, ..step };
            wire::Established { step, mptcp, ..Default::default() }.as_bytes().to_vec()
        }
        (None, None) => step.as_bytes().to_vec(),
    };
    let ipv6 = transition.flags.contains(Flags::IPV6);
    record.extend(addresses(transition.local, transition.remote, ipv6));
    record
}

fn opening_record(step: wire::Step, mptcp: u64, opening: &Opening) -> wire::Opening {
    let (listener, listener_port) = opening.listener.map_or((0, 0), |it| (it.sock.get(), it.port));
    wire::Opening {
        step: wire::Step { kind: Kind::Opening as u8, ..step },
        cgroup: opening.cgroup,
        accept_queue: opening.accept_queue.depth,
        accept_limit: opening.accept_queue.limit,
        comm: opening.comm.0,
        parent: mptcp | listener,
        drops: opening.drops,
        netns_inode: opening.netns_inode,
        port_range: port_range(opening.port_range),
        listener_port,
        reserved: 0,
    }
}

fn port_range(range: Option<(u16, u16)>) -> u32 {
    range.map_or(0, |(first, last)| u32::from(last) << 16 | u32::from(first))
}

fn time_wait_entry(entry: &TimeWaitEntry) -> Vec<u8> {
    let &TimeWaitEntry { time, sock, kind } = entry;
    let substate = match kind {
        TimeWaitKind::TimeWait => TcpState::TimeWait.number(),
        TimeWaitKind::FinWait2 => TcpState::FinWait2.number(),
        TimeWaitKind::Nothing => 0,
    };
    let kind = Kind::TimeWaitEntry as u8;
    let entry = wire::TimeWaitEntry { kind, substate, reserved: [0; 6], time, sock };
    entry.as_bytes().to_vec()
}

fn time_wait_change(change: &TimeWaitChange) -> Vec<u8> {
    let &TimeWaitChange { time, netns, local, remote, is_gone } = change;
    let kind = if is_gone { Kind::TimeWaitExit } else { Kind::FinWait2ToTimeWait };
    let ipv6 = local.is_ipv6();
    let change = wire::TimeWaitChange {
        kind: kind as u8,
        reserved: [0; 3],
        flags: if ipv6 { Flags::IPV6 } else { Flags::default() },
        time,
        netns,
        local_port: local.port(),
        remote_port: remote.port(),
    };
    [change.as_bytes(), &addresses(local, remote, ipv6)].concat()
}

/// The two addresses at the end of a record.
fn addresses(local: SocketAddr, remote: SocketAddr, ipv6: bool) -> Vec<u8> {
    let len = if ipv6 { 16 } else { 4 };
    [&address_bytes(local)[..len], &address_bytes(remote)[..len]].concat()
}

/// The bytes that a scan writes for this input.
fn found(input: &Input) -> Vec<u8> {
    let fastreuse = |port_by_connect| match port_by_connect {
        None => FASTREUSE_UNKNOWN,
        Some(true) => -1,
        Some(false) => 0,
    };
    match input {
        Input::ScannedSocket(socket) => {
            let transfer = socket.transfer.unwrap_or_default();
            scan::ScanSocket {
                kind: scan::KIND_SOCKET,
                state: socket.state.number(),
                fastreuse: fastreuse(socket.port_by_connect),
                retransmits: socket.retransmits,
                flags: socket.flags,
                time: socket.time,
                sock: socket.sock,
                local_port: socket.local.port(),
                remote_port: socket.remote.port(),
                rtt_us: socket.rtt_us,
                local_addr: address_bytes(socket.local),
                remote_addr: address_bytes(socket.remote),
                accept_queue: socket.accept_queue.depth,
                accept_limit: socket.accept_queue.limit,
                drops: socket.drops,
                idle_ms: socket.idle_ms.unwrap_or(u32::MAX),
                cgroup: socket.cgroup,
                mptcp: socket.mptcp.map_or(0, MptcpId::get),
                bytes_acked: transfer.bytes_acked,
                bytes_received: transfer.bytes_received,
                data_received_ms: socket.data_received_ms.unwrap_or(u32::MAX),
                data_sent_ms: socket.data_sent_ms.unwrap_or(u32::MAX),
                port_range: port_range(socket.port_range),
                min_rtt_us: socket.min_rtt_us.unwrap_or(u32::MAX),
                total_retransmits: socket.transfer.map_or(u32::MAX, |it| it.total_retransmits),
                segments_out: transfer.segments_sent,
            }
            .as_bytes()
            .to_vec()
        }
        Input::ScannedTimeWait(time_wait) => scan::ScanTimeWait {
            kind: scan::KIND_TIME_WAIT,
            substate: if time_wait.fin_wait2 { TcpState::FinWait2 } else { TcpState::TimeWait }
                .number(),
            fastreuse: fastreuse(time_wait.port_by_connect),
            ipv6: time_wait.local.is_ipv6().into(),
            local_port: time_wait.local.port(),
            remote_port: time_wait.remote.port(),
            remaining_ms: time_wait.remaining_ms,
            reserved: 0,
            local_addr: address_bytes(time_wait.local),
            remote_addr: address_bytes(time_wait.remote),
        }
        .as_bytes()
        .to_vec(),
        other => panic!("not the output of a scan: {other:?}"),
    }
}

/// 16 bytes of an IPv6 address, or 4 bytes of an IPv4 address and zeros.
fn address_bytes(end: SocketAddr) -> [u8; 16] {
    match end.ip() {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
    }
}
