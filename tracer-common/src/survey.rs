//! Records that a walk over all sockets (`iter/tcp`) writes, one per socket.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::event::Flags;

/// [`SurveySocket::kind`] of every walked socket that is not in TIME_WAIT.
pub const KIND_SOCKET: u8 = 1;
/// [`SurveyTimeWait::kind`].
pub const KIND_TIME_WAIT: u8 = 2;

/// `fastreuse` where the socket has no bind bucket, or the kernel does not show it.
pub const FASTREUSE_UNKNOWN: i8 = i8::MIN;

/// A listener, a half-open handshake or a connection, as the walk met it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SurveySocket {
    /// [`KIND_SOCKET`].
    pub kind: u8,
    /// Its state, by the kernel's number (12: a half-open handshake).
    pub state: u8,
    /// `icsk_bind_hash->fastreuse`: −1 if connect() chose the port, so a client; 0 or more if it
    /// was bound. [`FASTREUSE_UNKNOWN`] if not known.
    pub fastreuse: i8,
    /// `icsk_retransmits`.
    pub retransmits: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// `CLOCK_MONOTONIC` when the walk was here, nanoseconds.
    pub time: u64,
    /// The socket's kernel address.
    pub sock: u64,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Smoothed round trip, microseconds.
    pub rtt_us: u32,
    /// Our address: 16 bytes of IPv6, or 4 of IPv4 and zeros.
    pub local_addr: [u8; 16],
    /// The peer's address.
    pub remote_addr: [u8; 16],
    /// A listener's `sk_ack_backlog`: connections waiting for accept().
    pub accept_queue: u32,
    /// A listener's `sk_max_ack_backlog`.
    pub accept_limit: u32,
    /// `sk_drops`: all that a listener dropped since it was made.
    pub drops: u32,
    /// Milliseconds since the last segment was received; [`u32::MAX`] if unknown.
    pub idle_ms: u32,
    /// Id of the socket's cgroup, 0 if unknown.
    pub cgroup: u64,
}

/// A connection in TIME_WAIT, or an orphan in FIN_WAIT2 that the kernel keeps in the same table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SurveyTimeWait {
    /// [`KIND_TIME_WAIT`].
    pub kind: u8,
    /// `tw_substate`: TIME_WAIT (6) or FIN_WAIT2 (5).
    pub substate: u8,
    /// As [`SurveySocket::fastreuse`].
    pub fastreuse: i8,
    /// 1 if the addresses are IPv6.
    pub ipv6: u8,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Milliseconds until it is freed.
    pub remaining_ms: u32,
    /// Zero.
    pub reserved: u32,
    /// Our address.
    pub local_addr: [u8; 16],
    /// The peer's address.
    pub remote_addr: [u8; 16],
}

const _: () = assert!(size_of::<SurveySocket>() == 88);
const _: () = assert!(size_of::<SurveyTimeWait>() == 48);
