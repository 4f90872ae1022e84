//! `sock:inet_sock_set_state` (`net/ipv4/af_inet.c:inet_sk_set_state`), the main hook: every
//! transition of every TCP socket.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use synfin_common::{
    event::{Closing, Established, Flags, Kind, Opening, Step},
    state::TcpState,
    taken::Writer,
    tracepoint::InetSockSetState,
};

use crate::{
    emit::{count_filtered, emit_with_addresses},
    filter, handshake,
    sock::{Current, IPPROTO_TCP, TcpSock},
    taken,
};

const ESTABLISHED: u8 = TcpState::Established.number();
const SYN_SENT: u8 = TcpState::SynSent.number();
const SYN_RECV: u8 = TcpState::SynRecv.number();
const FIN_WAIT1: u8 = TcpState::FinWait1.number();
const CLOSE: u8 = TcpState::Close.number();
const CLOSE_WAIT: u8 = TcpState::CloseWait.number();
const LAST_ACK: u8 = TcpState::LastAck.number();
const LISTEN: u8 = TcpState::Listen.number();

/// Arguments: the socket, the old and the new state. The socket is still in the old state.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_change(ctx: BtfTracePointContext) {
    let (sk, old, new) = arguments(&ctx);
    taken::by_first(sk.addr() as u64, states(old, new));
    if let Some(sock) = TcpSock::new(sk) {
        emit_transition(&ctx, sock, old, new, Writer::First);
    }
}

/// Writes the transitions for which the kernel skipped the first program: a packet that an interrupt
/// brings while that program runs finds it busy. It is attached after the first one, so the kernel calls
/// it after that for each transition. An interrupt finds at most one of them running. If it comes between them,
/// both write the interrupted transition, and the tracker drops the second record.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_change_skipped(ctx: BtfTracePointContext) {
    take_skipped(&ctx, Writer::Second);
}

/// The same once more for kernels that can preempt programs on tracepoints: a task that is preempted in
/// the second program keeps it busy until it continues.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_change_skipped_again(ctx: BtfTracePointContext) {
    take_skipped(&ctx, Writer::Third);
}

#[inline(always)]
fn take_skipped(ctx: &BtfTracePointContext, writer: Writer) {
    let (sk, old, new) = arguments(ctx);
    let address = sk.addr() as u64;
    if old != new
        && let Some(sock) = TcpSock::new(sk)
        && taken::by_later(writer, address, states(old, new))
    {
        emit_transition(ctx, sock, old, new, writer);
    }
    // No program needs the filter's decision about the socket any more.
    if new == CLOSE {
        filter::forget(address);
    }
}

#[inline(always)]
fn arguments(ctx: &BtfTracePointContext) -> (*const c_void, u8, u8) {
    (ctx.arg::<*const c_void>(0), ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8)
}

/// What identifies a transition besides its socket.
#[inline(always)]
const fn states(old: u8, new: u8) -> u64 {
    (old as u64) << 8 | new as u64
}

/// [`state_change`] for kernels that can preempt it and skip its other runs on that CPU until it
/// continues. This program costs more, but is never preempted.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn state_change_event(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr().cast_const().cast::<InetSockSetState>();
    // SAFETY: the loader has checked that the kernel's event has this layout. Only full TCP sockets
    // report transitions with TCP's protocol number.
    unsafe {
        let sk = read_volatile(&raw const (*record).skaddr);
        let old = read_volatile(&raw const (*record).oldstate) as u8;
        let new = read_volatile(&raw const (*record).newstate) as u8;
        taken::by_first(sk as u64, states(old, new));
        if read_volatile(&raw const (*record).protocol) == IPPROTO_TCP {
            emit_transition(&ctx, TcpSock::at(sk as *const c_void), old, new, Writer::First);
        }
    }
    0
}

#[inline(always)]
fn emit_transition(ctx: &impl EbpfContext, sock: TcpSock, old: u8, new: u8, writer: Writer) {
    // close() after shutdown(), and aborting a listener, report a transition to the current state.
    if old == new {
        return;
    }
    if !filter::admits(ctx, sock, old, new) {
        let kind = match new {
            SYN_SENT | SYN_RECV | LISTEN => Kind::Opening,
            CLOSE => Kind::Closing,
            ESTABLISHED => Kind::Established,
            _ => Kind::Step,
        };
        return count_filtered(kind, writer);
    }
    let addresses = sock.common().addresses();
    match new {
        SYN_SENT | SYN_RECV | LISTEN => {
            emit_with_addresses(Kind::Opening, writer, addresses, |record, ipv6| {
                fill_opening(record, sock, ipv6, old, new);
                mark(record.cast(), writer);
            });
        }
        CLOSE => emit_with_addresses(Kind::Closing, writer, addresses, |record, ipv6| {
            fill_closing(record, sock, ipv6, old);
            mark(record.cast(), writer);
        }),
        ESTABLISHED => emit_with_addresses(Kind::Established, writer, addresses, |record, ipv6| {
            fill_established(record, sock, ipv6, old);
            mark(record.cast(), writer);
        }),
        _ => emit_with_addresses(Kind::Step, writer, addresses, |record, ipv6| {
            fill_step(record, sock, ipv6, Kind::Step, old, new);
            mark(record, writer);
        }),
    }
}

/// Marks a record of a later program. Each record of a transition begins with a [`Step`].
#[inline(always)]
fn mark(record: *mut Step, writer: Writer) {
    if writer != Writer::First {
        // SAFETY: `record` has been filled in.
        unsafe { (*record).flags = (*record).flags.with(Flags::RECOVERED) }
    }
}

/// Whether only a system call on the socket makes this transition, so that the current process is
/// the socket's owner. Packets and timers make all other transitions, whatever process is current.
#[inline(always)]
fn is_made_by_owner(old: u8, new: u8, err: u8) -> bool {
    match (old, new) {
        (CLOSE, SYN_SENT | LISTEN) | (LISTEN, CLOSE) => true,
        (ESTABLISHED, FIN_WAIT1) | (CLOSE_WAIT, LAST_ACK) => true,
        (ESTABLISHED | CLOSE_WAIT | SYN_SENT, CLOSE) => err == 0,
        _ => false,
    }
}

#[inline(always)]
fn fill_step(record: *mut Step, sock: TcpSock, ipv6: bool, kind: Kind, old: u8, new: u8) {
    let common = sock.common();
    let err = sock.error();
    let mut flags = Flags::default();
    if ipv6 {
        flags = flags.with(Flags::IPV6);
    }
    if (new == ESTABLISHED || new == SYN_SENT) && sock.is_in_repair() {
        flags = flags.with(Flags::REPAIR);
    }
    if matches!(new, ESTABLISHED | SYN_SENT | SYN_RECV | LISTEN) && sock.is_mptcp() {
        flags = flags.with(Flags::MPTCP);
    }
    let mut pid = 0;
    if is_made_by_owner(old, new, err) && !Current::get().is_kernel_thread() {
        flags = flags.with(Flags::BY_OWNER);
        pid = Current::pid();
    }
    let total_retransmits = sock.total_retransmits();
    let mut rtt_us = sock.rtt_us();
    if new == ESTABLISHED && total_retransmits > 0 {
        if sock.used_fast_open() {
            flags = flags.with(Flags::FAST_OPEN);
        }
        if old == SYN_RECV
            && let Some(elapsed) = handshake::since_first_synack_us(sock)
        {
            rtt_us = elapsed;
            flags = flags.with(Flags::SINCE_FIRST_SYNACK);
        }
    }
    // SAFETY: `record` is the ring buffer's memory for a `Step`, and every field is written.
    unsafe {
        (*record).kind = kind as u8;
        (*record).old = old;
        (*record).new = new;
        (*record).err = err;
        (*record).flags = flags;
        (*record).time = bpf_ktime_get_ns();
        (*record).sock = sock.address();
        (*record).netns = common.netns();
        (*record).pid = pid;
        (*record).local_port = sock.local_port();
        (*record).remote_port = common.remote_port();
        (*record).rtt_us = rtt_us;
        (*record).err_soft = 0;
        (*record).retransmits = 0;
        (*record).probes = 0;
        (*record).reserved = 0;
        (*record).total_retransmits = total_retransmits;
    }
}

/// The values of [`Opening::parent`] and [`Opening::listener_port`].
#[inline(always)]
fn parent(sock: TcpSock, old: u8, new: u8) -> (u64, u16) {
    match (old, new) {
        (_, SYN_SENT) => (sock.mptcp(), 0),
        (LISTEN, SYN_RECV) => match sock.listener() {
            Some(listener) => (listener.address(), listener.bound_port()),
            None => (0, 0),
        },
        _ => (0, 0),
    }
}

#[inline(always)]
fn fill_opening(record: *mut Opening, sock: TcpSock, ipv6: bool, old: u8, new: u8) {
    // A child is a clone of its listener: it still has the listener's accept queue and, up to 6.14,
    // its settings.
    //
    // SAFETY: as in `fill_step`.
    unsafe {
        fill_step(&raw mut (*record).step, sock, ipv6, Kind::Opening, old, new);
        if new != SYN_RECV {
            (*record).step.local_port = sock.local_port_opening();
        }
        if new != SYN_SENT {
            let flags = &raw mut (*record).step.flags;
            *flags = (*flags).with(sock.listener_flags());
            if new == SYN_RECV && sock.sent_cookies() {
                *flags = (*flags).with(Flags::COOKIES_SENT);
            }
        }
        (*record).cgroup = sock.cgroup();
        (*record).accept_queue = if new == LISTEN { 0 } else { sock.accept_queue() };
        (*record).accept_limit = sock.accept_limit();
        let comm = (&raw mut (*record).comm).cast::<[u64; 2]>();
        let by_owner = (*record).step.flags.contains(Flags::BY_OWNER);
        comm.write(if by_owner { Current::get().process_name() } else { [0; 2] });
        let (parent, listener_port) = parent(sock, old, new);
        (*record).parent = parent;
        (*record).listener_port = listener_port;
        (*record).drops = if new == LISTEN { sock.drops() } else { 0 };
        (*record).netns_inode = sock.common().netns_inode();
        (*record).port_range = if new == SYN_SENT { sock.port_range() } else { 0 };
        (*record).reserved = 0;
    }
}

#[inline(always)]
fn fill_established(record: *mut Established, sock: TcpSock, ipv6: bool, old: u8) {
    // SAFETY: as in `fill_step`.
    unsafe {
        fill_step(&raw mut (*record).step, sock, ipv6, Kind::Established, old, ESTABLISHED);
        let is_mptcp = (*record).step.flags.contains(Flags::MPTCP);
        (*record).mptcp = if is_mptcp { sock.mptcp() } else { 0 };
        (*record).snd_una = sock.unacknowledged();
        (*record).rcv_nxt = sock.expected();
    }
}

#[inline(always)]
fn fill_closing(record: *mut Closing, sock: TcpSock, ipv6: bool, old: u8) {
    // SAFETY: as in `fill_step`.
    unsafe {
        fill_step(&raw mut (*record).step, sock, ipv6, Kind::Closing, old, CLOSE);
        let flags = &raw mut (*record).step.flags;
        *flags = (*flags).with(sock.flags());
        if (*record).step.err != 0 {
            *flags = (*flags).with(sock.send_flags());
        }
        (*record).step.err_soft = sock.soft_error();
        (*record).step.retransmits = sock.retransmits();
        (*record).step.probes = sock.probes();
        (*record).bytes_acked = sock.bytes_acked();
        (*record).bytes_received = sock.bytes_received();
        (*record).bytes_retransmitted = sock.bytes_retransmitted();
        (*record).unread = if old == LISTEN { 0 } else { sock.unread() };
        (*record).idle_ms = sock.idle_ms();
        (*record).drops = if old == LISTEN { sock.drops() } else { 0 };
        (*record).min_rtt_us = sock.min_rtt_us();
        (*record).segments_out = sock.segments_out();
        (*record).segments_in = sock.segments_in();
        let limited_ms = sock.limited_ms();
        (*record).window_limited_ms = (limited_ms >> 32) as u32;
        (*record).buffer_limited_ms = limited_ms as u32;
    }
}
