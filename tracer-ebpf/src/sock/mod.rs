//! Reads kernel structures, at offsets that the loader takes from the kernel's BTF.
//!
//! If the verifier knows the type of a pointer, `field!` reads through it with a single load, which
//! the verifier checks when the program is loaded. Otherwise `probe_read!` copies the field with a
//! helper, and the type is called `Untyped…`. Offsets are read-only globals, hence constants to the
//! verifier. Reads of fields that the running kernel lacks are dead code to it.

use core::{
    ffi::c_void,
    ptr::{self, read_volatile},
};

use synfin_common::config::{ABSENT, Bit};

/// Reads a value of the configuration that the loader has set.
macro_rules! global {
    ($($path:tt)+) => {
        // SAFETY: reads an initialized static; volatile, because the loader replaces its value.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::CONFIG.$($path)+) }
    };
}
pub(crate) use global;

/// Reads a field behind a typed pointer; zero if the kernel lacks the field.
macro_rules! field {
    ($base:expr, $field:ident: $type:ty) => {{
        let (base, offset) = ($base, global!(offsets.$field));
        if offset == ::synfin_common::config::ABSENT {
            $crate::sock::Absent::ABSENT
        } else {
            // SAFETY: the verifier checks the access, and an invalid pointer reads as zero.
            unsafe { $crate::sock::load::<$type>(base, offset) }
        }
    }};
}

/// Copies a field from behind an untyped pointer; zero if the address cannot be read.
macro_rules! probe_read {
    ($base:expr, $field:ident: $type:ty) => {{
        let address = $base.wrapping_add(global!(offsets.$field) as usize).cast::<$type>();
        // SAFETY: the helper checks the address.
        unsafe { ::aya_ebpf::helpers::bpf_probe_read_kernel(address) }.unwrap_or_default()
    }};
}

mod file;
mod packet;
mod request;
mod task;
mod tcp;
mod time_wait;

pub use file::{File, UntypedFile};
pub use packet::Packet;
pub use request::UntypedRequestSock;
pub use task::{Current, Task};
pub use tcp::TcpSock;
pub use time_wait::{TimeWaitSock, UntypedTimeWaitSock};

// include/linux/socket.h, include/uapi/linux/in.h.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;

/// The value of a field that the kernel lacks.
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
    // SAFETY: the caller guarantees it. Volatile keeps the load behind the checks that precede it.
    unsafe { read_volatile(base.add(offset as usize).cast::<T>()) }
}

/// Reads a bit behind a typed pointer; false if the kernel lacks it.
#[inline(always)]
fn bit(base: *const u8, bit: Bit) -> bool {
    if bit.byte == ABSENT {
        return false;
    }
    // SAFETY: the verifier checks it, as in `field!`.
    u16::from(unsafe { load::<u8>(base, bit.byte) }) & bit.mask != 0
}

/// The addresses of a socket in network byte order: 16 bytes of IPv6, or 4 bytes of IPv4 and zeros.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub ipv6: bool,
    pub local: [u64; 2],
    pub remote: [u64; 2],
}

/// `::ffff:0:0/96`, the prefix of IPv4-mapped addresses: the first half of the second word.
pub const IPV4_MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// Whether an IPv6 address is IPv4-mapped.
#[inline(always)]
pub fn is_ipv4_mapped(address: [u64; 2]) -> bool {
    address[0] == 0 && address[1] as u32 == IPV4_MAPPED
}

/// The part that full, TIME_WAIT and request sockets share (`struct sock_common`).
#[derive(Clone, Copy)]
pub struct CommonSock(*const u8);

impl CommonSock {
    /// The verifier must know `base` as one of these sockets.
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// The kernel address, which identifies the socket until it is freed.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// `skc_state`, a state number of `include/net/tcp_states.h`.
    #[inline(always)]
    pub fn state(self) -> u8 {
        field!(self.0, skc_state: u8)
    }

    /// The network namespace, see [`Step::netns`](synfin_common::event::Step::netns).
    #[inline(always)]
    pub fn netns(self) -> u32 {
        net_id(field!(self.0, skc_net: *const u8))
    }

    /// The inode number of the network namespace.
    #[inline(always)]
    pub fn netns_inode(self) -> u32 {
        field!(field!(self.0, skc_net: *const u8), net_inum: u32)
    }

    /// `skc_reuseport`: whether SO_REUSEPORT is set.
    #[inline(always)]
    pub fn shares_port(self) -> bool {
        bit(self.0, global!(reuseport))
    }

    #[inline(always)]
    pub fn addresses(self) -> Addresses {
        let base = self.0;
        if field!(base, skc_family: u16) == AF_INET6 {
            let remote = global!(offsets.skc_v6_daddr);
            let local = global!(offsets.skc_v6_rcv_saddr);
            // SAFETY: the verifier checks it, as in `field!`; an in6_addr is 16 bytes.
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

    /// `skc_dport`: the peer's port.
    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        u16::from_be(field!(self.0, skc_dport: u16))
    }

    /// `skc_num`: the local port while the socket is bound. It is zero once the port is released
    /// (`net/ipv4/inet_hashtables.c:inet_put_port`), which happens before →CLOSE is reported.
    #[inline(always)]
    pub fn bound_port(self) -> u16 {
        field!(self.0, skc_num: u16)
    }
}

/// [`CommonSock`] behind an untyped pointer.
#[derive(Clone, Copy)]
pub struct UntypedSock(*const u8);

impl UntypedSock {
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// As [`CommonSock::address`].
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// As [`CommonSock::state`]; 0 if the pointer is null.
    #[inline(always)]
    pub fn state(self) -> u8 {
        probe_read!(self.0, skc_state: u8)
    }

    /// As [`CommonSock::netns`].
    #[inline(always)]
    pub fn netns(self) -> u32 {
        untyped_net_id(probe_read!(self.0, skc_net: usize) as *const u8)
    }

    /// As [`CommonSock::bound_port`].
    #[inline(always)]
    pub fn bound_port(self) -> u16 {
        probe_read!(self.0, skc_num: u16)
    }
}

/// The id of a `struct net` behind a typed pointer, see
/// [`Step::netns`](synfin_common::event::Step::netns).
#[inline(always)]
fn net_id(net: *const u8) -> u32 {
    if global!(offsets.net_cookie) == ABSENT {
        field!(net, net_inum: u32)
    } else {
        // Cookies count up from 1, so that live namespaces differ in the lower half.
        field!(net, net_cookie: u64) as u32
    }
}

/// The same behind an untyped pointer.
#[inline(always)]
fn untyped_net_id(net: *const u8) -> u32 {
    if global!(offsets.net_cookie) == ABSENT {
        probe_read!(net, net_inum: u32)
    } else {
        probe_read!(net, net_cookie: u64) as u32
    }
}

/// Converts jiffies to milliseconds; at most `u32::MAX - 1`, as [`u32::MAX`] stands for unknown.
#[inline(always)]
fn jiffies_to_ms(jiffies: u64) -> u32 {
    let ms = jiffies * u64::from(global!(jiffy_us)) / 1000;
    if ms >= u32::MAX.into() { u32::MAX - 1 } else { ms as u32 }
}

/// `inet_bind_bucket.fastreuse` of a bind bucket; `None` if there is no bucket, or if the kernel's
/// BTF does not contain the field.
#[inline(always)]
fn bucket_fastreuse(bucket: *const u8) -> Option<i8> {
    if global!(offsets.bucket_fastreuse) == ABSENT || bucket.is_null() {
        return None;
    }
    Some(field!(bucket, bucket_fastreuse: u8) as i8)
}
