//! `tcp:tcp_retransmit_synack`: a listener sends a SYN-ACK again, which is counted. The only moment
//! at which the time of the first one can be kept: the child that the handshake ends in does not
//! know it.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use synfin_common::port_count::Counted;

use crate::{handshake, port_count::count, sock::RequestSock};

/// Arguments: the listener and the request.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn synack_retransmit(ctx: BtfTracePointContext) {
    let request = RequestSock::new(ctx.arg::<*const c_void>(1));
    let common = request.common();
    count(common.netns(), common.bound_port(), Counted::SynackRetransmit.number());
    handshake::remember_first_synack(&ctx, request);
}
