//! A record about a socket between its transitions.

use aya_ebpf::EbpfContext;
use synfin_common::event::Kind;

use crate::{
    emit::{emit, leave_out},
    filter,
    sock::TcpSock,
};

/// Writes what `record` makes of the socket's state, if the socket is wanted.
#[inline(always)]
pub fn report<T: 'static>(
    ctx: &impl EbpfContext,
    kind: Kind,
    sock: TcpSock,
    record: impl FnOnce(u8) -> T,
) {
    let state = sock.common().state();
    if !filter::passes(ctx, sock, state, state) {
        return leave_out(kind);
    }
    // SAFETY: the pointer is the ring buffer's memory for a `T`.
    emit(kind, |written: *mut T| unsafe { written.write(record(state)) });
}
