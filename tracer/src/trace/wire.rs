//! The byte format of the records of the eBPF programs, and of the batches that contain them.
//!
//! Only this module reads or writes the format. The structures, shared with the eBPF programs, are in
//! [`synfin_common`]. They are not aligned within a batch, so reading a record copies it.

use std::net::IpAddr;

use synfin_common::scan::{KIND_SOCKET, KIND_TIME_WAIT};
pub use synfin_common::{
    event::{
        Accepted, AddressesV4, AddressesV6, Closing, Established, Flags, Kind, Opening, Reset,
        Step, TimeWaitChange, TimeWaitEntry,
    },
    holder::SocketHolder,
    scan::{ScanSocket, ScanTimeWait},
};
use zerocopy::{FromBytes, IntoBytes};

/// The rest of the bytes cannot be read: they end within a record, or begin with a record of unknown
/// kind, and therefore unknown length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The records of a batch ([`Frame::Events`](crate::trace::recording::Frame::Events)), as bytes. If the
/// batch ends within a record, the last item is [`Unreadable`].
pub fn records(batch: &[u8]) -> impl Iterator<Item = Result<&[u8], Unreadable>> {
    let mut rest = Some(batch).filter(|batch| !batch.is_empty());
    std::iter::from_fn(move || {
        let split = rest
            .take()?
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
        let Some((record, after)) = split else {
            return Some(Err(Unreadable));
        };
        rest = Some(after).filter(|after| !after.is_empty());
        Some(Ok(record))
    })
}

/// Appends a record to a batch: its length (`u32`, little-endian), then its bytes.
pub fn append(batch: &mut Vec<u8>, record: &[u8]) {
    append_parts(batch, record, &[]);
}

#[expect(clippy::cast_possible_truncation, reason = "a record has at most some hundred bytes")]
fn append_parts(batch: &mut Vec<u8>, head: &[u8], tail: &[u8]) {
    let length = (head.len() + tail.len()) as u32;
    batch.extend_from_slice(&length.to_le_bytes());
    batch.extend_from_slice(head);
    batch.extend_from_slice(tail);
}

/// The kind of a record, from its first byte; `None` if it is empty or of an unknown kind.
pub fn kind(record: &[u8]) -> Option<Kind> {
    Kind::from_number(*record.first()?)
}

/// A record of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the kind of that name")]
pub enum Record {
    Step(Step, Addresses),
    Opening(Opening, Addresses),
    Established(Established, Addresses),
    Closing(Closing, Addresses),
    ResetReceived(Reset),
    ResetSent(Reset),
    TimeWaitEntry(TimeWaitEntry),
    FinWait2ToTimeWait(TimeWaitChange, Addresses),
    TimeWaitExit(TimeWaitChange, Addresses),
    Accepted(Accepted),
}

/// The addresses at the end of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Without [`Flags::IPV6`].
    V4(AddressesV4),
    /// With [`Flags::IPV6`]; each address may be IPv4-mapped.
    V6(AddressesV6),
}

impl Record {
    /// Reads a record; `None` if its kind is unknown or its length is not that of its kind.
    #[inline(always)]
    pub fn parse(record: &[u8]) -> Option<Self> {
        Some(match kind(record)? {
            Kind::Step => {
                let (step, addresses) = Step::read_from_prefix(record).ok()?;
                Self::Step(step, Addresses::parse(step.flags, addresses)?)
            }
            Kind::Opening => {
                let (opening, addresses) = Opening::read_from_prefix(record).ok()?;
                Self::Opening(opening, Addresses::parse(opening.step.flags, addresses)?)
            }
            Kind::Established => {
                let (established, addresses) = Established::read_from_prefix(record).ok()?;
                Self::Established(established, Addresses::parse(established.step.flags, addresses)?)
            }
            Kind::Closing => {
                let (closing, addresses) = Closing::read_from_prefix(record).ok()?;
                Self::Closing(closing, Addresses::parse(closing.step.flags, addresses)?)
            }
            Kind::ResetReceived => Self::ResetReceived(Reset::read_from_bytes(record).ok()?),
            Kind::ResetSent => Self::ResetSent(Reset::read_from_bytes(record).ok()?),
            Kind::TimeWaitEntry => {
                Self::TimeWaitEntry(TimeWaitEntry::read_from_bytes(record).ok()?)
            }
            Kind::FinWait2ToTimeWait => {
                let (change, addresses) = TimeWaitChange::read_from_prefix(record).ok()?;
                Self::FinWait2ToTimeWait(change, Addresses::parse(change.flags, addresses)?)
            }
            Kind::TimeWaitExit => {
                let (change, addresses) = TimeWaitChange::read_from_prefix(record).ok()?;
                Self::TimeWaitExit(change, Addresses::parse(change.flags, addresses)?)
            }
            Kind::Accepted => Self::Accepted(Accepted::read_from_bytes(record).ok()?),
        })
    }

    /// Appends the record to a batch, in the format of a batch from the ring buffer.
    pub fn append_to(&self, batch: &mut Vec<u8>) {
        match self {
            Self::Step(step, addresses) => {
                append_parts(batch, step.as_bytes(), addresses.as_bytes());
            }
            Self::Opening(opening, addresses) => {
                append_parts(batch, opening.as_bytes(), addresses.as_bytes());
            }
            Self::Established(established, addresses) => {
                append_parts(batch, established.as_bytes(), addresses.as_bytes());
            }
            Self::Closing(closing, addresses) => {
                append_parts(batch, closing.as_bytes(), addresses.as_bytes());
            }
            Self::FinWait2ToTimeWait(change, addresses) | Self::TimeWaitExit(change, addresses) => {
                append_parts(batch, change.as_bytes(), addresses.as_bytes());
            }
            Self::ResetReceived(reset) | Self::ResetSent(reset) => append(batch, reset.as_bytes()),
            Self::TimeWaitEntry(entry) => append(batch, entry.as_bytes()),
            Self::Accepted(accepted) => append(batch, accepted.as_bytes()),
        }
    }
}

impl Addresses {
    #[inline(always)]
    fn parse(flags: Flags, bytes: &[u8]) -> Option<Self> {
        Some(if flags.contains(Flags::IPV6) {
            Self::V6(AddressesV6::read_from_bytes(bytes).ok()?)
        } else {
            Self::V4(AddressesV4::read_from_bytes(bytes).ok()?)
        })
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(addresses) => addresses.as_bytes(),
            Self::V6(addresses) => addresses.as_bytes(),
        }
    }

    /// The local and the remote address. IPv4-mapped addresses become IPv4.
    #[inline(always)]
    pub fn canonical(self) -> (IpAddr, IpAddr) {
        match self {
            Self::V4(AddressesV4 { local, remote }) => (local.into(), remote.into()),
            Self::V6(AddressesV6 { local, remote }) => {
                (IpAddr::from(local).to_canonical(), IpAddr::from(remote).to_canonical())
            }
        }
    }
}

/// A record of a scan of the sockets of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanRecord {
    /// A socket in any other state than TIME_WAIT.
    Socket(ScanSocket),
    /// A socket in TIME_WAIT, or an orphan in FIN_WAIT2, which the kernel keeps in the same table.
    TimeWait(ScanTimeWait),
}

impl ScanRecord {
    /// The record as the iterator program wrote it.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Socket(socket) => socket.as_bytes(),
            Self::TimeWait(time_wait) => time_wait.as_bytes(),
        }
    }
}

/// The records of a scan ([`Frame::Scanned`](crate::trace::recording::Frame::Scanned)). The kind of a
/// record implies its length, so an unknown kind ends the iteration with [`Unreadable`].
pub fn scan_records(mut found: &[u8]) -> impl Iterator<Item = Result<ScanRecord, Unreadable>> {
    std::iter::from_fn(move || {
        let split = match *found.first()? {
            KIND_SOCKET => ScanSocket::read_from_prefix(found)
                .ok()
                .map(|(socket, rest)| (ScanRecord::Socket(socket), rest)),
            KIND_TIME_WAIT => ScanTimeWait::read_from_prefix(found)
                .ok()
                .map(|(time_wait, rest)| (ScanRecord::TimeWait(time_wait), rest)),
            _ => None,
        };
        let (record, rest) =
            split.map_or((Err(Unreadable), &[][..]), |(record, rest)| (Ok(record), rest));
        found = rest;
        Some(record)
    })
}

/// The records of a scan of open files
/// ([`Frame::SocketHolders`](crate::trace::recording::Frame::SocketHolders)). An incomplete record at
/// the end is skipped.
pub fn socket_holders(held: &[u8]) -> impl Iterator<Item = SocketHolder> {
    held.chunks_exact(size_of::<SocketHolder>())
        .filter_map(|bytes| SocketHolder::read_from_bytes(bytes).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, reason = "kinds are few")]

    use super::*;

    #[test]
    fn every_kind_is_read_back_as_written() {
        for kind in Kind::ALL {
            for flags in [Flags::default(), Flags::IPV6] {
                let mut bytes = [0xab; 200];
                bytes[0] = kind as u8;
                // The offset of the flags in kinds with addresses.
                bytes[4..8].copy_from_slice(flags.as_bytes());
                let length = (0..bytes.len()).find(|&len| Record::parse(&bytes[..len]).is_some());
                let record = &bytes[..length.expect("it has a length")];
                let mut batch = Vec::new();
                Record::parse(record).expect("it was read before").append_to(&mut batch);
                assert_eq!(records(&batch).collect::<Vec<_>>(), [Ok(record)], "{kind:?}");
            }
        }
        assert_eq!(Record::parse(&[Kind::COUNT as u8; 200]), None);
        assert_eq!(Record::parse(&[]), None);
    }

    #[test]
    fn truncated_batch_is_read_up_to_the_last_complete_record() {
        let mut batch = Vec::new();
        append(&mut batch, b"a");
        append(&mut batch, b"");
        append(&mut batch, b"bc");
        assert!(records(&batch).eq([Ok(&b"a"[..]), Ok(b""), Ok(b"bc")]));
        for len in 10..batch.len() {
            assert!(records(&batch[..len]).eq([Ok(&b"a"[..]), Ok(b""), Err(Unreadable)]), "{len}");
        }
        assert_eq!(records(&[]).next(), None);
    }

    #[test]
    fn scan_is_read_up_to_an_unknown_record() {
        let socket = ScanSocket { kind: KIND_SOCKET, sock: 1, ..ScanSocket::default() };
        let time_wait = ScanTimeWait { kind: KIND_TIME_WAIT, ..ScanTimeWait::default() };
        let known = [ScanRecord::Socket(socket), ScanRecord::TimeWait(time_wait)];
        let mut found: Vec<u8> = known.iter().flat_map(ScanRecord::as_bytes).copied().collect();
        assert!(scan_records(&found).eq(known.map(Ok)));
        found.push(u8::MAX);
        assert!(scan_records(&found).eq(known.map(Ok).into_iter().chain([Err(Unreadable)])));
        let truncated = &found[..=size_of::<ScanSocket>()];
        assert!(scan_records(truncated).eq([Ok(known[0]), Err(Unreadable)]));
    }
}
