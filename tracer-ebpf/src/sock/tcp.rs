//! Full TCP sockets (`struct tcp_sock`).

use core::{ffi::c_void, mem::transmute};

use aya_ebpf::helpers::{
    bpf_probe_read_kernel,
    generated::{bpf_jiffies64, bpf_skc_to_tcp_sock},
};
use synfin_common::{config::ABSENT, event::Flags, kfunc::RDONLY_CAST_PLACEHOLDER};

use super::{CommonSock, UntypedSock, bit, bucket_fastreuse, jiffies_to_ms, load};

// Bits of `sk_flags` (include/net/sock.h:enum sock_flags) and of `sk_shutdown`.
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;
const SOCK_LINGER: u64 = 1 << 4;
const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;

/// A full TCP socket.
#[derive(Clone, Copy)]
pub struct TcpSock(*const u8);

impl TcpSock {
    /// `None` if it is not a full TCP socket: an MPTCP or SCTP socket, a TIME_WAIT socket or a
    /// request socket.
    #[inline(always)]
    pub fn new(sk: *const c_void) -> Option<Self> {
        // SAFETY: `sk` is an argument whose type the verifier knows.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) };
        (!tcp.is_null()).then_some(Self(tcp.cast_const().cast()))
    }

    /// Gives an untyped address the type `struct tcp_sock`.
    ///
    /// # Safety
    /// There must be a full TCP socket at the address.
    #[inline(always)]
    pub unsafe fn at(address: *const c_void) -> Self {
        // SAFETY: a call of a function at this number is a BPF call instruction, which the user
        // side links to the kfunc; reads through its result are checked like probe reads.
        let cast: extern "C" fn(*const c_void, u32) -> *const c_void =
            unsafe { transmute(RDONLY_CAST_PLACEHOLDER as usize) };
        Self(cast(address, global!(tcp_sock_type)).cast())
    }

    #[inline(always)]
    pub fn common(self) -> CommonSock {
        CommonSock(self.0)
    }

    /// As [`CommonSock::address`].
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// `inet_sport`: the local port. Unlike [`CommonSock::bound_port`], it is kept when the port is
    /// released.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        u16::from_be(field!(self.0, inet_sport: u16))
    }

    /// The local port at →SYN_SENT and →LISTEN; 0 if connect() or listen() has not chosen one yet.
    /// [`Self::local_port`] of a socket that is used again is still the port of its previous
    /// connection then.
    #[inline(always)]
    pub fn local_port_opening(self) -> u16 {
        self.common().bound_port()
    }

    /// `sk_err`: an errno, or 0.
    #[inline(always)]
    pub fn error(self) -> u8 {
        field!(self.0, sk_err: u32) as u8
    }

    /// `sk_err_soft`: the errno of the last ICMP error that did not close the connection, or 0.
    #[inline(always)]
    pub fn soft_error(self) -> u8 {
        field!(self.0, sk_err_soft: u32) as u8
    }

    /// `icsk_retransmits`: consecutive expiries of the retransmission timer.
    #[inline(always)]
    pub fn retransmits(self) -> u8 {
        field!(self.0, icsk_retransmits: u8)
    }

    /// `icsk_probes_out`: unanswered keepalive or zero-window probes.
    #[inline(always)]
    pub fn probes(self) -> u8 {
        field!(self.0, icsk_probes_out: u8)
    }

    /// `total_retrans`: all segments retransmitted.
    #[inline(always)]
    pub fn total_retransmits(self) -> u32 {
        field!(self.0, total_retrans: u32)
    }

    /// The smoothed round-trip time in microseconds. `srtt_us` is eight times that.
    #[inline(always)]
    pub fn rtt_us(self) -> u32 {
        field!(self.0, srtt_us: u32) >> 3
    }

    /// `total_rto_time` (since 6.7): milliseconds spent in retransmission timeouts; 0 if unknown.
    #[inline(always)]
    pub fn timeouts_ms(self) -> u32 {
        field!(self.0, total_rto_time: u32)
    }

    /// `repair`: whether checkpoint/restore moves the connection (`TCP_REPAIR`).
    #[inline(always)]
    pub fn is_in_repair(self) -> bool {
        bit(self.0, global!(repair))
    }

    /// Whether the SYN asked for a Fast Open cookie or carried data.
    #[inline(never)]
    pub fn used_fast_open(self) -> bool {
        bit(self.0, global!(syn_fastopen)) || bit(self.0, global!(syn_data))
    }

    /// The flags that help to tell why a connection closed. They are spread over many cache lines,
    /// so they are only read at →CLOSE and in scans.
    #[inline(always)]
    pub fn flags(self) -> Flags {
        let bits = field!(self.0, sk_flags: u64);
        let shutdown = field!(self.0, sk_shutdown: u8);
        let lingers = bits & SOCK_LINGER != 0;
        let mut flags = Flags::default();
        let mut set = |condition: bool, flag: Flags| {
            if condition {
                flags = flags.with(flag);
            }
        };
        set(bits & SOCK_DEAD != 0, Flags::DEAD);
        set(bits & SOCK_DONE != 0, Flags::FIN_RECEIVED);
        set(shutdown & RCV_SHUTDOWN != 0, Flags::SHUT_READ);
        set(shutdown & SEND_SHUTDOWN != 0, Flags::SHUT_WRITE);
        set(field!(self.0, sk_socket: u64) != 0, Flags::HAS_SOCKET);
        set(self.is_in_repair(), Flags::REPAIR);
        set(lingers && field!(self.0, sk_lingertime: u64) == 0, Flags::LINGER0);
        set((field!(self.0, linger2: u32) as i32) < 0, Flags::LINGER2_NEGATIVE);
        set(field!(self.0, packets_out: u32) != 0, Flags::UNACKNOWLEDGED);
        set(self.time_wait_table_is_full(), Flags::TIME_WAIT_FULL);
        set(self.is_mptcp(), Flags::MPTCP);
        flags
    }

    /// The flags that tell why data could not be sent, for a →CLOSE with an error. Not inlined, as
    /// it would take registers from the hot path.
    #[inline(never)]
    pub fn send_flags(self) -> Flags {
        let mut flags = Flags::default();
        if field!(self.0, write_seq: u32) != field!(self.0, snd_nxt: u32) {
            flags = flags.with(Flags::UNSENT);
        }
        if global!(offsets.snd_wnd) != ABSENT && field!(self.0, snd_wnd: u32) == 0 {
            flags = flags.with(Flags::ZERO_WINDOW);
        }
        if field!(self.0, icsk_user_timeout: u32) != 0 {
            flags = flags.with(Flags::USER_TIMEOUT);
        }
        flags
    }

    /// Whether the namespace has `tcp_max_tw_buckets` TIME_WAIT sockets
    /// (`net/ipv4/inet_timewait_sock.c:inet_twsk_alloc`).
    #[inline(always)]
    fn time_wait_table_is_full(self) -> bool {
        let net = field!(self.0, skc_net: *const u8);
        let count = if global!(offsets.tw_count) != ABSENT {
            field!(net, tw_count: u32)
        } else if global!(offsets.tw_refcount) != ABSENT {
            // The namespace itself holds one reference.
            field!(net, tw_refcount: u32).saturating_sub(1)
        } else {
            return false;
        };
        global!(offsets.tw_max) != ABSENT && count >= field!(net, tw_max: u32)
    }

    /// The flags of a listener: whether `TCP_DEFER_ACCEPT` and SO_REUSEPORT are set. A child at its
    /// first transition still has those of its listener; `TCP_DEFER_ACCEPT` up to 6.14 only.
    #[inline(always)]
    pub fn listener_flags(self) -> Flags {
        let mut flags = Flags::default();
        if field!(self.0, rskq_defer_accept: u8) != 0 {
            flags = flags.with(Flags::DEFER_ACCEPT);
        }
        if self.common().shares_port() {
            flags = flags.with(Flags::REUSEPORT);
        }
        flags
    }

    /// `sk_ack_backlog`: a listener's connections that wait for accept().
    #[inline(always)]
    pub fn accept_queue(self) -> u32 {
        field!(self.0, sk_ack_backlog: u32)
    }

    /// `sk_max_ack_backlog`: the limit of that queue.
    #[inline(always)]
    pub fn accept_limit(self) -> u32 {
        field!(self.0, sk_max_ack_backlog: u32)
    }

    /// `sk_drops`: everything that the socket has dropped.
    #[inline(always)]
    pub fn drops(self) -> u32 {
        field!(self.0, sk_drops: u32)
    }

    /// `bytes_acked`: sequence space that the peer has acknowledged.
    #[inline(always)]
    pub fn bytes_acked(self) -> u64 {
        field!(self.0, bytes_acked: u64)
    }

    /// `bytes_received`: sequence space received in order.
    #[inline(always)]
    pub fn bytes_received(self) -> u64 {
        field!(self.0, bytes_received: u64)
    }

    /// Bytes received in order that the application has not read, without a FIN.
    #[inline(always)]
    pub fn unread(self) -> u32 {
        let unread = field!(self.0, rcv_nxt: u32).wrapping_sub(field!(self.0, copied_seq: u32));
        let fin = field!(self.0, sk_flags: u64) & SOCK_DONE != 0;
        if fin && unread > 0 { unread - 1 } else { unread }
    }

    /// Milliseconds since the last segment, data or ACK, was received; [`u32::MAX`] if none was (a
    /// listener, an unanswered connect) or if the kernel's BTF does not contain the fields.
    #[inline(always)]
    pub fn idle_ms(self) -> u32 {
        if global!(offsets.rcv_tstamp) == ABSENT || global!(offsets.icsk_lrcvtime) == ABSENT {
            return u32::MAX;
        }
        let now = jiffies();
        let segment = self.jiffies_since(global!(offsets.rcv_tstamp), now);
        age_ms(segment.min(self.jiffies_since(global!(offsets.icsk_lrcvtime), now)))
    }

    /// The id of the cgroup (version 2) in which the socket was created; 0 if unknown.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        if global!(offsets.sk_cgroup) == ABSENT {
            return self.encoded_cgroup();
        }
        let cgroup = field!(self.0, sk_cgroup: *const u8);
        field!(field!(cgroup, cgroup_kn: *const u8), kn_id: u64)
    }

    /// The same up to 5.15 (`include/linux/cgroup-defs.h:struct sock_cgroup_data`): bit 0 is set if
    /// the field holds something else than a pointer, and bit 1 is a flag.
    #[inline(always)]
    fn encoded_cgroup(self) -> u64 {
        let encoded = field!(self.0, sk_cgroup_encoded: u64);
        if encoded & 1 != 0 {
            return 0;
        }
        let cgroup = (encoded & !3) as *const u8;
        let node = probe_read!(cgroup, cgroup_kn: usize) as *const u8;
        probe_read!(node, kn_id: u64)
    }

    /// Whether the socket was created in the cgroup with this id or in a descendant of it. `level`
    /// is the depth of that cgroup below the root.
    #[inline(always)]
    pub fn is_in_cgroup(self, id: u64, level: u32) -> bool {
        let cgroup = field!(self.0, sk_cgroup: *const u8);
        if probe_read!(cgroup, cgroup_level: u32) < level {
            return false;
        }
        let ancestors = cgroup.wrapping_add(global!(offsets.cgroup_ancestors) as usize);
        let ancestor = ancestors.wrapping_add(level as usize * size_of::<usize>());
        // SAFETY: the helper checks the address.
        let ancestor = unsafe { bpf_probe_read_kernel(ancestor.cast::<usize>()) }.unwrap_or(0);
        let node = probe_read!(ancestor as *const u8, cgroup_kn: usize);
        probe_read!(node as *const u8, kn_id: u64) == id
    }

    /// `icsk_bind_hash->fastreuse`; `None` without a bind bucket, or if unknown.
    #[inline(always)]
    pub fn fastreuse(self) -> Option<i8> {
        bucket_fastreuse(field!(self.0, icsk_bind_hash: *const u8))
    }

    /// `is_mptcp`: whether this is a subflow of an MPTCP connection, or a listener for them.
    #[inline(always)]
    pub fn is_mptcp(self) -> bool {
        bit(self.0, global!(is_mptcp))
    }

    /// `mptcp_subflow_context.conn`: the kernel address of the MPTCP connection that this subflow
    /// belongs to; 0 of other sockets. Not inlined, as it would take registers from the hot path.
    #[inline(never)]
    pub fn mptcp(self) -> u64 {
        if global!(offsets.subflow_conn) == ABSENT || !self.is_mptcp() {
            return 0;
        }
        // `icsk_ulp_data` is an untyped pointer.
        let context = field!(self.0, icsk_ulp_data: u64) as *const u8;
        probe_read!(context, subflow_conn: u64)
    }

    /// The listener of this child at its first transition; `None` if the kernel's BTF does not contain
    /// the field. The child is a copy of its listener, whose `tsorted_sent_queue` is empty: a list
    /// head that points to itself (`net/ipv4/tcp.c:tcp_init_sock`). The kernel initializes the
    /// child's after this transition (`net/ipv4/tcp_minisocks.c:tcp_create_openreq_child`).
    #[inline(always)]
    pub fn listener(self) -> Option<UntypedSock> {
        let offset = global!(offsets.tsorted_sent_queue);
        if offset == ABSENT {
            return None;
        }
        let listener = field!(self.0, tsorted_sent_queue: u64).wrapping_sub(u64::from(offset));
        (listener != self.address()).then_some(UntypedSock::new(listener as *const c_void))
    }

    /// Whether this listener has sent SYN cookies: `rx_opt.ts_recent_stamp`, which a listener uses
    /// for nothing else (`include/net/tcp.h:tcp_synq_overflow`). A child at its first transition
    /// still has the value of its listener. True if the kernel's BTF does not contain the field.
    #[inline(always)]
    pub fn sent_cookies(self) -> bool {
        global!(offsets.ts_recent_stamp) == ABSENT || field!(self.0, ts_recent_stamp: u32) != 0
    }

    /// `local_port_range`: see
    /// [`Opening::port_range`](synfin_common::event::Opening::port_range).
    #[inline(always)]
    pub fn port_range(self) -> u32 {
        let offset = global!(offsets.inet_local_port_range);
        if offset == ABSENT {
            return 0;
        }
        // A structure of two ports up to 6.7, of which the verifier allows no access to both at once.
        //
        // SAFETY: as in `field!`.
        let [low, high] = unsafe { [offset, offset + 2].map(|at| load::<u16>(self.0, at)) };
        u32::from(low) | u32::from(high) << 16
    }

    /// `snd_una`: the first sequence number that the peer has not acknowledged.
    #[inline(always)]
    pub fn unacknowledged(self) -> u32 {
        field!(self.0, snd_una: u32)
    }

    /// `rcv_nxt`: the next sequence number that the peer will send.
    #[inline(always)]
    pub fn expected(self) -> u32 {
        field!(self.0, rcv_nxt: u32)
    }

    /// `bytes_retrans`: bytes sent more than once.
    #[inline(always)]
    pub fn bytes_retransmitted(self) -> u64 {
        field!(self.0, bytes_retrans: u64)
    }

    /// `rtt_min`: the smallest recent round-trip time in microseconds; [`u32::MAX`] if there is
    /// none, or if the kernel's BTF does not contain the field.
    #[inline(always)]
    pub fn min_rtt_us(self) -> u32 {
        let offset = global!(offsets.rtt_min);
        if offset == ABSENT {
            return u32::MAX;
        }
        // The value of the first `struct minmax_sample` follows its 32-bit time.
        // SAFETY: the verifier checks it, as in `field!`.
        unsafe { load(self.0, offset + 4) }
    }

    /// `data_segs_out`: segments with data sent.
    #[inline(always)]
    pub fn segments_out(self) -> u32 {
        field!(self.0, data_segs_out: u32)
    }

    /// `data_segs_in`: segments with data received.
    #[inline(always)]
    pub fn segments_in(self) -> u32 {
        field!(self.0, data_segs_in: u32)
    }

    /// Milliseconds in which the peer's window, and in which the send buffer, held up sending
    /// (`net/ipv4/tcp.c:tcp_get_info_chrono_stats`); [`u32::MAX`] each if the kernel's BTF does not
    /// contain the field. Not inlined, as it is seldom needed.
    #[inline(never)]
    pub fn limited_ms(self) -> u64 {
        let offset = global!(offsets.chrono_stat);
        if offset == ABSENT {
            return u64::MAX;
        }
        // SAFETY: the verifier checks it, as in `field!`.
        let stat = |index: u16| unsafe { load::<u32>(self.0, offset + 4 * index) };
        let [low, high] = [global!(chrono_type[0]), global!(chrono_type[1])];
        // The clock that is running: 0 none, 1 busy, 2 limited by the window, 3 by the buffer.
        let (low, high) = (bit(self.0, low), bit(self.0, high));
        let running = jiffies().wrapping_sub(field!(self.0, chrono_start: u32));
        let of = |index: u16, runs: bool| {
            jiffies_to_ms(u64::from(stat(index)) + if runs { u64::from(running) } else { 0 })
        };
        u64::from(of(1, high && !low)) << 32 | u64::from(of(2, high && low))
    }

    /// Milliseconds since the last segment with data was received and since one was sent, or since
    /// the handshake if none was; [`u32::MAX`] if unknown.
    #[inline(always)]
    pub fn data_ms(self) -> (u32, u32) {
        let now = jiffies();
        let since = |offset| age_ms(self.jiffies_since(offset, now));
        (since(global!(offsets.icsk_lrcvtime)), since(global!(offsets.lsndtime)))
    }

    /// Jiffies from the stamp at this offset until `now`; [`u32::MAX`] if it is not set yet, or if
    /// the kernel's BTF does not contain the field.
    #[inline(always)]
    fn jiffies_since(self, offset: u16, now: u32) -> u32 {
        if offset == ABSENT {
            return u32::MAX;
        }
        // SAFETY: the verifier checks it, as in `field!`.
        let stamp = unsafe { load::<u32>(self.0, offset) };
        // Zero means never. The 32 bits of jiffies are zero for one jiffy in weeks.
        if stamp == 0 { u32::MAX } else { now.wrapping_sub(stamp) }
    }
}

/// The lower 32 bits of the kernel's jiffies, which its stamps have.
#[inline(always)]
fn jiffies() -> u32 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_jiffies64() as u32 }
}

/// Milliseconds for a result of [`TcpSock::jiffies_since`].
#[inline(always)]
fn age_ms(jiffies: u32) -> u32 {
    if jiffies == u32::MAX { u32::MAX } else { jiffies_to_ms(jiffies.into()) }
}
