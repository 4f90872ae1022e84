//! Request sockets: handshakes in a listener's SYN queue (`struct tcp_request_sock`).

use core::ffi::c_void;

use synfin_common::config::ABSENT;

use super::{AF_INET6, Addresses, UntypedSock};

/// A request socket behind an untyped pointer.
#[derive(Clone, Copy)]
pub struct UntypedRequestSock(*const u8);

impl UntypedRequestSock {
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// `snt_synack`: when the first SYN-ACK was sent, in microseconds of `CLOCK_MONOTONIC`; 0 if
    /// unknown.
    #[inline(always)]
    pub fn first_synack_us(self) -> u64 {
        probe_read!(self.0, req_snt_synack: u64)
    }

    /// `num_retrans`: retransmissions of the SYN-ACK; 0 if the kernel's BTF does not contain the field.
    #[inline(always)]
    pub fn retransmits(self) -> u8 {
        if global!(offsets.req_num_retrans) == ABSENT {
            return 0;
        }
        probe_read!(self.0, req_num_retrans: u8)
    }

    /// Whether this is the handshake of a further subflow that has joined its MPTCP connection. Such
    /// a child needs no accept(), so the request leaves the SYN queue without passing through the
    /// accept queue (`drop_req`, `net/ipv4/tcp_minisocks.c:tcp_check_req`). A child that is refused,
    /// as by a wrong HMAC, leaves it the same way, but the request then still refers to the
    /// connection (`net/mptcp/subflow.c:subflow_syn_recv_sock`).
    #[inline(always)]
    pub fn has_joined(self) -> bool {
        if global!(offsets.req_drop) == ABSENT || global!(offsets.req_mptcp) == ABSENT {
            return false;
        }
        probe_read!(self.0, req_drop: u8) != 0 && probe_read!(self.0, req_mptcp: u64) == 0
    }

    #[inline(always)]
    pub fn common(self) -> UntypedSock {
        UntypedSock(self.0)
    }

    /// `skc_dport`: the peer's port.
    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        u16::from_be(probe_read!(self.0, skc_dport: u16))
    }

    #[inline(always)]
    pub fn addresses(self) -> Addresses {
        if probe_read!(self.0, skc_family: u16) == AF_INET6 {
            Addresses {
                ipv6: true,
                local: probe_read!(self.0, skc_v6_rcv_saddr: [u64; 2]),
                remote: probe_read!(self.0, skc_v6_daddr: [u64; 2]),
            }
        } else {
            Addresses {
                ipv6: false,
                local: [probe_read!(self.0, skc_rcv_saddr: u32).into(), 0],
                remote: [probe_read!(self.0, skc_daddr: u32).into(), 0],
            }
        }
    }
}
