//! Measures a server's handshake whose SYN-ACK was retransmitted. The retransmission hook knows the
//! time of the first SYN-ACK; the child socket, which reports →ESTABLISHED, does not.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::BtfTracePointContext};
use aya_log_ebpf::{debug, warn};

use crate::{
    maps::{FIRST_SYNACK, HandshakeKey},
    sock::{Addresses, TcpSock, UntypedRequestSock, is_ipv4_mapped},
};

/// Remembers when the first SYN-ACK of `request` was sent.
#[inline(always)]
pub fn remember_first_synack(ctx: &BtfTracePointContext, request: UntypedRequestSock) {
    let sent_us = request.first_synack_us();
    if sent_us == 0 {
        return;
    }
    let common = request.common();
    let key = key(common.netns(), common.bound_port(), request.remote_port(), request.addresses());
    // An LRU map is never full.
    if let Err(error) = FIRST_SYNACK.insert(key, sent_us, 0) {
        warn!(ctx, "cannot measure a handshake on port {}: error {}", key.local_port, error);
    }
    debug!(ctx, "SYN-ACK retransmitted from port {} to port {}", key.local_port, key.remote_port);
}

/// Microseconds since the first SYN-ACK of the handshake that created `child`. If the first SYN-ACK
/// is not known, as without the retransmission hook, the time that the handshake spent in
/// retransmission timeouts; `None` if the kernel does not count that either.
#[inline(always)]
pub fn since_first_synack_us(child: TcpSock) -> Option<u32> {
    let common = child.common();
    let key = key(common.netns(), child.local_port(), common.remote_port(), common.addresses());
    // SAFETY: the value is copied at once; a concurrent update can only be for another handshake.
    if let Some(sent_us) = unsafe { FIRST_SYNACK.get(key) }.copied() {
        let _ = FIRST_SYNACK.remove(key);
        // SAFETY: the helper has no arguments.
        let now_us = unsafe { bpf_ktime_get_ns() } / 1000;
        let elapsed = now_us.wrapping_sub(sent_us);
        return Some(if elapsed > u32::MAX.into() { u32::MAX } else { elapsed as u32 });
    }
    match child.timeouts_ms() {
        0 => None,
        ms => Some(ms.saturating_mul(1000)),
    }
}

#[inline(always)]
fn key(netns: u32, local_port: u16, remote_port: u16, addresses: Addresses) -> HandshakeKey {
    HandshakeKey {
        netns,
        local_port,
        remote_port,
        local_addr: unmapped(addresses.ipv6, addresses.local),
        remote_addr: unmapped(addresses.ipv6, addresses.remote),
    }
}

/// Turns an IPv4-mapped address into an IPv4 one. On a dual-stack listener the request is IPv4 and
/// its child IPv4-mapped, and both must have the same key.
#[inline(always)]
fn unmapped(ipv6: bool, address: [u64; 2]) -> [u64; 2] {
    if ipv6 && is_ipv4_mapped(address) { [address[1] >> 32, 0] } else { address }
}
