//! TIME_WAIT sockets (`struct inet_timewait_sock`).

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_jiffies64;
use synfin_common::config::ABSENT;

use super::{CommonSock, jiffies_to_ms};

/// A socket in TIME_WAIT, or an orphan in FIN_WAIT2, which the kernel reduces to the same structure
/// (`net/ipv4/tcp_minisocks.c:tcp_time_wait`), behind a typed pointer.
#[derive(Clone, Copy)]
pub struct TimeWaitSock(*const u8);

impl TimeWaitSock {
    /// The verifier must know `base` as a `tcp_timewait_sock` or an `inet_timewait_sock`.
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    #[inline(always)]
    pub fn common(self) -> CommonSock {
        CommonSock(self.0)
    }

    /// `tw_sport`: the local port, copied from the field that
    /// [`TcpSock::local_port`](super::TcpSock::local_port) reads.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        u16::from_be(field!(self.0, tw_sport: u16))
    }

    /// Whether the namespace has no reference left, so that it is being dismantled together with
    /// its TIME_WAIT sockets.
    #[inline(always)]
    pub fn is_in_dying_namespace(self) -> bool {
        let net = field!(self.0, skc_net: *const u8);
        global!(offsets.net_count) != ABSENT && field!(net, net_count: u32) == 0
    }

    /// `tw_substate`: TIME_WAIT or FIN_WAIT2.
    #[inline(always)]
    pub fn substate(self) -> u8 {
        field!(self.0, tw_substate: u8)
    }
}

/// [`TimeWaitSock`] behind an untyped pointer.
#[derive(Clone, Copy)]
pub struct UntypedTimeWaitSock(*const u8);

impl UntypedTimeWaitSock {
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// As [`TimeWaitSock::substate`].
    #[inline(always)]
    pub fn substate(self) -> u8 {
        probe_read!(self.0, tw_substate: u8)
    }

    /// Milliseconds until its timer frees it; 0 if the kernel's BTF does not contain the field.
    #[inline(always)]
    pub fn remaining_ms(self) -> u32 {
        if global!(offsets.tw_expires) == ABSENT {
            return 0;
        }
        // SAFETY: the helper has no arguments.
        let left = probe_read!(self.0, tw_expires: u64).wrapping_sub(unsafe { bpf_jiffies64() });
        if (left as i64) < 0 { 0 } else { jiffies_to_ms(left) }
    }

    /// `tw_tb->fastreuse`, as [`TcpSock::fastreuse`](super::TcpSock::fastreuse).
    #[inline(always)]
    pub fn fastreuse(self) -> Option<i8> {
        if global!(offsets.tw_bucket) == ABSENT || global!(offsets.bucket_fastreuse) == ABSENT {
            return None;
        }
        let bucket = probe_read!(self.0, tw_bucket: usize) as *const u8;
        (!bucket.is_null()).then(|| probe_read!(bucket, bucket_fastreuse: u8) as i8)
    }
}
