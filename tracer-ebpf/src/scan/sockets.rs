//! `iter/tcp`: scans all TCP sockets of the network namespace in which the iterator was created.
//!
//! The verifier knows a socket as a `sock_common`. Fields that only TIME_WAIT or request sockets have
//! are copied: `bpf_skc_to_tcp_timewait_sock` and `bpf_skc_to_tcp_request_sock`
//! (`net/core/filter.c`) refuse a socket whose `skc_prot` is not `tcp_prot` or `tcpv6_prot`, and
//! those of a listener for MPTCP or in a sockmap have the `sk_prot` that replaced it.

use core::{ffi::c_void, mem::transmute};

use aya_ebpf::{bindings::seq_file, helpers::bpf_ktime_get_ns};
use synfin_common::{
    event::Flags,
    scan::{FASTREUSE_UNKNOWN, KIND_SOCKET, KIND_TIME_WAIT, ScanSocket, ScanTimeWait},
    state::TcpState,
};

use super::{Meta, write};
use crate::sock::{CommonSock, TcpSock, UntypedRequestSock, UntypedTimeWaitSock};

const LISTEN: u8 = TcpState::Listen.number();
const TIME_WAIT: u8 = TcpState::TimeWait.number();
const NEW_SYN_RECV: u8 = TcpState::NewSynRecv.number();

/// `struct bpf_iter__tcp`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    sock: *const c_void,
}

/// The kernel calls it once per socket, and once without a socket at the end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
fn scan_sockets(context: *const Context) -> i32 {
    // SAFETY: the kernel passes this structure; the verifier knows the types of its pointers.
    let (seq, sock) = unsafe { ((*(*context).meta).seq, (*context).sock) };
    if sock.is_null() {
        return 0;
    }
    match CommonSock::new(sock).state() {
        TIME_WAIT => write_time_wait(seq, sock),
        NEW_SYN_RECV => write_request(seq, sock),
        _ => write_full(seq, sock),
    }
    0
}

#[inline(always)]
fn write_time_wait(seq: *mut seq_file, sock: *const c_void) {
    let (common, time_wait) = (CommonSock::new(sock), UntypedTimeWaitSock::new(sock));
    let addresses = common.addresses();
    write(
        seq,
        &ScanTimeWait {
            kind: KIND_TIME_WAIT,
            substate: time_wait.substate(),
            fastreuse: time_wait.fastreuse().unwrap_or(FASTREUSE_UNKNOWN),
            ipv6: addresses.ipv6.into(),
            local_port: common.bound_port(),
            remote_port: common.remote_port(),
            remaining_ms: time_wait.remaining_ms(),
            reserved: 0,
            local_addr: bytes(addresses.local),
            remote_addr: bytes(addresses.remote),
        },
    );
}

#[inline(always)]
fn write_request(seq: *mut seq_file, sock: *const c_void) {
    let mut record = common_fields(CommonSock::new(sock));
    record.retransmits = UntypedRequestSock::new(sock).retransmits();
    write(seq, &record);
}

#[inline(always)]
fn write_full(seq: *mut seq_file, sock: *const c_void) {
    let Some(sock) = TcpSock::new(sock) else {
        return;
    };
    let mut record = common_fields(sock.common());
    record.fastreuse = sock.fastreuse().unwrap_or(FASTREUSE_UNKNOWN);
    record.retransmits = sock.retransmits();
    record.flags = record.flags.with(sock.flags());
    if record.state == LISTEN {
        record.flags = record.flags.with(sock.listener_flags());
    }
    record.rtt_us = sock.rtt_us();
    record.accept_queue = sock.accept_queue();
    record.accept_limit = sock.accept_limit();
    record.drops = sock.drops();
    record.idle_ms = sock.idle_ms();
    record.cgroup = sock.cgroup();
    record.mptcp = sock.mptcp();
    record.bytes_acked = sock.bytes_acked();
    record.bytes_received = sock.bytes_received();
    (record.data_received_ms, record.data_sent_ms) = sock.data_ms();
    record.port_range = sock.port_range();
    record.min_rtt_us = sock.min_rtt_us();
    record.total_retransmits = sock.total_retransmits();
    record.segments_out = sock.segments_out();
    write(seq, &record);
}

/// A record with the fields that every kind of socket has.
#[inline(always)]
fn common_fields(common: CommonSock) -> ScanSocket {
    let addresses = common.addresses();
    ScanSocket {
        kind: KIND_SOCKET,
        state: common.state(),
        fastreuse: FASTREUSE_UNKNOWN,
        flags: if addresses.ipv6 { Flags::IPV6 } else { Flags::default() },
        // SAFETY: the helper has no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        sock: common.address(),
        local_port: common.bound_port(),
        remote_port: common.remote_port(),
        local_addr: bytes(addresses.local),
        remote_addr: bytes(addresses.remote),
        idle_ms: u32::MAX,
        data_received_ms: u32::MAX,
        data_sent_ms: u32::MAX,
        min_rtt_us: u32::MAX,
        ..ScanSocket::default()
    }
}

#[inline(always)]
fn bytes(address: [u64; 2]) -> [u8; 16] {
    // SAFETY: both types are 16 plain bytes.
    unsafe { transmute(address) }
}
