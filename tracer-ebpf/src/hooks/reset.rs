//! The record of a reset, either way.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::BtfTracePointContext};
use synfin_common::event::{Kind, Reset};

use crate::{hooks::aside, sock::TcpSock};

/// Reports a reset of this socket. `reason` is our number of it.
#[inline(always)]
pub fn report(ctx: &BtfTracePointContext, kind: Kind, sock: TcpSock, reason: u8, answer: bool) {
    aside::report(ctx, kind, sock, |state| Reset {
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
