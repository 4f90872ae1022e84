//! `tcp:tcp_receive_reset` (`net/ipv4/tcp_input.c:tcp_reset`): the kernel accepted a reset for a
//! socket and is about to close it. The kernel calls the same function when data arrives on a
//! connection that was closed locally.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use synfin_common::event::Kind;

use crate::{hooks::reset, sock::TcpSock};

/// Argument: the socket.
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received(ctx: BtfTracePointContext) {
    if let Some(sock) = TcpSock::new(ctx.arg::<*const c_void>(0)) {
        reset::emit(&ctx, Kind::ResetReceived, sock, 0, false);
    }
}
