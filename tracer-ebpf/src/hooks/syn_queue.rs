//! The handshakes that wait for their last ACK in listeners' SYN queues, counted. No tracepoint
//! reports them, so these are programs on the kernel's own functions, for where it allows that.

use core::ffi::c_void;

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use synfin_common::{
    port_count::{Counted, SynQueue},
    state::TcpState,
};

use crate::{
    port_count,
    sock::{TcpSock, global},
    within::{returned, within},
};

const LISTEN: u8 = TcpState::Listen.number();

/// Arguments: the listener, the handshake, and more on some kernels. Some return whether it got a
/// place; on others it always does.
#[fexit(function = "inet_csk_reqsk_queue_hash_add")]
fn syn_queue_entry(ctx: FExitContext) {
    let parameters = global!(returns.inet_csk_reqsk_queue_hash_add);
    if parameters == 0 || is_true(returned(&ctx, parameters)) {
        count(listener(&ctx), SynQueue::Entered);
    }
}

/// Arguments: the listener, the handshake, and more on some kernels. Returns whether it was still
/// there.
#[fexit(function = "inet_csk_reqsk_queue_drop")]
fn syn_queue_drop(ctx: FExitContext) {
    let Some(within) = within() else {
        return;
    };
    // A handshake that is through leaves the queue by this function, too.
    if within.completing != 0
        || !is_true(returned(&ctx, global!(returns.inet_csk_reqsk_queue_drop)))
    {
        return;
    }
    let Some(listener) = listener(&ctx) else {
        return;
    };
    // The timer drops also what a listener that has closed left behind.
    let expired = within.expiring != 0 && listener.common().state() == LISTEN;
    count(Some(listener), if expired { SynQueue::Expired } else { SynQueue::Dropped });
}

/// The last ACK came, and there is a child.
#[fentry(function = "inet_csk_complete_hashdance")]
fn syn_queue_completes(_: FEntryContext) {
    if let Some(within) = within() {
        within.completing = 1;
    }
}

/// Arguments: the listener, the child, the handshake, and whether this child is the one that counts;
/// and the child again, or null if it did not get a place in the accept queue.
#[fexit(function = "inet_csk_complete_hashdance")]
fn syn_queue_completed(ctx: FExitContext) {
    if let Some(within) = within() {
        within.completing = 0;
    }
    if is_true(ctx.arg::<u64>(3)) {
        let through = ctx.arg::<u64>(4) != 0;
        count(listener(&ctx), if through { SynQueue::Completed } else { SynQueue::Dropped });
    }
}

/// No answer has come for a while.
#[fentry(function = "reqsk_timer_handler")]
fn syn_queue_timer(_: FEntryContext) {
    if let Some(within) = within() {
        within.expiring = 1;
    }
}

#[fexit(function = "reqsk_timer_handler")]
fn syn_queue_timed(_: FExitContext) {
    if let Some(within) = within() {
        within.expiring = 0;
    }
}

/// The functions' first argument.
#[inline(always)]
fn listener(ctx: &FExitContext) -> Option<TcpSock> {
    TcpSock::new(ctx.arg::<*const c_void>(0))
}

#[inline(always)]
fn count(listener: Option<TcpSock>, what: SynQueue) {
    if let Some(listener) = listener {
        let counted = Counted::SynQueue(what).number();
        port_count::count(listener.common().netns(), listener.local_port(), counted);
    }
}

/// Of what a function returns as bool, the rest of the register is not defined.
#[inline(always)]
fn is_true(register: u64) -> bool {
    register as u8 != 0
}
