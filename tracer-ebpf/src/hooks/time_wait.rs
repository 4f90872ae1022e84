//! What remains of a socket that has closed first: TIME_WAIT, or FIN_WAIT2 while the peer has not
//! closed yet. No tracepoint reports it, so these are programs on the kernel's own functions, for
//! where it allows that.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use synfin_common::{
    event::{Flags, Kind, TimeWaitChange, TimeWaitEntry},
    state::TcpState,
};

use crate::{
    emit::{emit_with_ends, leave_out},
    filter,
    hooks::aside,
    sock::{TcpSock, TimeWaitSock},
    within::within,
};

const FIN_WAIT2: u8 = TcpState::FinWait2.number();
const TIME_WAIT: u8 = TcpState::TimeWait.number();

/// Arguments: the socket, its namespace's table, in which state the remains are to be; and the
/// remains, null if the table is full.
#[fexit(function = "inet_twsk_alloc")]
fn time_wait_entry(ctx: FExitContext) {
    let Some(sock) = TcpSock::new(ctx.arg::<*const c_void>(0)) else {
        return;
    };
    let wanted = ctx.arg::<i32>(2) as u8;
    let substate = if ctx.arg::<u64>(3) == 0 { 0 } else { wanted };
    aside::report(&ctx, Kind::TimeWaitEntry, sock, |_| TimeWaitEntry {
        kind: Kind::TimeWaitEntry as u8,
        substate,
        reserved: [0; 6],
        // SAFETY: the helper has no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        sock: sock.address(),
    });
}

/// A segment came for the remains. Argument: these.
#[fentry(function = "tcp_timewait_state_process")]
fn time_wait_segment(ctx: FEntryContext) {
    let remains = TimeWaitSock::new(ctx.arg::<*const c_void>(0));
    if let Some(within) = within() {
        within.turning =
            if remains.substate() == FIN_WAIT2 { remains.common().address() } else { 0 };
    }
}

/// Their timer is set. Arguments: the remains, for how long, and whether it was set before.
#[fentry(function = "__inet_twsk_schedule")]
fn time_wait_timer(ctx: FEntryContext) {
    let remains = TimeWaitSock::new(ctx.arg::<*const c_void>(0));
    let was_set = ctx.arg::<u8>(2) != 0;
    // A FIN has come; other segments set the timer anew as well.
    if was_set
        && remains.substate() == TIME_WAIT
        && within().is_some_and(|within| within.turning == remains.common().address())
    {
        report(Kind::TimeWaitTurn, remains);
    }
}

/// They are freed, whether their time is over or something ended it. Argument: the remains.
#[fentry(function = "inet_twsk_free")]
fn time_wait_exit(ctx: FEntryContext) {
    let remains = TimeWaitSock::new(ctx.arg::<*const c_void>(0));
    // With a namespace all of its own go, and nobody asks for them any more.
    if !remains.is_in_dying_namespace() {
        report(Kind::TimeWaitExit, remains);
    }
}

#[inline(always)]
fn report(kind: Kind, remains: TimeWaitSock) {
    if !filter::passes_remains(remains) {
        return leave_out(kind);
    }
    let common = remains.common();
    emit_with_ends(kind, common.addresses(), |record: *mut TimeWaitChange, ipv6| {
        // SAFETY: `record` is the ring buffer's memory for a `TimeWaitChange`.
        unsafe {
            record.write(TimeWaitChange {
                kind: kind as u8,
                reserved: [0; 3],
                flags: if ipv6 { Flags::IPV6 } else { Flags::default() },
                time: bpf_ktime_get_ns(),
                netns: common.netns(),
                local_port: remains.local_port(),
                remote_port: common.remote_port(),
            });
        }
    });
}
