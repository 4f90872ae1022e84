//! accept() takes a connection out of its listener's queue. No tracepoint reports it, so this is a
//! program on the kernel's own function, for where it allows that.

use core::ffi::c_void;

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::fexit, programs::FExitContext};
use synfin_common::event::{Accepted, Kind};

use crate::{
    hooks::aside,
    sock::{TcpSock, global},
    within::returned,
};

/// Returns the connection, or null.
#[fexit(function = "inet_csk_accept")]
fn accepted(ctx: FExitContext) {
    let sock = returned(&ctx, global!(returns.inet_csk_accept)) as *const c_void;
    if sock.is_null() {
        return;
    }
    let Some(sock) = TcpSock::new(sock) else {
        return;
    };
    aside::report(&ctx, Kind::Accepted, sock, |_| Accepted {
        kind: Kind::Accepted as u8,
        reserved: [0; 7],
        // SAFETY: the helper has no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        sock: sock.address(),
    });
}
