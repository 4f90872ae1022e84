//! `tcp:tcp_send_reset`: we send a reset. For a connection it is evidence of why that ends, and is
//! recorded; with none behind it (a closed port, TIME_WAIT, a handshake) it is counted.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use synfin_common::{
    config::ABSENT, event::Kind, port_count::Counted, reset::ResetReason, state::TcpState,
};

use crate::{
    hooks::reset,
    port_count::count,
    sock::{CopiedSock, Packet, TcpSock, global},
};

const LISTEN: u8 = TcpState::Listen.number();
const SYN_SENT: u8 = TcpState::SynSent.number();
const SYN_RECV: u8 = TcpState::SynRecv.number();

/// Arguments: the socket, if there is one, of any kind; the segment that is answered, if one is;
/// since 6.10 the kernel's reason.
#[btf_tracepoint(function = "tcp_send_reset")]
fn reset_sent(ctx: BtfTracePointContext) {
    let (sock, packet) = (ctx.arg::<*const c_void>(0), ctx.arg::<*const c_void>(1));
    // Where there is no such argument this is dead code to the verifier.
    let reason = if global!(reset_tells_reason) != 0 {
        known_reason(ctx.arg::<i32>(2) as u16)
    } else {
        ResetReason::NotGiven as u8
    };
    let counted = Counted::number_of_reset(reason);
    // A null pointer has no type and must not be offset.
    if sock.is_null() {
        return count_by_packet(packet, counted);
    }
    if let Some(sock) = TcpSock::new(sock) {
        let answer = !packet.is_null();
        let state = sock.common().state();
        // A stranger can make us answer in these as often as he likes.
        let goes_on = state == LISTEN || answer && (state == SYN_SENT || state == SYN_RECV);
        if goes_on {
            count(sock.common().netns(), sock.local_port(), counted);
        } else {
            reset::report(&ctx, Kind::ResetSent, sock, reason, answer);
        }
        return;
    }
    // 6.12 takes the pointer for never null and removes the test above.
    let sock = CopiedSock::new(sock);
    if sock.state() == 0 {
        count_by_packet(packet, counted);
    } else {
        count(sock.netns(), sock.bound_port(), counted);
    }
}

#[inline(always)]
fn count_by_packet(packet: *const c_void, counted: u16) {
    if packet.is_null() || global!(offsets.skb_refdst) == ABSENT {
        return;
    }
    let packet = Packet::new(packet);
    count(packet.netns(), packet.destination_port(), counted);
}

/// Our number of a reason of the running kernel.
#[inline(always)]
fn known_reason(number: u16) -> u8 {
    let mut known = ResetReason::Other as u8;
    for index in 0..ResetReason::COUNT {
        if global!(reset_reasons[index]) == number {
            known = index as u8;
        }
    }
    known
}
