//! Sockets that closed first: in TIME_WAIT, or orphans in FIN_WAIT2 until the peer closes. There
//! are no tracepoints for them, so these are fentry and fexit programs on functions of
//! `net/ipv4/inet_timewait_sock.c` and `net/ipv4/tcp_minisocks.c`, an optional hook.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use synfin_common::{
    event::{Flags, Kind, TimeWaitChange, TimeWaitEntry},
    state::TcpState,
    taken::Writer,
};

use crate::{
    cpu_context::cpu_context,
    emit::{count_filtered, emit_with_addresses},
    filter,
    hooks::socket_event,
    sock::{TcpSock, TimeWaitSock},
};

const FIN_WAIT2: u8 = TcpState::FinWait2.number();
const TIME_WAIT: u8 = TcpState::TimeWait.number();

/// Arguments: the full socket, the namespace's table, and the state of the TIME_WAIT socket to be.
/// Returns the TIME_WAIT socket, or null if the table is full.
#[fexit(function = "inet_twsk_alloc")]
fn time_wait_entry(ctx: FExitContext) {
    let Some(sock) = TcpSock::new(ctx.arg::<*const c_void>(0)) else {
        return;
    };
    let wanted = ctx.arg::<i32>(2) as u8;
    let substate = if ctx.arg::<u64>(3) == 0 { 0 } else { wanted };
    socket_event::emit(&ctx, Kind::TimeWaitEntry, sock, |_| TimeWaitEntry {
        kind: Kind::TimeWaitEntry as u8,
        substate,
        reserved: [0; 6],
        // SAFETY: the helper has no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        sock: sock.address(),
    });
}

/// A segment has arrived for a TIME_WAIT socket. Argument: the TIME_WAIT socket.
#[fentry(function = "tcp_timewait_state_process")]
fn time_wait_segment(ctx: FEntryContext) {
    let sock = TimeWaitSock::new(ctx.arg::<*const c_void>(0));
    if let Some(context) = cpu_context() {
        context.fin_wait2_sock =
            if sock.substate() == FIN_WAIT2 { sock.common().address() } else { 0 };
    }
}

/// The timer of a TIME_WAIT socket is set. Arguments: the TIME_WAIT socket, the timeout, and
/// whether the timer was set before.
#[fentry(function = "__inet_twsk_schedule")]
fn time_wait_timer(ctx: FEntryContext) {
    let sock = TimeWaitSock::new(ctx.arg::<*const c_void>(0));
    let rearmed = ctx.arg::<u8>(2) != 0;
    // A FIN has turned FIN_WAIT2 into TIME_WAIT if the segment found the former. Other segments
    // restart the timer as well.
    if rearmed
        && sock.substate() == TIME_WAIT
        && cpu_context().is_some_and(|context| context.fin_wait2_sock == sock.common().address())
    {
        emit_change(Kind::FinWait2ToTimeWait, sock);
    }
}

/// A TIME_WAIT socket is freed, because its time is over or for another reason. Argument: the
/// TIME_WAIT socket.
#[fentry(function = "inet_twsk_free")]
fn time_wait_exit(ctx: FEntryContext) {
    let sock = TimeWaitSock::new(ctx.arg::<*const c_void>(0));
    // A namespace takes all of its TIME_WAIT sockets with it; nothing needs a record of each.
    if !sock.is_in_dying_namespace() {
        emit_change(Kind::TimeWaitExit, sock);
    }
}

#[inline(always)]
fn emit_change(kind: Kind, sock: TimeWaitSock) {
    if !filter::admits_time_wait(sock) {
        return count_filtered(kind, Writer::Other);
    }
    let common = sock.common();
    emit_with_addresses(
        kind,
        Writer::Other,
        common.addresses(),
        |record: *mut TimeWaitChange, ipv6| {
            // SAFETY: `record` is the ring buffer's memory for a `TimeWaitChange`.
            unsafe {
                record.write(TimeWaitChange {
                    kind: kind as u8,
                    reserved: [0; 3],
                    flags: if ipv6 { Flags::IPV6 } else { Flags::default() },
                    time: bpf_ktime_get_ns(),
                    netns: common.netns(),
                    local_port: sock.local_port(),
                    remote_port: common.remote_port(),
                });
            }
        },
    );
}
