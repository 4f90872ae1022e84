//! What is counted per local port instead of recorded, because a stranger decides how often it
//! happens: handshakes in the SYN queue, SYN-ACKs that are sent again, and resets with no
//! connection behind them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::reset::ResetReason;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// A listener sent a SYN-ACK again: the last ACK of a handshake is overdue.
    SynackRetransmit,
    /// A reset was sent that no connection of ours stands behind, for this reason.
    Reset(ResetReason),
    /// Something befell a handshake in a listener's SYN queue.
    SynQueue(SynQueue),
}

/// What befalls a handshake that waits for its last ACK in a listener's SYN queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SynQueue {
    /// A SYN got a place there, and was answered.
    Entered = 0,
    /// The ACK came, and the connection went on to the accept queue.
    Completed = 1,
    /// It was given up: a RST or an ICMP error came, the accept queue was full, or the listener
    /// went away.
    Dropped = 2,
    /// No answer came to any SYN-ACK.
    Expired = 3,
}

impl SynQueue {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Entered, Self::Completed, Self::Dropped, Self::Expired];
}

impl Counted {
    /// How many there are.
    pub const COUNT: usize = Self::SYN_QUEUE as usize + SynQueue::ALL.len();

    /// The number of the first of [`Counted::SynQueue`].
    const SYN_QUEUE: u16 = 1 + ResetReason::COUNT as u16;

    /// Its number, as the kernel side writes it.
    pub const fn number(self) -> u16 {
        match self {
            Self::SynackRetransmit => 0,
            Self::Reset(reason) => Self::number_of_reset(reason as u8),
            Self::SynQueue(what) => Self::SYN_QUEUE + what as u16,
        }
    }

    /// The number of a reset for the reason with this number.
    pub const fn number_of_reset(reason: u8) -> u16 {
        1 + reason as u16
    }

    /// What has this number, or `None` if this reader does not know it.
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
        if index < SynQueue::ALL.len() { Some(Self::SynQueue(SynQueue::ALL[index])) } else { None }
    }
}

/// Where something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortKey {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Our port; 0 for all of the namespace.
    pub port: u16,
    /// [`Counted::number`].
    pub counted: u16,
}

/// All ports of all namespaces together, one value per CPU, indexed by [`Counted::number`]: what
/// finer counts had no room for is in here as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortTotals(pub [u64; Counted::COUNT]);
