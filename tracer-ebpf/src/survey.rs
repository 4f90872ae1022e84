//! `iter/tcp`: a walk over all sockets of the network namespace that the iterator was made in.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::seq_file,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_timewait_sock},
    },
};
use synfin_common::{
    event::Flags,
    state::TcpState,
    survey::{FASTREUSE_UNKNOWN, KIND_SOCKET, KIND_TIME_WAIT, SurveySocket, SurveyTimeWait},
};

use crate::{
    iterate::{Meta, write},
    sock::{CommonSock, HalfOpenSock, TcpSock, TimeWaitSock},
};

const LISTEN: u8 = TcpState::Listen.number();

/// `struct bpf_iter__tcp`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    sock: *const c_void,
}

/// Called once per socket, and once without one at the end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
fn survey(context: *const Context) -> i32 {
    // SAFETY: the kernel passes this structure; the verifier types its pointers.
    let (seq, sock) = unsafe { ((*(*context).meta).seq, (*context).sock) };
    if sock.is_null() {
        return 0;
    }
    let common = CommonSock::new(sock);
    const TIME_WAIT: u8 = TcpState::TimeWait.number();
    const NEW_SYN_RECV: u8 = TcpState::NewSynRecv.number();
    match common.state() {
        TIME_WAIT => time_wait(seq, sock),
        NEW_SYN_RECV => half_open(seq, sock),
        _ => full(seq, sock),
    }
    0
}

#[inline(always)]
fn time_wait(seq: *mut seq_file, sock: *const c_void) {
    // SAFETY: typed by the verifier.
    let typed = unsafe { bpf_skc_to_tcp_timewait_sock(sock.cast_mut()) };
    if typed.is_null() {
        return;
    }
    let common = CommonSock::new(typed.cast());
    let time_wait = TimeWaitSock::new(typed.cast());
    let addresses = common.addresses();
    write(
        seq,
        &SurveyTimeWait {
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
fn half_open(seq: *mut seq_file, sock: *const c_void) {
    // SAFETY: typed by the verifier.
    let typed = unsafe { bpf_skc_to_tcp_request_sock(sock.cast_mut()) };
    if typed.is_null() {
        return;
    }
    let mut record = common_part(CommonSock::new(typed.cast()));
    record.retransmits = HalfOpenSock::new(typed.cast()).retransmits();
    write(seq, &record);
}

#[inline(always)]
fn full(seq: *mut seq_file, sock: *const c_void) {
    let Some(sock) = TcpSock::new(sock) else {
        return;
    };
    let mut record = common_part(sock.common());
    record.fastreuse = sock.fastreuse().unwrap_or(FASTREUSE_UNKNOWN);
    record.retransmits = sock.retransmits();
    record.flags = record.flags.with(sock.flags());
    if record.state == LISTEN && sock.defers_accept() {
        record.flags = record.flags.with(Flags::DEFER_ACCEPT);
    }
    record.rtt_us = sock.rtt_us();
    record.accept_queue = sock.accept_queue();
    record.accept_limit = sock.accept_limit();
    record.drops = sock.drops();
    record.idle_ms = sock.idle_ms();
    record.cgroup = sock.cgroup();
    write(seq, &record);
}

#[inline(always)]
fn common_part(common: CommonSock) -> SurveySocket {
    let addresses = common.addresses();
    SurveySocket {
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
        ..SurveySocket::default()
    }
}

#[inline(always)]
fn bytes(address: [u64; 2]) -> [u8; 16] {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute(address) }
}
