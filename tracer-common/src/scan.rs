//! Records that a scan of all sockets of a network namespace (`iter/tcp`) writes, one per socket.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::event::Flags;

/// [`ScanSocket::kind`]: a socket that is not in TIME_WAIT.
pub const KIND_SOCKET: u8 = 1;
/// [`ScanTimeWait::kind`]: a TIME_WAIT socket.
pub const KIND_TIME_WAIT: u8 = 2;

/// `fastreuse` of a socket without a bind bucket, or if the kernel's BTF does not contain the
/// field.
pub const FASTREUSE_UNKNOWN: i8 = i8::MIN;

/// A listener, a half-open handshake or a connection that the scan found.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ScanSocket {
    /// [`KIND_SOCKET`].
    pub kind: u8,
    /// The state, by the kernel's number (12, TCP_NEW_SYN_RECV: a half-open handshake).
    pub state: u8,
    /// `icsk_bind_hash->fastreuse`: −1 if connect() chose the port
    /// (`net/ipv4/inet_hashtables.c:__inet_hash_connect`), so the socket is a client; 0 or more if
    /// the port was bound. [`FASTREUSE_UNKNOWN`] if not known.
    pub fastreuse: i8,
    /// `icsk_retransmits`: consecutive expiries of the retransmission timer; of a half-open
    /// handshake `num_retrans`, retransmissions of the SYN-ACK.
    pub retransmits: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// When the scan found the socket, nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The socket's kernel address.
    pub sock: u64,
    /// The local port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
    /// The local address: 16 bytes of IPv6, or 4 bytes of IPv4 and zeros.
    pub local_addr: [u8; 16],
    /// The peer's address.
    pub remote_addr: [u8; 16],
    /// A listener's `sk_ack_backlog`: connections waiting for accept().
    pub accept_queue: u32,
    /// A listener's `sk_max_ack_backlog`.
    pub accept_limit: u32,
    /// `sk_drops`: everything that a listener has dropped since it was created.
    pub drops: u32,
    /// Milliseconds since the last segment was received; [`u32::MAX`] if unknown.
    pub idle_ms: u32,
    /// Id of the socket's cgroup, 0 if unknown.
    pub cgroup: u64,
    /// As [`Established::mptcp`](crate::event::Established::mptcp).
    pub mptcp: u64,
    /// As [`Closing::bytes_acked`](crate::event::Closing::bytes_acked).
    pub bytes_acked: u64,
    /// As [`Closing::bytes_received`](crate::event::Closing::bytes_received).
    pub bytes_received: u64,
    /// Milliseconds since the last segment with data was received (`lrcvtime`), or since the
    /// handshake if none was; [`u32::MAX`] if unknown.
    pub data_received_ms: u32,
    /// Milliseconds since the last segment with data was sent (`lsndtime`), or since the handshake
    /// if none was; [`u32::MAX`] if unknown.
    pub data_sent_ms: u32,
    /// As [`Opening::port_range`](crate::event::Opening::port_range).
    pub port_range: u32,
    /// As [`Closing::min_rtt_us`](crate::event::Closing::min_rtt_us).
    pub min_rtt_us: u32,
    /// `total_retrans`: segments retransmitted; [`u32::MAX`] if this, the bytes and `segments_out` were
    /// not recorded.
    pub total_retransmits: u32,
    /// As [`Closing::segments_out`](crate::event::Closing::segments_out).
    pub segments_out: u32,
}

/// A connection in TIME_WAIT, or an orphan in FIN_WAIT2, which the kernel keeps in the same table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ScanTimeWait {
    /// [`KIND_TIME_WAIT`].
    pub kind: u8,
    /// `tw_substate`: TIME_WAIT (6) or FIN_WAIT2 (5).
    pub substate: u8,
    /// `tw_tb->fastreuse`, as [`ScanSocket::fastreuse`].
    pub fastreuse: i8,
    /// 1 if the addresses are IPv6.
    pub ipv6: u8,
    /// The local port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Milliseconds until its timer frees it.
    pub remaining_ms: u32,
    /// Zero.
    pub reserved: u32,
    /// The local address, as in [`ScanSocket::local_addr`].
    pub local_addr: [u8; 16],
    /// The peer's address.
    pub remote_addr: [u8; 16],
}

const _: () = assert!(size_of::<ScanSocket>() == 136);
const _: () = assert!(size_of::<ScanTimeWait>() == 48);
