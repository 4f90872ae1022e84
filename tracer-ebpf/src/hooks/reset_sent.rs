//! `tcp:tcp_send_reset` (`net/ipv4/tcp_ipv4.c:tcp_v4_send_reset`,
//! `net/ipv4/tcp_output.c:tcp_send_active_reset`): the kernel sends a reset. If it closes a
//! connection, it is recorded as evidence of the reason; otherwise (a closed port, TIME_WAIT, a
//! handshake) it is counted.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use synfin_common::{
    config::ABSENT, event::Kind, port_count::PortEvent, reset::ResetReason, state::TcpState,
};

use crate::{
    hooks::reset,
    port_count::count,
    sock::{Packet, TcpSock, UntypedSock, global},
};

const LISTEN: u8 = TcpState::Listen.number();
const SYN_SENT: u8 = TcpState::SynSent.number();
const SYN_RECV: u8 = TcpState::SynRecv.number();

/// Arguments: the socket, of any kind, or null; the segment that the reset answers, or null; and
/// since 6.10 the reason (`enum sk_rst_reason`).
#[btf_tracepoint(function = "tcp_send_reset")]
fn reset_sent(ctx: BtfTracePointContext) {
    let (sock, packet) = (ctx.arg::<*const c_void>(0), ctx.arg::<*const c_void>(1));
    // Dead code to the verifier on kernels without that argument.
    let reason = if global!(has_reset_reason) != 0 {
        reason_from_kernel(ctx.arg::<i32>(2) as u16)
    } else {
        ResetReason::NotGiven as u8
    };
    let event = PortEvent::number_of_reset(reason);
    // The verifier rejects arithmetic on a pointer that may be null.
    if sock.is_null() {
        return count_by_packet(packet, event);
    }
    if let Some(sock) = TcpSock::new(sock) {
        let answer = !packet.is_null();
        let state = sock.common().state();
        // In these states a reset does not close the socket, and remote hosts can cause any number
        // of them.
        let stays_open = state == LISTEN || answer && (state == SYN_SENT || state == SYN_RECV);
        if stays_open {
            count(sock.common().netns(), sock.local_port(), event);
        } else {
            reset::emit(&ctx, Kind::ResetSent, sock, reason, answer);
        }
        return;
    }
    // The verifier of 6.12 assumes that the argument is never null and removes the check above, so
    // the pointer may be null here: then the state reads as zero.
    let sock = UntypedSock::new(sock);
    if sock.state() == 0 {
        count_by_packet(packet, event);
    } else {
        count(sock.netns(), sock.bound_port(), event);
    }
}

/// Counts a reset without a socket at the port that the segment was sent to.
#[inline(always)]
fn count_by_packet(packet: *const c_void, event: u16) {
    if packet.is_null() || global!(offsets.skb_refdst) == ABSENT {
        return;
    }
    let packet = Packet::new(packet);
    count(packet.netns(), packet.destination_port(), event);
}

/// The number of the [`ResetReason`] for a value of the running kernel's `enum sk_rst_reason`.
#[inline(always)]
fn reason_from_kernel(value: u16) -> u8 {
    let mut reason = ResetReason::Other as u8;
    for index in 0..ResetReason::COUNT {
        if global!(reset_reasons[index]) == value {
            reason = index as u8;
        }
    }
    reason
}
