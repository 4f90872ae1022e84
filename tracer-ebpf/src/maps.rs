//! Every map and every global of the kernel side, and nothing else.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use synfin_common::{
    config::Config,
    filter::Filter,
    loss::Tally,
    port_count::{PortKey, PortTotals},
};

/// Set by the loader before the programs are verified, read through [`crate::sock::config`]:
/// to the verifier each value is a constant.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::UNKNOWN;

/// Likewise: which sockets are of interest.
#[unsafe(no_mangle)]
pub static FILTER: Filter = Filter::NONE;

/// All records of all hooks; the loader sets its size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// What was seen and what was lost, one value per CPU.
#[map]
pub static TALLY: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);

/// When the first SYN-ACK of a handshake was sent (microseconds of `CLOCK_MONOTONIC`), for
/// handshakes whose SYN-ACK was sent again. A stranger decides how many there are, so the
/// oldest make room.
#[map]
pub static FIRST_SYNACK: LruHashMap<HandshakeKey, u64> = LruHashMap::with_max_entries(16384, 0);

/// What is counted per local port. The reader takes out what has not grown for a while, so that
/// a scan of all ports does not take the room for good.
#[map]
pub static PORT_COUNTS: PerCpuHashMap<PortKey, u64> = PerCpuHashMap::with_max_entries(1024, 0);

/// The same for all ports of a namespace together (as port 0), those without room included.
#[map]
pub static NETNS_COUNTS: PerCpuHashMap<PortKey, u64> = PerCpuHashMap::with_max_entries(1024, 0);

/// The same for all namespaces together, those without room included.
#[map]
pub static PORT_TOTALS: PerCpuArray<PortTotals> = PerCpuArray::with_max_entries(1, 0);

/// Sockets whose birth the filter decided against, by kernel address; used where a later record
/// could not decide it again. The loader makes it as large as it has to be.
#[map]
pub static UNWANTED: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1 << 16, 0);

/// What a CPU is in the middle of.
#[map]
pub static WITHIN: PerCpuArray<Within> = PerCpuArray::with_max_entries(1, 0);

/// Whether the next look at open files is for all TCP sockets (1) or for listeners only (0).
#[map]
pub static LOOK_AT_ALL: Array<u32> = Array::with_max_entries(1, 0);

/// What a CPU is in the middle of, which functions called from there need to know.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Within {
    /// The remains of a socket, in FIN_WAIT2, for which a segment has come: by kernel address.
    pub turning: u64,
    /// 1: a handshake is completed.
    pub completing: u32,
    /// 1: the timer of a handshake has run down.
    pub expiring: u32,
}

/// A handshake on a listener. An IPv4 address, an IPv4-mapped one included, is four bytes and
/// zeros.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct HandshakeKey {
    pub netns: u32,
    pub local_port: u16,
    pub remote_port: u16,
    pub local_addr: [u64; 2],
    pub remote_addr: [u64; 2],
}
