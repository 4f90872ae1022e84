//! `tcp:tcp_receive_reset`: a reset that the kernel accepted for a socket, just before →CLOSE; or
//! data that came for one that was closed, which the kernel treats likewise.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use synfin_common::event::Kind;

use crate::{hooks::reset, sock::TcpSock};

/// Argument: the socket.
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received(ctx: BtfTracePointContext) {
    if let Some(sock) = TcpSock::new(ctx.arg::<*const c_void>(0)) {
        reset::report(&ctx, Kind::ResetReceived, sock, 0, false);
    }
}
