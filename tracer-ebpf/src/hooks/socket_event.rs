//! Records about a socket between its transitions.

use aya_ebpf::EbpfContext;
use synfin_common::{event::Kind, taken::Writer};

use crate::{
    emit::{self, count_filtered},
    filter,
    sock::TcpSock,
};

/// Writes the record that `record` makes for the socket's current state, unless the filter excludes
/// the socket.
#[inline(always)]
pub fn emit<T: 'static>(
    ctx: &impl EbpfContext,
    kind: Kind,
    sock: TcpSock,
    record: impl FnOnce(u8) -> T,
) {
    let state = sock.common().state();
    if !filter::admits(ctx, sock, state, state) {
        return count_filtered(kind, Writer::Other);
    }
    // SAFETY: the pointer is the ring buffer's memory for a `T`.
    emit::emit(kind, Writer::Other, |written: *mut T| unsafe { written.write(record(state)) });
}
