//! accept() takes a connection from its listener's queue. There is no tracepoint for that, so this
//! is an fexit program on a kernel function, an optional hook.

use core::ffi::c_void;

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::fexit, programs::FExitContext};
use synfin_common::event::{Accepted, Kind};

use crate::{
    cpu_context::return_value,
    hooks::socket_event,
    sock::{TcpSock, global},
};

/// `net/ipv4/inet_connection_sock.c:inet_csk_accept`. Returns the connection, or null.
#[fexit(function = "inet_csk_accept")]
fn accepted(ctx: FExitContext) {
    let sock = return_value(&ctx, global!(return_indices.inet_csk_accept)) as *const c_void;
    if sock.is_null() {
        return;
    }
    let Some(sock) = TcpSock::new(sock) else {
        return;
    };
    socket_event::emit(&ctx, Kind::Accepted, sock, |_| Accepted {
        kind: Kind::Accepted as u8,
        reserved: [0; 7],
        // SAFETY: the helper has no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        sock: sock.address(),
    });
}
