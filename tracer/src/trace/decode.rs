//! Bytes → [`Input`]. Total: any bytes give input, at worst an unreadable record.

use std::net::{IpAddr, SocketAddr};

use synfin_common::{
    event::{self, Flags, Kind},
    holder,
    reset::ResetReason,
    scan::{self, FASTREUSE_UNKNOWN},
    state::TcpState,
};
use zerocopy::FromBytes;

use crate::trace::{
    event::{
        Accepted, Closing, Input, Opening, Reset, ResetDirection, TimeWaitChange, TimeWaitEntry,
        TimeWaitKind, Transition, endpoint,
    },
    ids::Comm,
    recording::Frame,
    scan::{ScannedSocket, ScannedTimeWait, SocketHolder},
};

/// Gives each piece of input in `frame` to `take`. A session is no input: it gives none.
pub fn decode(frame: &Frame, mut take: impl FnMut(Input)) {
    match frame {
        Frame::Session(_) => {}
        Frame::Events(batch) => events(batch, take),
        Frame::ScanBegin(begin) => take(Input::ScanBegin(begin.clone())),
        Frame::Scanned(sockets) => scanned(sockets, take),
        Frame::ScanEnd(end) => take(Input::ScanEnd(end.clone())),
        Frame::Tick(tick) => take(Input::Tick(tick.clone())),
        Frame::SocketHolders(held) => take(Input::SocketHolders(holders(held))),
        Frame::Names(names) => take(Input::Names(names.clone())),
    }
}

/// Gives the id of every cgroup that a frame of the kernel side speaks of.
pub fn cgroups_in(frame: &Frame, mut take: impl FnMut(u64)) {
    match frame {
        Frame::Events(batch) => {
            for record in records(batch) {
                if record.first() == Some(&(Kind::Opening as u8))
                    && let Ok((opening, _)) = event::Opening::read_from_prefix(record)
                {
                    take(opening.cgroup);
                }
            }
        }
        Frame::Scanned(_) | Frame::SocketHolders(_) => decode(frame, |input| match input {
            Input::ScannedSocket(socket) => take(socket.cgroup),
            Input::SocketHolders(holders) => holders.iter().for_each(|holder| take(holder.cgroup)),
            _ => {}
        }),
        _ => {}
    }
}

/// The kind of every record in a batch, if it is known.
pub fn kinds_in(batch: &[u8]) -> impl Iterator<Item = Kind> {
    records(batch).filter_map(|record| Kind::from_number(*record.first()?))
}

/// The records of a batch, as far as it is whole.
fn records(mut batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = batch.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        batch = rest;
        Some(record)
    })
}

/// Records of the ring buffer, each after its length.
fn events(mut batch: &[u8], mut take: impl FnMut(Input)) {
    while !batch.is_empty() {
        let Some((len, rest)) = batch.split_first_chunk::<4>() else {
            return take(Input::UnreadableRecord);
        };
        let len = u32::from_le_bytes(*len) as usize;
        let Some((record, rest)) = rest.split_at_checked(len) else {
            return take(Input::UnreadableRecord);
        };
        if event(record, &mut take).is_none() {
            take(Input::UnreadableRecord);
        }
        batch = rest;
    }
}

/// Gives what a record says to `take`, at once rather than to its caller: it is large. `None` if it
/// is not understood.
#[inline(always)]
fn event(record: &[u8], take: &mut impl FnMut(Input)) -> Option<()> {
    let input = match Kind::from_number(*record.first()?)? {
        Kind::Step => {
            let (step, ends) = event::Step::read_from_prefix(record).ok()?;
            return transition(&step, ends, None, None, take);
        }
        Kind::Opening => {
            let (opening, ends) = event::Opening::read_from_prefix(record).ok()?;
            let details = Opening {
                cgroup: opening.cgroup,
                accept_queue: (opening.accept_queue, opening.accept_limit),
                comm: Comm::from(&opening.comm),
            };
            return transition(&opening.step, ends, Some(details), None, take);
        }
        Kind::Closing => {
            let (closing, ends) = event::Closing::read_from_prefix(record).ok()?;
            let details = Closing {
                bytes_acked: closing.bytes_acked,
                bytes_received: closing.bytes_received,
                unread: closing.unread,
                idle_ms: known(closing.idle_ms),
            };
            return transition(&closing.step, ends, None, Some(details), take);
        }
        Kind::ResetReceived => reset(record, |_| Some(ResetDirection::Received))?,
        Kind::ResetSent => reset(record, |reset| {
            let reason = ResetReason::from_number(reset.reason)?;
            Some(ResetDirection::Sent { reason, answer: reset.answer != 0 })
        })?,
        Kind::TimeWaitEntry => {
            const TIME_WAIT: u8 = TcpState::TimeWait.number();
            const FIN_WAIT2: u8 = TcpState::FinWait2.number();
            let event::TimeWaitEntry { substate, time, sock, .. } =
                event::TimeWaitEntry::read_from_bytes(record).ok()?;
            let time_wait_kind = match substate {
                0 => TimeWaitKind::Nothing,
                FIN_WAIT2 => TimeWaitKind::FinWait2,
                TIME_WAIT => TimeWaitKind::TimeWait,
                _ => return None,
            };
            Input::TimeWaitEntry(TimeWaitEntry { time, sock, kind: time_wait_kind })
        }
        Kind::FinWait2ToTimeWait => time_wait_change(record, false)?,
        Kind::TimeWaitExit => time_wait_change(record, true)?,
        Kind::Accepted => {
            let event::Accepted { time, sock, .. } =
                event::Accepted::read_from_bytes(record).ok()?;
            Input::Accepted(Accepted { time, sock })
        }
    };
    take(input);
    Some(())
}

fn time_wait_change(record: &[u8], is_gone: bool) -> Option<Input> {
    let (change, addresses) = event::TimeWaitChange::read_from_prefix(record).ok()?;
    let event::TimeWaitChange { flags, time, netns, local_port, remote_port, .. } = change;
    let (local, remote) = ends(flags, addresses, (local_port, remote_port))?;
    Some(Input::TimeWaitChange(TimeWaitChange { time, netns, local, remote, is_gone }))
}

/// Ours and the peer's, from the addresses at the end of a record.
#[inline(always)]
fn ends(
    flags: Flags,
    addresses: &[u8],
    (local_port, remote_port): (u16, u16),
) -> Option<(SocketAddr, SocketAddr)> {
    let (local, remote) = if flags.contains(Flags::IPV6) {
        let ends = event::AddressesV6::read_from_bytes(addresses).ok()?;
        (IpAddr::from(ends.local).to_canonical(), IpAddr::from(ends.remote).to_canonical())
    } else {
        let ends = event::AddressesV4::read_from_bytes(addresses).ok()?;
        (IpAddr::from(ends.local), IpAddr::from(ends.remote))
    };
    Some((SocketAddr::new(local, local_port), SocketAddr::new(remote, remote_port)))
}

fn reset(
    record: &[u8],
    way: impl FnOnce(&event::Reset) -> Option<ResetDirection>,
) -> Option<Input> {
    let reset = event::Reset::read_from_bytes(record).ok()?;
    Some(Input::Reset(Reset { time: reset.time, sock: reset.sock, direction: way(&reset)? }))
}

#[inline(always)]
fn transition(
    step: &event::Step,
    addresses: &[u8],
    opening: Option<Opening>,
    closing: Option<Closing>,
    take: &mut impl FnMut(Input),
) -> Option<()> {
    let (local, remote) = ends(step.flags, addresses, (step.local_port, step.remote_port))?;
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
        opening,
        closing,
    }));
    Some(())
}

/// Records of a scan, told apart by their first byte.
fn scanned(mut sockets: &[u8], mut take: impl FnMut(Input)) {
    while let Some(&kind) = sockets.first() {
        // Records have no length of their own: after one that is not understood, none can be.
        let rest = match kind {
            scan::KIND_SOCKET => {
                scan::ScanSocket::read_from_prefix(sockets).ok().map(|(record, rest)| {
                    take(socket(&record).unwrap_or(Input::UnreadableScan));
                    rest
                })
            }
            scan::KIND_TIME_WAIT => {
                scan::ScanTimeWait::read_from_prefix(sockets).ok().map(|(record, rest)| {
                    take(time_wait(&record));
                    rest
                })
            }
            _ => None,
        };
        let Some(rest) = rest else {
            return take(Input::UnreadableScan);
        };
        sockets = rest;
    }
}

fn socket(record: &scan::ScanSocket) -> Option<Input> {
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
        accept_queue: (record.accept_queue, record.accept_limit),
        drops: record.drops,
        idle_ms: known(record.idle_ms),
        cgroup: record.cgroup,
    }))
}

fn time_wait(record: &scan::ScanTimeWait) -> Input {
    let ipv6 = record.ipv6 != 0;
    Input::ScannedTimeWait(ScannedTimeWait {
        fin_wait2: record.substate == TcpState::FinWait2.number(),
        port_by_connect: port_by_connect(record.fastreuse),
        local: endpoint(ipv6, record.local_addr, record.local_port),
        remote: endpoint(ipv6, record.remote_addr, record.remote_port),
        remaining_ms: record.remaining_ms,
    })
}

/// Records of a look at open files. One that is cut off says nothing.
fn holders(held: &[u8]) -> Vec<SocketHolder> {
    let records = held.chunks_exact(size_of::<holder::SocketHolder>());
    let records = records.filter_map(|bytes| holder::SocketHolder::read_from_bytes(bytes).ok());
    records
        .map(|record| SocketHolder {
            time: record.time,
            sock: record.sock,
            born: record.start_time,
            pid: record.pid,
            parent: record.parent,
            comm: Comm::from(&record.comm),
            cgroup: record.cgroup,
        })
        .collect()
}

fn port_by_connect(fastreuse: i8) -> Option<bool> {
    (fastreuse != FASTREUSE_UNKNOWN).then_some(fastreuse == -1)
}

fn known(ms: u32) -> Option<u32> {
    (ms != u32::MAX).then_some(ms)
}
