//! Events that are counted per local port. Remote hosts can cause them at any rate, so they get no
//! records: handshakes in the SYN queue, retransmitted SYN-ACKs, and resets without a connection.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::reset::ResetReason;

/// An event that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortEvent {
    /// A listener retransmitted a SYN-ACK.
    SynackRetransmit,
    /// The kernel sent a reset that does not close a connection, for this reason.
    Reset(ResetReason),
    /// A handshake entered or left a listener's SYN queue.
    SynQueue(SynQueueEvent),
}

/// How a handshake entered or left the SYN queue, in which it waits for its last ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SynQueueEvent {
    /// A SYN was queued and answered.
    Entered = 0,
    /// The last ACK arrived, and the connection moved to the accept queue.
    Completed = 1,
    /// The handshake was dropped: a RST or an ICMP error arrived, the accept queue was full, or the
    /// listener was closed.
    Dropped = 2,
    /// The handshake timed out: no SYN-ACK was answered.
    Expired = 3,
}

impl SynQueueEvent {
    /// All events in numerical order.
    pub const ALL: [Self; 4] = [Self::Entered, Self::Completed, Self::Dropped, Self::Expired];
}

impl PortEvent {
    /// The number of different events.
    pub const COUNT: usize = Self::SYN_QUEUE as usize + SynQueueEvent::ALL.len();

    /// The number of the first [`PortEvent::SynQueue`].
    #[expect(clippy::cast_possible_truncation, reason = "there are few reasons")]
    const SYN_QUEUE: u16 = 1 + ResetReason::COUNT as u16;

    /// The event's number in [`PortKey::event`] and in recordings.
    pub const fn number(self) -> u16 {
        match self {
            Self::SynackRetransmit => 0,
            Self::Reset(reason) => Self::number_of_reset(reason as u8),
            Self::SynQueue(event) => Self::SYN_QUEUE + event as u16,
        }
    }

    /// The number of [`PortEvent::Reset`] for a [`ResetReason`] with this number.
    pub const fn number_of_reset(reason: u8) -> u16 {
        1 + reason as u16
    }

    /// The event with this number; `None` if this version does not know it.
    #[expect(clippy::cast_possible_truncation, reason = "it is below the number of reasons")]
    pub const fn from_number(number: u16) -> Option<Self> {
        if number == 0 {
            return Some(Self::SynackRetransmit);
        }
        if number < Self::SYN_QUEUE {
            return match ResetReason::from_number((number - 1) as u8) {
                Some(reason) => Some(Self::Reset(reason)),
                None => None,
            };
        }
        let index = (number - Self::SYN_QUEUE) as usize;
        if index < SynQueueEvent::ALL.len() {
            Some(Self::SynQueue(SynQueueEvent::ALL[index]))
        } else {
            None
        }
    }
}

/// The key of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortKey {
    /// The network namespace, as in [`Step::netns`](crate::event::Step::netns).
    pub netns: u32,
    /// The local port; 0 for all ports of the namespace.
    pub port: u16,
    /// [`PortEvent::number`].
    pub event: u16,
}

/// The counts of the whole host on one CPU, indexed by [`PortEvent::number`]. They include events
/// for which the maps of ports and namespaces had no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortTotals(pub [u64; PortEvent::COUNT]);
