//! What the user side tells the kernel side before it is loaded: read-only globals.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::reset::ResetReason;

/// The offset of a field that the running kernel does not have. Code that would read it is
/// pruned by the verifier, as the offset is a constant by then.
pub const ABSENT: u16 = u16::MAX;

/// A field of one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bit {
    /// Offset of the byte that holds it, or [`ABSENT`].
    pub byte: u16,
    /// The bit within that byte.
    pub mask: u16,
}

impl Bit {
    /// A bit that the running kernel does not have.
    pub const MISSING: Self = Self { byte: ABSENT, mask: 0 };
}

macro_rules! offsets {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: u16,)* }

        impl $name {
            /// No field is known.
            pub const UNKNOWN: Self = Self { $($field: ABSENT,)* };
        }
    };
}

offsets! {
    /// Byte offsets of kernel fields, from the running kernel's BTF.
    #[expect(missing_docs, reason = "named after the kernel's fields")]
    Offsets {
        // In every socket, a TIME_WAIT or request socket included (struct sock_common).
        skc_daddr, skc_rcv_saddr, skc_dport, skc_num, skc_family, skc_state, skc_net,
        skc_v6_daddr, skc_v6_rcv_saddr,
        // struct sock, inet_sock, inet_connection_sock, tcp_sock: from the start of a tcp_sock.
        sk_err, sk_err_soft, sk_shutdown, sk_flags, sk_socket, sk_lingertime, sk_cgroup,
        sk_cgroup_encoded,
        sk_drops, sk_ack_backlog, sk_max_ack_backlog, inet_sport,
        icsk_retransmits, icsk_probes_out, icsk_user_timeout, rskq_defer_accept, icsk_bind_hash,
        icsk_lrcvtime,
        srtt_us, total_retrans, total_rto_time, linger2, packets_out, rcv_nxt, copied_seq,
        bytes_acked, bytes_received, rcv_tstamp, write_seq, snd_nxt, snd_wnd,
        // Behind pointers.
        net_inum, net_count, tw_count, tw_refcount, tw_max, cgroup_kn, cgroup_level,
        cgroup_ancestors, kn_id,
        bucket_fastreuse, sk_protocol, socket_sk, file_inode, file_private, inode_mode,
        task_group_leader, task_parent, task_tgid, task_mm, task_start_time,
        task_comm, task_cgroups, css_set_cgroup,
        // struct tcp_timewait_sock, tcp_request_sock.
        tw_substate, tw_sport, tw_expires, tw_bucket, req_num_retrans, req_snt_synack,
        // A packet: struct sk_buff, dst_entry, net_device.
        skb_head, skb_transport_header, skb_refdst, dst_dev, dev_net,
    }
}

/// Behind how many parameters of a kernel function the value lies that it returns; 0: it returns
/// none, or does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named after the kernel's functions")]
pub struct Returns {
    pub inet_csk_accept: u8,
    pub inet_csk_reqsk_queue_hash_add: u8,
    /// Of this one, or of `__inet_csk_reqsk_queue_drop` where that exists.
    pub inet_csk_reqsk_queue_drop: u8,
    /// Zero.
    pub reserved: u8,
}

impl Returns {
    /// Nothing is known.
    pub const NONE: Self = Self {
        inet_csk_accept: 0,
        inet_csk_reqsk_queue_hash_add: 0,
        inet_csk_reqsk_queue_drop: 0,
        reserved: 0,
    };
}

/// The globals of the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// Where the kernel keeps what we read.
    pub offsets: Offsets,
    /// `tcp_sock.repair`.
    pub repair: Bit,
    /// `tcp_sock.syn_fastopen`.
    pub syn_fastopen: Bit,
    /// `tcp_sock.syn_data`.
    pub syn_data: Bit,
    /// The running kernel's numbers of why a reset is sent, by ours; [`ABSENT`]: it has none.
    pub reset_reasons: [u16; ResetReason::COUNT],
    /// 1 if the tracepoint `tcp_send_reset` tells why.
    pub reset_tells_reason: u32,
    /// Where the programs that run when a kernel function returns find what it returns.
    pub returns: Returns,
    /// The number of `struct tcp_sock` among the kernel's types.
    pub tcp_sock_type: u32,
    /// Length of a jiffy, microseconds.
    pub tick_us: u32,
    /// The reader is woken when this many bytes wait in the ring buffer.
    pub wake_bytes: u32,
}

impl Config {
    /// What the object holds until the loader fills it in.
    pub const UNKNOWN: Self = Self {
        offsets: Offsets::UNKNOWN,
        repair: Bit::MISSING,
        syn_fastopen: Bit::MISSING,
        syn_data: Bit::MISSING,
        reset_reasons: [ABSENT; ResetReason::COUNT],
        reset_tells_reason: 0,
        returns: Returns::NONE,
        tcp_sock_type: 0,
        tick_us: 0,
        wake_bytes: 0,
    };
}
