//! accept() takes a connection out of its listener's queue. No tracepoint reports it, so this is a
//! program on the kernel's own function, for where it allows that.

use core::ffi::c_void;

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::fexit, programs::FExitContext};
use synfin_common::event::{Accepted, Kind};

use crate::{
    emit::{emit, leave_out},
    filter,
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
    let state = sock.common().state();
    if !filter::passes(&ctx, sock, state, state) {
        return leave_out(Kind::Accepted);
    }
    emit(Kind::Accepted, |record: *mut Accepted| {
        // SAFETY: `record` is the ring buffer's memory for an `Accepted`.
        unsafe {
            record.write(Accepted {
                kind: Kind::Accepted as u8,
                reserved: [0; 7],
                time: bpf_ktime_get_ns(),
                sock: sock.address(),
            });
        }
    });
}
