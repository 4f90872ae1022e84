//! The configuration of the kernel side: a read-only global that the loader sets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::reset::ResetReason;

/// The offset of a field that the running kernel lacks. The offset is a constant to the verifier,
/// which removes the code that would read the field.
pub const ABSENT: u16 = u16::MAX;

/// A bit field of one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bit {
    /// Offset of the byte that contains it, or [`ABSENT`].
    pub byte: u16,
    /// The bit in that byte.
    pub mask: u16,
}

impl Bit {
    /// A bit that the running kernel lacks.
    pub const ABSENT: Self = Self { byte: ABSENT, mask: 0 };
}

macro_rules! offsets {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: u16,)* }

        impl $name {
            /// All fields are [`ABSENT`].
            pub const UNKNOWN: Self = Self { $($field: ABSENT,)* };
        }
    };
}

offsets! {
    /// Byte offsets of kernel fields, from the running kernel's BTF.
    #[expect(missing_docs, reason = "named after the kernel's fields")]
    Offsets {
        // struct sock_common, the head of every socket, including TIME_WAIT and request sockets.
        skc_daddr, skc_rcv_saddr, skc_dport, skc_num, skc_family, skc_state, skc_net,
        skc_v6_daddr, skc_v6_rcv_saddr,
        // struct sock, inet_sock, inet_connection_sock and tcp_sock, each from the start of a
        // tcp_sock.
        sk_err, sk_err_soft, sk_shutdown, sk_flags, sk_socket, sk_lingertime, sk_cgroup,
        sk_cgroup_encoded,
        sk_drops, sk_ack_backlog, sk_max_ack_backlog, inet_sport,
        icsk_retransmits, icsk_probes_out, icsk_user_timeout, rskq_defer_accept, icsk_bind_hash,
        icsk_lrcvtime, icsk_ulp_data, inet_local_port_range,
        srtt_us, total_retrans, total_rto_time, linger2, packets_out, rcv_nxt, copied_seq,
        bytes_acked, bytes_received, bytes_retrans, rcv_tstamp, write_seq, snd_nxt, snd_una, snd_wnd,
        lsndtime, rtt_min, data_segs_out, data_segs_in, chrono_start, chrono_stat, ts_recent_stamp,
        tsorted_sent_queue,
        // Structures that these point to, and those of processes and files.
        net_inum, net_cookie, net_count, tw_count, tw_refcount, tw_max, cgroup_kn, cgroup_level,
        cgroup_ancestors, kn_id,
        bucket_fastreuse, sk_protocol, socket_sk, file_inode, file_private, inode_mode,
        task_group_leader, task_parent, task_tgid, task_mm, task_start_time,
        task_comm, task_cgroups, task_flags, task_pid, task_nsproxy, nsproxy_net,
        css_set_cgroup, subflow_conn,
        // struct tcp_timewait_sock and tcp_request_sock.
        tw_substate, tw_sport, tw_expires, tw_bucket, req_num_retrans, req_snt_synack, req_drop,
        req_mptcp,
        // struct sk_buff, dst_entry and net_device.
        skb_head, skb_transport_header, skb_refdst, dst_dev, dev_net,
    }
}

/// For each kernel function, the index of its return value in the context of an fexit program,
/// which is the number of its parameters; 0 if the function returns nothing or does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named after the kernel's functions")]
pub struct ReturnIndices {
    pub inet_csk_accept: u8,
    pub inet_csk_reqsk_queue_hash_add: u8,
    /// Of `__inet_csk_reqsk_queue_drop` on kernels that have it.
    pub inet_csk_reqsk_queue_drop: u8,
    /// Zero.
    pub reserved: u8,
}

impl ReturnIndices {
    /// No function is known.
    pub const NONE: Self = Self {
        inet_csk_accept: 0,
        inet_csk_reqsk_queue_hash_add: 0,
        inet_csk_reqsk_queue_drop: 0,
        reserved: 0,
    };
}

/// The configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// Offsets of the kernel fields that the programs read.
    pub offsets: Offsets,
    /// `tcp_sock.repair`.
    pub repair: Bit,
    /// `tcp_sock.syn_fastopen`.
    pub syn_fastopen: Bit,
    /// `tcp_sock.syn_data`.
    pub syn_data: Bit,
    /// `tcp_sock.is_mptcp`.
    pub is_mptcp: Bit,
    /// `sock_common.skc_reuseport`.
    pub reuseport: Bit,
    /// The lower and the upper bit of `tcp_sock.chrono_type`.
    pub chrono_type: [Bit; 2],
    /// The running kernel's values of `enum sk_rst_reason`, indexed by [`ResetReason`]; [`ABSENT`]
    /// if it has no such value.
    pub reset_reasons: [u16; ResetReason::COUNT],
    /// 1 if the kernel has `bpf_get_current_task_btf` (since 5.11).
    pub has_current_task: u16,
    /// 1 if the tracepoint `tcp_send_reset` has a reason as its third argument (since 6.10).
    pub has_reset_reason: u16,
    /// Where fexit programs find return values.
    pub return_indices: ReturnIndices,
    /// 1 if a program can be interrupted by another run of itself on the same CPU (before 6.1).
    pub can_nest: u32,
    /// The BTF type id of `struct tcp_sock`.
    pub tcp_sock_type: u32,
    /// Length of a jiffy, microseconds.
    pub jiffy_us: u32,
    /// The reader is woken when more than this many bytes wait in the ring buffer.
    pub wake_bytes: u32,
    /// The number of CPUs that have a ring; 0 if all records go through the ring buffer.
    pub cpu_rings: u32,
    /// The number of segments of a CPU's ring, a power of two.
    pub segments: u32,
    /// How many bytes of a CPU's ring may wait.
    pub cpu_ring_bytes: u32,
    /// The reader is woken when more than this many bytes wait in a CPU's ring.
    pub cpu_wake_bytes: u32,
}

impl Config {
    /// The value in the object file, before the loader sets it.
    pub const UNKNOWN: Self = Self {
        offsets: Offsets::UNKNOWN,
        repair: Bit::ABSENT,
        syn_fastopen: Bit::ABSENT,
        syn_data: Bit::ABSENT,
        is_mptcp: Bit::ABSENT,
        reuseport: Bit::ABSENT,
        chrono_type: [Bit::ABSENT; 2],
        reset_reasons: [ABSENT; ResetReason::COUNT],
        has_reset_reason: 0,
        return_indices: ReturnIndices::NONE,
        has_current_task: 0,
        can_nest: 0,
        tcp_sock_type: 0,
        jiffy_us: 0,
        wake_bytes: 0,
        cpu_rings: 0,
        segments: 0,
        cpu_ring_bytes: 0,
        cpu_wake_bytes: 0,
    };
}
