//! The record of a reset, either way.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::BtfTracePointContext};
use synfin_common::event::{Kind, Reset};

use crate::{
    emit::{emit, leave_out},
    filter,
    sock::TcpSock,
};

/// Reports a reset of this socket. `reason` is our number of it.
#[inline(always)]
pub fn report(ctx: &BtfTracePointContext, kind: Kind, sock: TcpSock, reason: u8, answer: bool) {
    let state = sock.common().state();
    if !filter::passes(ctx, sock, state, state) {
        return leave_out(kind);
    }
    emit(kind, |record: *mut Reset| {
        // SAFETY: `record` is the ring buffer's memory for a `Reset`.
        unsafe {
            record.write(Reset {
                kind: kind as u8,
                state,
                reason,
                answer: answer.into(),
                reserved: 0,
                time: bpf_ktime_get_ns(),
                sock: sock.address(),
            });
        }
    });
}
