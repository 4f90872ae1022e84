//! All maps and globals of the kernel side.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use synfin_common::{
    config::Config,
    cpu_ring::{Positions, Segment},
    event_counts::EventCounts,
    file_table::FileTable,
    filter::Filter,
    port_count::{PortKey, PortTotals},
    taken::{Taken, Writer},
};

/// The configuration. The loader sets it before the kernel verifies the programs, so each value is
/// a constant to the verifier. Read it through `global!` (see [`crate::sock`]).
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::UNKNOWN;

/// The filter on sockets, set by the loader in the same way as [`CONFIG`].
#[unsafe(no_mangle)]
pub static FILTER: Filter = Filter::NONE;

/// Where processes keep their open files, set by the loader in the same way as [`CONFIG`].
#[unsafe(no_mangle)]
pub static FILE_TABLE: FileTable = FileTable::UNKNOWN;

/// The segments of the rings of all CPUs, which have the records of the main hook's first program. The
/// loader sets their number.
#[map]
pub static SEGMENTS: Array<Segment> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The positions of the rings of all CPUs. The loader sets their number.
#[map]
pub static POSITIONS: Array<Positions> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// All other records. The loader sets its size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// How many records each CPU has seen, lost and filtered, by [`Writer`]: of the programs that
/// interrupt each other, those that write the same kind have counters of their own.
#[map]
pub static EVENT_COUNTS: PerCpuArray<EventCounts> = PerCpuArray::with_max_entries(Writer::COUNT, 0);

/// The transitions that the programs of the main hook took last.
#[map]
pub static TAKEN: PerCpuArray<Taken> = PerCpuArray::with_max_entries(1, 0);

/// The time of the first SYN-ACK (microseconds, `CLOCK_MONOTONIC`) of handshakes whose SYN-ACK was
/// retransmitted. Remote hosts decide how many there are, so the map evicts the least recently
/// used.
#[map]
pub static FIRST_SYNACK: LruHashMap<HandshakeKey, u64> = LruHashMap::with_max_entries(16384, 0);

/// Event counts per local port. The user side deletes entries that have stopped growing, so that a
/// port scan does not fill the map for good.
#[map]
pub static PORT_COUNTS: PerCpuHashMap<PortKey, u64> = PerCpuHashMap::with_max_entries(1024, 0);

/// Event counts per network namespace (as port 0), including ports for which [`PORT_COUNTS`] has no
/// room.
#[map]
pub static NETNS_COUNTS: PerCpuHashMap<PortKey, u64> = PerCpuHashMap::with_max_entries(1024, 0);

/// Event counts of the whole host, including namespaces for which [`NETNS_COUNTS`] has no room.
#[map]
pub static PORT_TOTALS: PerCpuArray<PortTotals> = PerCpuArray::with_max_entries(1, 0);

/// How the filter decided sockets (by kernel address) at their first transition, for filters that later
/// records cannot decide. The loader sets its size.
#[map]
pub static FILTERED_SOCKETS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1 << 16, 0);

/// The kernel functions that each CPU is executing.
#[map]
pub static CPU_CONTEXT: PerCpuArray<CpuContext> = PerCpuArray::with_max_entries(1, 0);

/// 1 if the next scan of open files is for all TCP sockets, 0 if it is for listeners and connections in
/// CLOSE_WAIT only. Set by the user side before each scan.
#[map]
pub static SCAN_ALL_SOCKETS: Array<u32> = Array::with_max_entries(1, 0);

/// The kernel functions that a CPU is executing, for hooks on functions that these call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CpuContext {
    /// Kernel address of the `struct inet_timewait_sock` in FIN_WAIT2 whose segment
    /// `tcp_timewait_state_process` is processing; 0 if none.
    pub fin_wait2_sock: u64,
    /// 1 within `inet_csk_complete_hashdance`, which completes a handshake.
    pub completing_handshake: u32,
    /// 1 within `reqsk_timer_handler`, the SYN-ACK timer of a handshake.
    pub in_synack_timer: u32,
}

/// A handshake on a listener. IPv4 addresses, including IPv4-mapped ones, are four bytes followed
/// by zeros.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct HandshakeKey {
    pub netns: u32,
    pub local_port: u16,
    pub remote_port: u16,
    pub local_addr: [u64; 2],
    pub remote_addr: [u64; 2],
}
