//! `tcp:tcp_retransmit_synack`: a listener sends a SYN-ACK again. The only moment at which the
//! time of the first one can be kept: the child that the handshake ends in does not know it.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{handshake, sock::RequestSock};

/// Arguments: the listener and the request.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn synack_retransmit(ctx: BtfTracePointContext) {
    handshake::remember_first_synack(&ctx, RequestSock::new(ctx.arg::<*const c_void>(1)));
}
