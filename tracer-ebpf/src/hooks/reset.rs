//! The record of a reset that was sent or received.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::BtfTracePointContext};
use synfin_common::event::{Kind, Reset};

use crate::{hooks::socket_event, sock::TcpSock};

/// Writes a record of a reset on this socket. `reason` is a number of
/// [`ResetReason`](synfin_common::reset::ResetReason); `answer` says whether the reset was sent in
/// answer to a segment.
#[inline(always)]
pub fn emit(ctx: &BtfTracePointContext, kind: Kind, sock: TcpSock, reason: u8, answer: bool) {
    socket_event::emit(ctx, kind, sock, |state| Reset {
        kind: kind as u8,
        state,
        reason,
        answer: answer.into(),
        reserved: 0,
        // SAFETY: the helper has no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        sock: sock.address(),
    });
}
