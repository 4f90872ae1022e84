//! `tcp:tcp_receive_reset` (`net/ipv4/tcp_input.c:tcp_reset`): the kernel accepted a reset for a
//! socket and is about to close it. The kernel calls the same function when data arrives on a
//! connection that was closed locally.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use synfin_common::{event::Kind, taken::Hook};

use crate::{emit::Writer, hooks::reset, sock::TcpSock, taken};

/// Argument: the socket.
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received(ctx: BtfTracePointContext) {
    taken::set(Hook::ResetReceived, ctx.arg::<u64>(0), 0);
    take(&ctx, Writer::First);
}

/// Takes the resets for which the kernel skips the first program, as in `state_change.rs`.
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received_skipped(ctx: BtfTracePointContext) {
    if taken::is_skipped(Hook::ResetReceived, ctx.arg::<u64>(0), 0) {
        take(&ctx, Writer::Second);
    }
}

#[inline(always)]
fn take(ctx: &BtfTracePointContext, writer: Writer) {
    if let Some(sock) = TcpSock::new(ctx.arg::<*const c_void>(0)) {
        reset::emit(ctx, Kind::ResetReceived, writer, sock, 0, false);
    }
}
