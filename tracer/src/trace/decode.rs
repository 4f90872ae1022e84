//! Decodes frames into [`Input`]. Decoding never fails: bytes that cannot be read become
//! [`Input::UnreadableRecord`] or [`Input::UnreadableScan`].

use std::net::SocketAddr;

use synfin_common::{
    event::{Flags, Kind},
    reset::ResetReason,
    scan::FASTREUSE_UNKNOWN,
    state::TcpState,
};

use crate::trace::{
    accept_queue::AcceptQueue,
    event::{
        Accepted, Closing, Input, Opening, ParentListener, Reset, ResetDirection, TimeWaitChange,
        TimeWaitEntry, TimeWaitKind, Transition, endpoint,
    },
    ids::{Comm, ListenerId, MptcpId},
    recording::Frame,
    scan::{ScannedSocket, ScannedTimeWait, SocketHolders, Transfer},
    wire::{self, Addresses, Record, ScanRecord},
};

/// Calls `take` with each input in `frame`. A session frame has none.
pub fn decode(frame: &Frame, mut take: impl FnMut(Input)) {
    match frame {
        Frame::Session(_) => {}
        Frame::Events(batch) => events(batch, take),
        Frame::ScanBegin(begin) => take(Input::ScanBegin(begin.clone())),
        Frame::Scanned(sockets) => scanned(sockets, take),
        Frame::ScanEnd(end) => take(Input::ScanEnd(end.clone())),
        Frame::Tick(tick) => take(Input::Tick(tick.clone())),
        Frame::SocketHolders(held) => take(Input::SocketHolders(SocketHolders(held.clone()))),
        Frame::ListenerHolders(held) => take(Input::ListenerHolders(SocketHolders(held.clone()))),
        Frame::Names(names) => take(Input::Names(names.clone())),
        Frame::Namespaces(list) => take(Input::Namespaces(list.clone())),
        Frame::Counters(read) => take(Input::KernelCounters(read.clone())),
    }
}

/// Calls `take` with the id of each cgroup in the records of a frame.
pub fn cgroups_in(frame: &Frame, mut take: impl FnMut(u64)) {
    match frame {
        Frame::Events(batch) => {
            for record in wire::records(batch).flatten() {
                if wire::kind(record) == Some(Kind::Opening)
                    && let Some(Record::Opening(opening, _)) = Record::parse(record)
                {
                    take(opening.cgroup);
                }
            }
        }
        Frame::Scanned(_) | Frame::SocketHolders(_) | Frame::ListenerHolders(_) => {
            decode(frame, |input| match input {
                Input::ScannedSocket(socket) => take(socket.cgroup),
                Input::SocketHolders(holders) | Input::ListenerHolders(holders) => {
                    holders.iter().for_each(|holder| take(holder.cgroup));
                }
                _ => {}
            });
        }
        _ => {}
    }
}

/// The kinds of the records in a batch. Records of unknown kinds are skipped.
pub fn kinds_in(batch: &[u8]) -> impl Iterator<Item = Kind> {
    wire::records(batch).flatten().filter_map(wire::kind)
}

fn events(batch: &[u8], mut take: impl FnMut(Input)) {
    for record in wire::records(batch) {
        let record = record.ok().and_then(Record::parse);
        if record.and_then(|record| event(&record, &mut take)).is_none() {
            take(Input::UnreadableRecord);
        }
    }
}

/// Calls `take` with the input of a record, because returning a large value would copy it. `None` if the
/// record has a value that this version does not know.
#[inline(always)]
fn event(record: &Record, take: &mut impl FnMut(Input)) -> Option<()> {
    let input = match record {
        Record::Step(step, addresses) => {
            return transition(step, *addresses, Details::default(), take);
        }
        Record::Opening(opening, addresses) => {
            let details = Opening {
                cgroup: opening.cgroup,
                netns_inode: opening.netns_inode,
                accept_queue: AcceptQueue {
                    depth: opening.accept_queue,
                    limit: opening.accept_limit,
                },
                drops: opening.drops,
                port_range: port_range(opening.port_range),
                listener: listener(opening),
                comm: Comm::from(&opening.comm),
            };
            let is_client = opening.step.new == TcpState::SynSent.number();
            let mptcp = if is_client { opening.parent } else { 0 };
            let details = Details { opening: Some(details), ..of_subflow(mptcp) };
            return transition(&opening.step, *addresses, details, take);
        }
        Record::Established(established, addresses) => {
            let details = of_subflow(established.mptcp);
            return transition(&established.step, *addresses, details, take);
        }
        Record::Closing(closing, addresses) => {
            let details = Closing {
                bytes_acked: closing.bytes_acked,
                bytes_received: closing.bytes_received,
                unread: closing.unread,
                idle_ms: known(closing.idle_ms),
                drops: closing.drops,
                segments_sent: closing.segments_out,
                min_rtt_us: known(closing.min_rtt_us),
                window_limited_ms: known(closing.window_limited_ms),
                buffer_limited_ms: known(closing.buffer_limited_ms),
            };
            let details = Details { closing: Some(details), ..Details::default() };
            return transition(&closing.step, *addresses, details, take);
        }
        Record::ResetReceived(reset) => self::reset(reset, ResetDirection::Received),
        Record::ResetSent(reset) => {
            let reason = ResetReason::from_number(reset.reason)?;
            self::reset(reset, ResetDirection::Sent { reason, answer: reset.answer != 0 })
        }
        Record::TimeWaitEntry(entry) => {
            const TIME_WAIT: u8 = TcpState::TimeWait.number();
            const FIN_WAIT2: u8 = TcpState::FinWait2.number();
            let kind = match entry.substate {
                0 => TimeWaitKind::Nothing,
                FIN_WAIT2 => TimeWaitKind::FinWait2,
                TIME_WAIT => TimeWaitKind::TimeWait,
                _ => return None,
            };
            Input::TimeWaitEntry(TimeWaitEntry { time: entry.time, sock: entry.sock, kind })
        }
        Record::FinWait2ToTimeWait(change, addresses) => {
            time_wait_change(change, *addresses, false)
        }
        Record::TimeWaitExit(change, addresses) => time_wait_change(change, *addresses, true),
        Record::Accepted(accepted) => {
            Input::Accepted(Accepted { time: accepted.time, sock: accepted.sock })
        }
    };
    take(input);
    Some(())
}

fn time_wait_change(change: &wire::TimeWaitChange, addresses: Addresses, is_gone: bool) -> Input {
    let (local, remote) = endpoints(addresses, (change.local_port, change.remote_port));
    let &wire::TimeWaitChange { time, netns, .. } = change;
    Input::TimeWaitChange(TimeWaitChange { time, netns, local, remote, is_gone })
}

/// The local and the remote endpoint.
#[inline(always)]
fn endpoints(
    addresses: Addresses,
    (local_port, remote_port): (u16, u16),
) -> (SocketAddr, SocketAddr) {
    let (local, remote) = addresses.canonical();
    (SocketAddr::new(local, local_port), SocketAddr::new(remote, remote_port))
}

fn reset(reset: &wire::Reset, direction: ResetDirection) -> Input {
    Input::Reset(Reset { time: reset.time, sock: reset.sock, direction })
}

/// What only some kinds of transitions have.
#[derive(Default)]
struct Details {
    opening: Option<Opening>,
    closing: Option<Closing>,
    mptcp: Option<MptcpId>,
}

fn of_subflow(mptcp: u64) -> Details {
    Details { mptcp: MptcpId::new(mptcp), ..Details::default() }
}

#[inline(always)]
fn transition(
    step: &wire::Step,
    addresses: Addresses,
    Details { opening, closing, mptcp }: Details,
    take: &mut impl FnMut(Input),
) -> Option<()> {
    let (local, remote) = endpoints(addresses, (step.local_port, step.remote_port));
    let (old, new) = (TcpState::from_number(step.old)?, TcpState::from_number(step.new)?);
    take(Input::Transition(Transition {
        time: step.time,
        sock: step.sock,
        netns: step.netns,
        old,
        new,
        local,
        remote,
        flags: step.flags,
        err: step.err,
        err_soft: step.err_soft,
        pid: step.flags.contains(Flags::BY_OWNER).then_some(step.pid),
        rtt_us: step.rtt_us,
        retransmits: step.retransmits,
        probes: step.probes,
        total_retransmits: step.total_retransmits,
        mptcp,
        opening,
        closing,
    }));
    Some(())
}

fn scanned(found: &[u8], mut take: impl FnMut(Input)) {
    for record in wire::scan_records(found) {
        take(match record {
            Ok(ScanRecord::Socket(record)) => socket(&record).unwrap_or(Input::UnreadableScan),
            Ok(ScanRecord::TimeWait(record)) => time_wait(&record),
            Err(wire::Unreadable) => Input::UnreadableScan,
        });
    }
}

fn socket(record: &wire::ScanSocket) -> Option<Input> {
    let ipv6 = record.flags.contains(Flags::IPV6);
    Some(Input::ScannedSocket(ScannedSocket {
        time: record.time,
        sock: record.sock,
        state: TcpState::from_number(record.state)?,
        local: endpoint(ipv6, record.local_addr, record.local_port),
        remote: endpoint(ipv6, record.remote_addr, record.remote_port),
        flags: record.flags,
        port_by_connect: port_by_connect(record.fastreuse),
        retransmits: record.retransmits,
        rtt_us: record.rtt_us,
        accept_queue: AcceptQueue { depth: record.accept_queue, limit: record.accept_limit },
        drops: record.drops,
        idle_ms: known(record.idle_ms),
        cgroup: record.cgroup,
        mptcp: MptcpId::new(record.mptcp),
        data_received_ms: known(record.data_received_ms),
        data_sent_ms: known(record.data_sent_ms),
        port_range: port_range(record.port_range),
        min_rtt_us: known(record.min_rtt_us),
        transfer: known(record.total_retransmits).map(|total_retransmits| Transfer {
            total_retransmits,
            segments_sent: record.segments_out,
            bytes_acked: record.bytes_acked,
            bytes_received: record.bytes_received,
        }),
    }))
}

fn time_wait(record: &wire::ScanTimeWait) -> Input {
    let ipv6 = record.ipv6 != 0;
    Input::ScannedTimeWait(ScannedTimeWait {
        fin_wait2: record.substate == TcpState::FinWait2.number(),
        port_by_connect: port_by_connect(record.fastreuse),
        local: endpoint(ipv6, record.local_addr, record.local_port),
        remote: endpoint(ipv6, record.remote_addr, record.remote_port),
        remaining_ms: record.remaining_ms,
    })
}

/// The listener of a child.
fn listener(opening: &wire::Opening) -> Option<ParentListener> {
    let is_child = opening.step.old == TcpState::Listen.number()
        && opening.step.new == TcpState::SynRecv.number();
    let sock = ListenerId::new(opening.parent).filter(|_| is_child)?;
    Some(ParentListener { sock, port: opening.listener_port })
}

fn port_by_connect(fastreuse: i8) -> Option<bool> {
    (fastreuse != FASTREUSE_UNKNOWN).then_some(fastreuse == -1)
}

/// The lowest and the highest port of a socket's own range.
fn port_range(range: u32) -> Option<(u16, u16)> {
    #[expect(clippy::cast_possible_truncation, reason = "each half is a port")]
    (range != 0).then_some((range as u16, (range >> 16) as u16))
}

/// A value that is [`u32::MAX`] if it is unknown.
fn known(value: u32) -> Option<u32> {
    (value != u32::MAX).then_some(value)
}
