//! Counts the handshakes that enter and leave listeners' SYN queues. There are no tracepoints for
//! that, so these are fentry and fexit programs on functions of
//! `net/ipv4/inet_connection_sock.c`, an optional hook.

use core::ffi::c_void;

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use synfin_common::{
    port_count::{PortEvent, SynQueueEvent},
    state::TcpState,
};

use crate::{
    cpu_context::{cpu_context, return_value},
    port_count,
    sock::{TcpSock, UntypedRequestSock, global},
};

const LISTEN: u8 = TcpState::Listen.number();

/// Arguments: the listener, the request socket, and others on some kernels. Returns whether the
/// request socket was added; on kernels where it returns nothing, it always is.
#[fexit(function = "inet_csk_reqsk_queue_hash_add")]
fn syn_queue_entry(ctx: FExitContext) {
    let index = global!(return_indices.inet_csk_reqsk_queue_hash_add);
    if index == 0 || is_true(return_value(&ctx, index)) {
        count(listener(&ctx), SynQueueEvent::Entered);
    }
}

/// Arguments: the listener, the request socket, and others on some kernels. Returns whether the
/// request socket was still in the queue.
#[fexit(function = "inet_csk_reqsk_queue_drop")]
fn syn_queue_drop(ctx: FExitContext) {
    let Some(context) = cpu_context() else {
        return;
    };
    // A completed handshake also leaves the queue through this function.
    if context.completing_handshake != 0
        || !is_true(return_value(&ctx, global!(return_indices.inet_csk_reqsk_queue_drop)))
    {
        return;
    }
    let Some(listener) = listener(&ctx) else {
        return;
    };
    if UntypedRequestSock::new(ctx.arg::<*const c_void>(1)).has_joined() {
        return count(Some(listener), SynQueueEvent::Completed);
    }
    // The timer also drops the requests of a listener that has been closed.
    let expired = context.in_synack_timer != 0 && listener.common().state() == LISTEN;
    count(Some(listener), if expired { SynQueueEvent::Expired } else { SynQueueEvent::Dropped });
}

/// The last ACK has arrived and there is a child socket.
#[fentry(function = "inet_csk_complete_hashdance")]
fn hashdance_entry(_: FEntryContext) {
    if let Some(context) = cpu_context() {
        context.completing_handshake = 1;
    }
}

/// Arguments: the listener, the child socket, the request socket, and whether this child owns the
/// request (another CPU may have created one too). Returns the child, or null if the accept queue
/// had no room for it.
#[fexit(function = "inet_csk_complete_hashdance")]
fn hashdance_exit(ctx: FExitContext) {
    if let Some(context) = cpu_context() {
        context.completing_handshake = 0;
    }
    if is_true(ctx.arg::<u64>(3)) {
        let queued = ctx.arg::<u64>(4) != 0;
        let event = if queued { SynQueueEvent::Completed } else { SynQueueEvent::Dropped };
        count(listener(&ctx), event);
    }
}

/// The SYN-ACK timer: no answer to the last SYN-ACK has arrived in time.
#[fentry(function = "reqsk_timer_handler")]
fn synack_timer_entry(_: FEntryContext) {
    if let Some(context) = cpu_context() {
        context.in_synack_timer = 1;
    }
}

#[fexit(function = "reqsk_timer_handler")]
fn synack_timer_exit(_: FExitContext) {
    if let Some(context) = cpu_context() {
        context.in_synack_timer = 0;
    }
}

/// The first argument of the functions.
#[inline(always)]
fn listener(ctx: &FExitContext) -> Option<TcpSock> {
    TcpSock::new(ctx.arg::<*const c_void>(0))
}

#[inline(always)]
fn count(listener: Option<TcpSock>, event: SynQueueEvent) {
    if let Some(listener) = listener {
        let event = PortEvent::SynQueue(event).number();
        port_count::count(listener.common().netns(), listener.local_port(), event);
    }
}

/// A bool in a register: only its lowest byte is defined.
#[inline(always)]
fn is_true(register: u64) -> bool {
    register as u8 != 0
}
