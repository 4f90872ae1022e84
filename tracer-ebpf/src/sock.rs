//! The only reader of kernel structures, at offsets that the loader took from the kernel's BTF.
//!
//! Where the verifier knows a pointer's type, a read is one load, checked when the program is
//! loaded; the offset is a read-only global, hence a constant to the verifier. A read of a field
//! that this kernel lacks is dead code to it.

use core::{ffi::c_void, mem::transmute, ptr};

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_probe_read_kernel,
    generated::{bpf_jiffies64, bpf_skc_to_tcp_sock},
};
use synfin_common::{
    config::{ABSENT, Bit},
    event::Flags,
    kfunc::CAST_NUMBER,
};

/// Reads one of the loader's globals.
macro_rules! global {
    ($($path:tt)+) => {
        // SAFETY: reads an initialized static; volatile, because the loader replaces its value.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::CONFIG.$($path)+) }
    };
}
pub(crate) use global;

/// Reads a field at the loader's offset for it; zero where the kernel lacks it.
macro_rules! field {
    ($base:expr, $field:ident: $type:ty) => {{
        let (base, offset) = ($base, global!(offsets.$field));
        if offset == ABSENT {
            Absent::ABSENT
        } else {
            // SAFETY: the verifier checks the access, and a wrong pointer reads as zero.
            unsafe { load::<$type>(base, offset) }
        }
    }};
}

/// Reads a field of a pointer without a type; zero if it cannot be read.
macro_rules! copied {
    ($base:expr, $field:ident: $type:ty) => {{
        let address = $base.wrapping_add(global!(offsets.$field) as usize).cast::<$type>();
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(address) }.unwrap_or_default()
    }};
}

/// What a field reads as where the kernel lacks it.
trait Absent {
    const ABSENT: Self;
}

macro_rules! absent_is_zero {
    ($($type:ty)*) => { $(impl Absent for $type { const ABSENT: Self = 0; })* };
}
absent_is_zero!(u8 u16 u32 u64);

impl Absent for *const u8 {
    const ABSENT: Self = ptr::null();
}

/// # Safety
/// The verifier must know the type of `base` and find a `T` at `offset` in it.
#[inline(always)]
unsafe fn load<T: Copy>(base: *const u8, offset: u16) -> T {
    // SAFETY: the caller's promise. Volatile keeps the load behind the checks before it.
    unsafe { ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;
const SOCK_LINGER: u64 = 1 << 4;
const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;

/// The addresses of a socket as its record holds them: IPv6, or four bytes of IPv4 and zeros.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub ipv6: bool,
    pub local: [u64; 2],
    pub remote: [u64; 2],
}

/// What full, TIME_WAIT and request sockets have in common (`struct sock_common`).
#[derive(Clone, Copy)]
pub struct CommonSock(*const u8);

impl CommonSock {
    /// `base` must be typed by the verifier as one of these sockets.
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// The kernel address, which identifies the socket while it lives.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub fn state(self) -> u8 {
        field!(self.0, skc_state: u8)
    }

    #[inline(always)]
    pub fn netns(self) -> u32 {
        field!(field!(self.0, skc_net: *const u8), net_inum: u32)
    }

    #[inline(always)]
    pub fn addresses(self) -> Addresses {
        let base = self.0;
        if field!(base, skc_family: u16) == AF_INET6 {
            let remote = global!(offsets.skc_v6_daddr);
            let local = global!(offsets.skc_v6_rcv_saddr);
            // SAFETY: checked by the verifier, as in `field!`; an in6_addr is 16 bytes.
            unsafe {
                Addresses {
                    ipv6: true,
                    local: [load(base, local), load(base, local + 8)],
                    remote: [load(base, remote), load(base, remote + 8)],
                }
            }
        } else {
            Addresses {
                ipv6: false,
                local: [field!(base, skc_rcv_saddr: u32).into(), 0],
                remote: [field!(base, skc_daddr: u32).into(), 0],
            }
        }
    }

    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        u16::from_be(field!(self.0, skc_dport: u16))
    }

    /// `skc_num`: zero once the port has been given back, as it is before →CLOSE is reported.
    #[inline(always)]
    pub fn bound_port(self) -> u16 {
        field!(self.0, skc_num: u16)
    }
}

/// A full TCP socket.
#[derive(Clone, Copy)]
pub struct TcpSock(*const u8);

impl TcpSock {
    /// `None` if it is no full TCP socket: MPTCP's own, SCTP, TIME_WAIT, a request.
    #[inline(always)]
    pub fn new(sk: *const c_void) -> Option<Self> {
        // SAFETY: `sk` is an argument that the verifier has typed.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) };
        (!tcp.is_null()).then_some(Self(tcp.cast_const().cast()))
    }

    /// What lies at an address whose type the verifier does not know.
    ///
    /// # Safety
    /// It must be a full TCP socket.
    #[inline(always)]
    pub unsafe fn at(address: *const c_void) -> Self {
        // SAFETY: this is how a call of the function with this number is written; the kernel reads
        // what is behind the pointer as it reads all memory that may be gone.
        let cast: extern "C" fn(*const c_void, u32) -> *const c_void =
            unsafe { transmute(CAST_NUMBER as usize) };
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

    /// `inet_sport`, which outlives the bind bucket.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        u16::from_be(field!(self.0, inet_sport: u16))
    }

    /// Our port at →SYN_SENT, 0 if connect() has not chosen one yet: what a socket that has lived
    /// before shows then is its last one.
    #[inline(always)]
    pub fn local_port_connecting(self) -> u16 {
        self.common().bound_port()
    }

    #[inline(always)]
    pub fn error(self) -> u8 {
        field!(self.0, sk_err: u32) as u8
    }

    #[inline(always)]
    pub fn soft_error(self) -> u8 {
        field!(self.0, sk_err_soft: u32) as u8
    }

    #[inline(always)]
    pub fn retransmits(self) -> u8 {
        field!(self.0, icsk_retransmits: u8)
    }

    #[inline(always)]
    pub fn probes(self) -> u8 {
        field!(self.0, icsk_probes_out: u8)
    }

    #[inline(always)]
    pub fn total_retransmits(self) -> u32 {
        field!(self.0, total_retrans: u32)
    }

    /// `srtt_us` holds eight times the smoothed round trip.
    #[inline(always)]
    pub fn rtt_us(self) -> u32 {
        field!(self.0, srtt_us: u32) >> 3
    }

    /// Milliseconds spent in retransmission timeouts (since 6.7), 0 if unknown.
    #[inline(always)]
    pub fn timeouts_ms(self) -> u32 {
        field!(self.0, total_rto_time: u32)
    }

    /// Whether a checkpoint moves the connection (`TCP_REPAIR`).
    #[inline(always)]
    pub fn is_in_repair(self) -> bool {
        self.bit(global!(repair))
    }

    /// Whether the SYN had to do with Fast Open: asked for a cookie, or carried data.
    #[inline(never)]
    pub fn opened_fast(self) -> bool {
        self.bit(global!(syn_fastopen)) || self.bit(global!(syn_data))
    }

    /// The facts of one bit that tell how a life ends. They lie far apart, and are not worth
    /// their cache lines before.
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
        flags
    }

    /// Why data could not be sent, for ends with an error. Not inlined: it would take registers
    /// from what is hot.
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

    /// Whether the namespace holds as many TIME_WAIT sockets as it may.
    #[inline(always)]
    fn time_wait_table_is_full(self) -> bool {
        let net = field!(self.0, skc_net: *const u8);
        let count = if global!(offsets.tw_count) != ABSENT {
            field!(net, tw_count: u32)
        } else if global!(offsets.tw_refcount) != ABSENT {
            // One more than there are.
            field!(net, tw_refcount: u32).saturating_sub(1)
        } else {
            return false;
        };
        global!(offsets.tw_max) != ABSENT && count >= field!(net, tw_max: u32)
    }

    /// Whether this listener defers accept, or the one that this child still carries the settings of.
    #[inline(always)]
    pub fn defers_accept(self) -> bool {
        field!(self.0, rskq_defer_accept: u8) != 0
    }

    #[inline(always)]
    pub fn accept_queue(self) -> u32 {
        field!(self.0, sk_ack_backlog: u32)
    }

    #[inline(always)]
    pub fn accept_limit(self) -> u32 {
        field!(self.0, sk_max_ack_backlog: u32)
    }

    #[inline(always)]
    pub fn drops(self) -> u32 {
        field!(self.0, sk_drops: u32)
    }

    #[inline(always)]
    pub fn bytes_acked(self) -> u64 {
        field!(self.0, bytes_acked: u64)
    }

    #[inline(always)]
    pub fn bytes_received(self) -> u64 {
        field!(self.0, bytes_received: u64)
    }

    /// Bytes received in order that nobody read, without a FIN.
    #[inline(always)]
    pub fn unread(self) -> u32 {
        let unread = field!(self.0, rcv_nxt: u32).wrapping_sub(field!(self.0, copied_seq: u32));
        let fin = field!(self.0, sk_flags: u64) & SOCK_DONE != 0;
        if fin && unread > 0 { unread - 1 } else { unread }
    }

    /// Milliseconds since the last segment, data or ACK, was received; [`u32::MAX`] if none was
    /// (a listener, an unanswered connect), or if the kernel does not show it.
    #[inline(always)]
    pub fn idle_ms(self) -> u32 {
        if global!(offsets.rcv_tstamp) == ABSENT || global!(offsets.icsk_lrcvtime) == ABSENT {
            return u32::MAX;
        }
        // SAFETY: the helper has no arguments.
        let now = unsafe { bpf_jiffies64() } as u32;
        // Zero is "never": jiffies that happen to be zero come once in weeks.
        let since = |stamp: u32| {
            if stamp == 0 { u32::MAX } else { now.wrapping_sub(stamp) }
        };
        let idle =
            since(field!(self.0, rcv_tstamp: u32)).min(since(field!(self.0, icsk_lrcvtime: u32)));
        if idle == u32::MAX { u32::MAX } else { jiffies_to_ms(idle.into()) }
    }

    /// The id of the cgroup (version 2) that the socket was made in.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        if global!(offsets.sk_cgroup) == ABSENT {
            return self.encoded_cgroup();
        }
        let cgroup = field!(self.0, sk_cgroup: *const u8);
        field!(field!(cgroup, cgroup_kn: *const u8), kn_id: u64)
    }

    /// `icsk_bind_hash->fastreuse`, or `None` where there is no bind bucket.
    #[inline(always)]
    pub fn fastreuse(self) -> Option<i8> {
        fastreuse(field!(self.0, icsk_bind_hash: *const u8))
    }

    /// The same up to 5.15, where the field's lowest bit says that it holds something else, and the
    /// next one is a mark.
    #[inline(always)]
    fn encoded_cgroup(self) -> u64 {
        let encoded = field!(self.0, sk_cgroup_encoded: u64);
        if encoded & 1 != 0 {
            return 0;
        }
        let cgroup = (encoded & !3) as *const u8;
        let node = copied!(cgroup, cgroup_kn: usize) as *const u8;
        copied!(node, kn_id: u64)
    }

    /// Whether it was made in the cgroup with this id, which lies so deep below the root, or in one
    /// within that.
    #[inline(always)]
    pub fn is_in_cgroup(self, id: u64, level: u32) -> bool {
        let cgroup = field!(self.0, sk_cgroup: *const u8);
        if copied!(cgroup, cgroup_level: u32) < level {
            return false;
        }
        let ancestors = cgroup.wrapping_add(global!(offsets.cgroup_ancestors) as usize);
        let ancestor = ancestors.wrapping_add(level as usize * size_of::<usize>());
        // SAFETY: the helper checks the address.
        let ancestor = unsafe { bpf_probe_read_kernel(ancestor.cast::<usize>()) }.unwrap_or(0);
        let node = copied!(ancestor as *const u8, cgroup_kn: usize);
        copied!(node as *const u8, kn_id: u64) == id
    }

    #[inline(always)]
    fn bit(self, bit: Bit) -> bool {
        if bit.byte == ABSENT {
            return false;
        }
        // SAFETY: checked by the verifier, as in `field!`.
        u16::from(unsafe { load::<u8>(self.0, bit.byte) }) & bit.mask != 0
    }
}

/// A socket in TIME_WAIT, or one in FIN_WAIT2 that nobody holds any more.
#[derive(Clone, Copy)]
pub struct TimeWaitSock(*const u8);

impl TimeWaitSock {
    /// `base` must be typed by the verifier as a `tcp_timewait_sock` or an `inet_timewait_sock`.
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    #[inline(always)]
    pub fn common(self) -> CommonSock {
        CommonSock(self.0)
    }

    /// Our port: as [`TcpSock::local_port`], whose field it was copied from.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        u16::from_be(field!(self.0, tw_sport: u16))
    }

    /// Whether nothing but its sockets knows the namespace any more.
    #[inline(always)]
    pub fn is_in_dying_namespace(self) -> bool {
        let net = field!(self.0, skc_net: *const u8);
        global!(offsets.net_count) != ABSENT && field!(net, net_count: u32) == 0
    }

    #[inline(always)]
    pub fn substate(self) -> u8 {
        field!(self.0, tw_substate: u8)
    }

    /// Milliseconds until its timer frees it.
    #[inline(always)]
    pub fn remaining_ms(self) -> u32 {
        // SAFETY: the helper has no arguments.
        let left = field!(self.0, tw_expires: u64).wrapping_sub(unsafe { bpf_jiffies64() });
        if (left as i64) < 0 { 0 } else { jiffies_to_ms(left) }
    }

    /// As [`TcpSock::fastreuse`].
    #[inline(always)]
    pub fn fastreuse(self) -> Option<i8> {
        fastreuse(field!(self.0, tw_bucket: *const u8))
    }
}

#[inline(always)]
fn fastreuse(bucket: *const u8) -> Option<i8> {
    if global!(offsets.bucket_fastreuse) == ABSENT || bucket.is_null() {
        return None;
    }
    Some(field!(bucket, bucket_fastreuse: u8) as i8)
}

#[inline(always)]
fn jiffies_to_ms(jiffies: u64) -> u32 {
    let ms = jiffies * u64::from(global!(tick_us)) / 1000;
    if ms >= u32::MAX.into() { u32::MAX - 1 } else { ms as u32 }
}

/// A handshake in a listener's queue, met by the walk.
#[derive(Clone, Copy)]
pub struct HalfOpenSock(*const u8);

impl HalfOpenSock {
    /// `base` must be typed by the verifier as a `tcp_request_sock`.
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// How often its SYN-ACK was sent again.
    #[inline(always)]
    pub fn retransmits(self) -> u8 {
        field!(self.0, req_num_retrans: u8)
    }
}

/// What all kinds of sockets have in common, behind a pointer that the verifier may not know.
#[derive(Clone, Copy)]
pub struct CopiedSock(*const u8);

impl CopiedSock {
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// 0 if the pointer is null.
    #[inline(always)]
    pub fn state(self) -> u8 {
        copied!(self.0, skc_state: u8)
    }

    #[inline(always)]
    pub fn netns(self) -> u32 {
        let net = copied!(self.0, skc_net: usize) as *const u8;
        copied!(net, net_inum: u32)
    }

    #[inline(always)]
    pub fn bound_port(self) -> u16 {
        copied!(self.0, skc_num: u16)
    }
}

/// A segment that came in (`struct sk_buff`), behind a pointer that the verifier may not know.
#[derive(Clone, Copy)]
pub struct Packet(*const u8);

impl Packet {
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// The namespace that it was routed to.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        // The lowest bit says whether the route is counted.
        let route = (copied!(self.0, skb_refdst: usize) & !1) as *const u8;
        let device = copied!(route, dst_dev: usize) as *const u8;
        let net = copied!(device, dev_net: usize) as *const u8;
        copied!(net, net_inum: u32)
    }

    /// Ours, from TCP's header.
    #[inline(always)]
    pub fn destination_port(self) -> u16 {
        let head = copied!(self.0, skb_head: usize) as *const u8;
        let header = head.wrapping_add(copied!(self.0, skb_transport_header: u16) as usize);
        // SAFETY: the helper checks the address.
        let port = unsafe { bpf_probe_read_kernel(header.wrapping_add(2).cast::<u16>()) };
        u16::from_be(port.unwrap_or_default())
    }
}

/// A handshake in a listener's queue (`struct tcp_request_sock`), behind a pointer that the
/// verifier may not know: read by copying.
#[derive(Clone, Copy)]
pub struct RequestSock(*const u8);

impl RequestSock {
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// When its first SYN-ACK was sent, microseconds of `CLOCK_MONOTONIC`; 0 if not known.
    #[inline(always)]
    pub fn first_synack_us(self) -> u64 {
        copied!(self.0, req_snt_synack: u64)
    }

    #[inline(always)]
    pub fn common(self) -> CopiedSock {
        CopiedSock(self.0)
    }

    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        u16::from_be(copied!(self.0, skc_dport: u16))
    }

    #[inline(always)]
    pub fn addresses(self) -> Addresses {
        if copied!(self.0, skc_family: u16) == AF_INET6 {
            Addresses {
                ipv6: true,
                local: copied!(self.0, skc_v6_rcv_saddr: [u64; 2]),
                remote: copied!(self.0, skc_v6_daddr: [u64; 2]),
            }
        } else {
            Addresses {
                ipv6: false,
                local: [copied!(self.0, skc_rcv_saddr: u32).into(), 0],
                remote: [copied!(self.0, skc_daddr: u32).into(), 0],
            }
        }
    }
}

/// ::ffff:0:0/96, the prefix of IPv4-mapped addresses: the lower half of the second word.
pub const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// Whether an IPv6 address is IPv4-mapped.
#[inline(always)]
pub fn is_mapped(address: [u64; 2]) -> bool {
    address[0] == 0 && address[1] as u32 == MAPPED
}

/// A process, typed by the verifier as a `task_struct`.
#[derive(Clone, Copy)]
pub struct Process(*const u8);

impl Process {
    #[inline(always)]
    pub fn new(task: *const c_void) -> Self {
        Self(task.cast())
    }

    /// The thread group's number.
    #[inline(always)]
    pub fn pid(self) -> u32 {
        field!(self.0, task_tgid: u32)
    }

    #[inline(always)]
    pub fn parent(self) -> u32 {
        field!(field!(self.0, task_parent: *const u8), task_tgid: u32)
    }

    /// When it was made, nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub fn born(self) -> u64 {
        field!(self.0, task_start_time: u64)
    }

    /// Whether it still runs on its parent's memory (vfork), and so holds its files only until it
    /// executes another program.
    #[inline(always)]
    pub fn is_passing(self) -> bool {
        let parent = copied!(self.0, task_parent: usize) as *const u8;
        let own = copied!(self.0, task_mm: usize);
        own != 0 && own == copied!(parent, task_mm: usize)
    }

    /// The id of its cgroup (version 2).
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        let set = copied!(self.0, task_cgroups: usize) as *const u8;
        let cgroup = copied!(set, css_set_cgroup: usize) as *const u8;
        let node = copied!(cgroup, cgroup_kn: usize) as *const u8;
        copied!(node, kn_id: u64)
    }

    /// Its main thread's name.
    #[inline(always)]
    pub fn name(self) -> [u8; 16] {
        let leader = copied!(self.0, task_group_leader: usize) as *const u8;
        copied!(leader, task_comm: [u8; 16])
    }
}

/// An open file, typed by the verifier as a `file`.
#[derive(Clone, Copy)]
pub struct OpenFile(*const u8);

impl OpenFile {
    #[inline(always)]
    pub fn new(file: *const c_void) -> Self {
        Self(file.cast())
    }

    /// The address and state of the TCP socket that it is, if it is one.
    #[inline(always)]
    pub fn tcp_socket(self) -> Option<(u64, u8)> {
        let mode = field!(field!(self.0, file_inode: *const u8), inode_mode: u16);
        if mode & S_IFMT != S_IFSOCK {
            return None;
        }
        // What a file is about has no type: from here on by copying.
        let socket = field!(self.0, file_private: u64) as *const u8;
        let sock = copied!(socket, socket_sk: usize) as *const u8;
        let family = copied!(sock, skc_family: u16);
        let is_tcp = copied!(sock, sk_protocol: u16) == IPPROTO_TCP;
        let is_ip = family == AF_INET || family == AF_INET6;
        (is_ip && is_tcp).then(|| (sock as u64, copied!(sock, skc_state: u8)))
    }
}

/// The process (thread group) that runs now.
#[inline(always)]
pub fn current_process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The name of the process that runs now: its main thread's, as `ps` shows it.
#[inline(always)]
pub fn current_process_name() -> [u8; 16] {
    // SAFETY: the helper has no arguments; what it returns is only read by copying.
    let task = unsafe { aya_ebpf::helpers::generated::bpf_get_current_task() };
    Process(task as *const u8).name()
}
