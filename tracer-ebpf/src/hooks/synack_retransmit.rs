//! `tcp:tcp_retransmit_synack` (`net/ipv4/tcp_output.c:tcp_rtx_synack`): a listener retransmits a
//! SYN-ACK. The hook counts it, and remembers the time of the first SYN-ACK, as the child socket of
//! the handshake does not know it.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use synfin_common::port_count::PortEvent;

use crate::{handshake, port_count::count, sock::UntypedRequestSock};

/// Arguments: the listener and the request socket.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn synack_retransmit(ctx: BtfTracePointContext) {
    let request = UntypedRequestSock::new(ctx.arg::<*const c_void>(1));
    let common = request.common();
    count(common.netns(), common.bound_port(), PortEvent::SynackRetransmit.number());
    handshake::remember_first_synack(&ctx, request);
}
