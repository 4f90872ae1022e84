//! What is counted per local port instead of recorded, because a stranger decides how often it
//! happens: SYN-ACKs that are sent again, and resets with no connection behind them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::reset::ResetReason;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// A listener sent a SYN-ACK again: the last ACK of a handshake is overdue.
    SynackRetransmit,
    /// A reset was sent that no connection of ours stands behind, for this reason.
    Reset(ResetReason),
}

impl Counted {
    /// How many there are.
    pub const COUNT: usize = 1 + ResetReason::COUNT;

    /// Its number, as the kernel side writes it.
    pub const fn number(self) -> u16 {
        match self {
            Self::SynackRetransmit => 0,
            Self::Reset(reason) => Self::number_of_reset(reason as u8),
        }
    }

    /// The number of a reset for the reason with this number.
    pub const fn number_of_reset(reason: u8) -> u16 {
        1 + reason as u16
    }

    /// What has this number, or `None` if this reader does not know it.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::SynackRetransmit),
            1..=0xff => match ResetReason::from_number(number as u8 - 1) {
                Some(reason) => Some(Self::Reset(reason)),
                None => None,
            },
            _ => None,
        }
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
