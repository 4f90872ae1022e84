//! `tcp:tcp_receive_reset`: a reset that the kernel accepted for a socket, just before →CLOSE.

use core::ffi::c_void;

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use synfin_common::event::{Kind, Reset};

use crate::{
    emit::{emit, leave_out},
    filter,
    sock::TcpSock,
};

/// Argument: the socket.
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received(ctx: BtfTracePointContext) {
    let Some(sock) = TcpSock::new(ctx.arg::<*const c_void>(0)) else {
        return;
    };
    let state = sock.common().state();
    if !filter::passes(&ctx, sock, state, state) {
        return leave_out(Kind::Reset);
    }
    emit(Kind::Reset, |record: *mut Reset| {
        // SAFETY: `record` is the ring buffer's memory for a `Reset`.
        unsafe {
            record.write(Reset {
                kind: Kind::Reset as u8,
                state,
                reserved: [0; 6],
                time: bpf_ktime_get_ns(),
                sock: sock.address(),
            });
        }
    });
}
