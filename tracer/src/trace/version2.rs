//! Reads recordings of format 2 (synfin before 0.3): converts their records of eBPF programs to those of
//! the present format, in which some have more fields. What format 2 did not record is unknown.

use bytes::Bytes;
use synfin_common::{scan::KIND_SOCKET, state::TcpState};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::wire::{self, Closing, Flags, Kind, Opening, Record, ScanRecord, ScanSocket, Step};

/// The version of the format.
pub(super) const VERSION: u8 = 2;

/// [`Opening`].
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Opening2 {
    step: Step,
    cgroup: u64,
    /// At →LISTEN the number of drops.
    accept_queue: u32,
    accept_limit: u32,
    comm: [u8; 16],
}

/// [`Closing`].
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Closing2 {
    step: Step,
    bytes_acked: u64,
    bytes_received: u64,
    /// Of a listener the number of drops.
    unread: u32,
    idle_ms: u32,
}

/// [`ScanSocket`].
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ScanSocket2 {
    kind: u8,
    state: u8,
    fastreuse: i8,
    retransmits: u8,
    flags: Flags,
    time: u64,
    sock: u64,
    local_port: u16,
    remote_port: u16,
    rtt_us: u32,
    local_addr: [u8; 16],
    remote_addr: [u8; 16],
    accept_queue: u32,
    accept_limit: u32,
    drops: u32,
    idle_ms: u32,
    cgroup: u64,
}

/// A record of an unknown kind, in place of those that format 2 did not know either.
const UNREADABLE: &[u8] = &[u8::MAX];

/// Converts a batch of records.
pub(super) fn events(batch: &[u8]) -> Bytes {
    let mut converted = Vec::with_capacity(batch.len() * 3 / 2);
    for record in wire::records(batch) {
        match record {
            Ok(record) => event(record, &mut converted),
            // The end of the batch is missing: so is that of its last record.
            Err(wire::Unreadable) => converted.push(0),
        }
    }
    converted.into()
}

fn event(record: &[u8], converted: &mut Vec<u8>) {
    const LISTEN: u8 = TcpState::Listen.number();
    match wire::kind(record) {
        Some(Kind::Opening) => {
            if let Ok((opening, addresses)) = Opening2::read_from_prefix(record) {
                let Opening2 { step, cgroup, accept_queue, accept_limit, comm } = opening;
                let is_listener = step.new == LISTEN;
                let (drops, accept_queue) =
                    if is_listener { (accept_queue, 0) } else { (0, accept_queue) };
                let netns_inode = step.netns;
                let flags = step.flags.with(Flags::COOKIES_SENT);
                let step = Step { flags, ..step };
                let opening = Opening {
                    step,
                    cgroup,
                    accept_queue,
                    accept_limit,
                    comm,
                    drops,
                    netns_inode,
                    ..Opening::default()
                };
                return append(opening.as_bytes(), addresses, converted);
            }
        }
        Some(Kind::Closing) => {
            if let Ok((closing, addresses)) = Closing2::read_from_prefix(record) {
                let Closing2 { step, bytes_acked, bytes_received, unread, idle_ms } = closing;
                let is_listener = step.old == LISTEN;
                let (drops, unread) = if is_listener { (unread, 0) } else { (0, unread) };
                let closing = Closing {
                    step,
                    bytes_acked,
                    bytes_received,
                    unread,
                    idle_ms,
                    drops,
                    min_rtt_us: u32::MAX,
                    window_limited_ms: u32::MAX,
                    buffer_limited_ms: u32::MAX,
                    ..Closing::default()
                };
                return append(closing.as_bytes(), addresses, converted);
            }
        }
        Some(Kind::Established) | None => {}
        Some(_) => return wire::append(converted, record),
    }
    wire::append(converted, UNREADABLE);
}

/// Appends the converted head of a record and its addresses; [`UNREADABLE`] if their length is wrong.
fn append(head: &[u8], addresses: &[u8], converted: &mut Vec<u8>) {
    let record = [head, addresses].concat();
    let is_readable = Record::parse(&record).is_some();
    wire::append(converted, if is_readable { &record } else { UNREADABLE });
}

/// Converts the records of a scan.
pub(super) fn scanned(found: &[u8]) -> Bytes {
    let mut converted = Vec::with_capacity(found.len() * 2);
    let mut rest = found;
    while let Some(&kind) = rest.first() {
        if kind == KIND_SOCKET {
            let Ok((socket, after)) = ScanSocket2::read_from_prefix(rest) else { break };
            converted.extend_from_slice(socket.converted().as_bytes());
            rest = after;
        } else if let Some(Ok(ScanRecord::TimeWait(time_wait))) = wire::scan_records(rest).next() {
            converted.extend_from_slice(time_wait.as_bytes());
            rest = &rest[size_of_val(&time_wait)..];
        } else {
            break;
        }
    }
    // What could not be read stays unreadable.
    converted.extend_from_slice(rest);
    converted.into()
}

impl ScanSocket2 {
    fn converted(self) -> ScanSocket {
        let Self { kind, state, fastreuse, retransmits, flags, time, sock, .. } = self;
        ScanSocket {
            kind,
            state,
            fastreuse,
            retransmits,
            flags,
            time,
            sock,
            local_port: self.local_port,
            remote_port: self.remote_port,
            rtt_us: self.rtt_us,
            local_addr: self.local_addr,
            remote_addr: self.remote_addr,
            accept_queue: self.accept_queue,
            accept_limit: self.accept_limit,
            drops: self.drops,
            idle_ms: self.idle_ms,
            cgroup: self.cgroup,
            data_received_ms: u32::MAX,
            data_sent_ms: u32::MAX,
            min_rtt_us: u32::MAX,
            total_retransmits: u32::MAX,
            ..ScanSocket::default()
        }
    }
}
