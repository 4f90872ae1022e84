//! Resolves the offsets of the kernel fields that the kernel side reads: BTF → [`Config`].

use std::mem::offset_of;

use synfin_common::{
    config::{ABSENT, Bit, Config, Offsets, ReturnIndices},
    file_table::FileTable,
    kfunc,
    reset::ResetReason,
    tracepoint::InetSockSetState,
};

use super::{parse::Btf, source::TypesError};
use crate::kernel::hooks::SYN_QUEUE_DROP;

/// Resolves every field. A missing field is an error if the tracer requires it; otherwise it
/// becomes [`ABSENT`], and the values that depend on it are unknown. `jiffy_us` and `wake_bytes`
/// stay 0, as BTF does not contain them.
#[expect(clippy::too_many_lines, reason = "it is a table")]
pub(crate) fn resolve(btf: &Btf) -> Result<Config, TypesError> {
    let mut missing = Vec::new();
    let mut need = |path: &'static str| {
        find(btf, path).unwrap_or_else(|| {
            missing.push(path);
            ABSENT
        })
    };
    let want = |paths: &[&str]| paths.iter().find_map(|path| find(btf, path)).unwrap_or(ABSENT);

    let offsets = Offsets {
        skc_daddr: need("sock_common.skc_daddr"),
        skc_rcv_saddr: need("sock_common.skc_rcv_saddr"),
        skc_dport: need("sock_common.skc_dport"),
        skc_num: need("sock_common.skc_num"),
        skc_family: need("sock_common.skc_family"),
        skc_state: need("sock_common.skc_state"),
        skc_net: want(&["sock_common.skc_net.net"]),
        // A kernel without IPv6 has no AF_INET6 sockets, so nothing reads these fields.
        skc_v6_daddr: want(&["sock_common.skc_v6_daddr"]),
        skc_v6_rcv_saddr: want(&["sock_common.skc_v6_rcv_saddr"]),
        sk_err: need("sock.sk_err"),
        sk_err_soft: need("sock.sk_err_soft"),
        sk_shutdown: need("sock.sk_shutdown"),
        sk_flags: need("sock.__sk_common.skc_flags"),
        sk_socket: need("sock.sk_socket"),
        sk_lingertime: need("sock.sk_lingertime"),
        // Since 5.16 this is a plain pointer; before, the field also held other data.
        sk_cgroup: want(&["sock.sk_cgrp_data.cgroup"]),
        sk_cgroup_encoded: want(&["sock.sk_cgrp_data.val"]),
        sk_drops: want(&["sock.sk_drops"]),
        sk_ack_backlog: need("sock.sk_ack_backlog"),
        sk_max_ack_backlog: need("sock.sk_max_ack_backlog"),
        inet_sport: need("inet_sock.inet_sport"),
        icsk_retransmits: need("inet_connection_sock.icsk_retransmits"),
        icsk_probes_out: need("inet_connection_sock.icsk_probes_out"),
        icsk_user_timeout: want(&["inet_connection_sock.icsk_user_timeout"]),
        rskq_defer_accept: want(&["inet_connection_sock.icsk_accept_queue.rskq_defer_accept"]),
        icsk_bind_hash: want(&["inet_connection_sock.icsk_bind_hash"]),
        icsk_ulp_data: want(&["inet_connection_sock.icsk_ulp_data"]),
        // Present since 6.3, at first as a structure of the same layout.
        inet_local_port_range: want(&["inet_sock.local_port_range"]),
        icsk_lrcvtime: want(&["inet_connection_sock.icsk_ack.lrcvtime"]),
        srtt_us: need("tcp_sock.srtt_us"),
        total_retrans: need("tcp_sock.total_retrans"),
        // Present since 6.7.
        total_rto_time: want(&["tcp_sock.total_rto_time"]),
        linger2: want(&["tcp_sock.linger2"]),
        packets_out: want(&["tcp_sock.packets_out"]),
        rcv_nxt: need("tcp_sock.rcv_nxt"),
        copied_seq: need("tcp_sock.copied_seq"),
        bytes_acked: need("tcp_sock.bytes_acked"),
        bytes_received: need("tcp_sock.bytes_received"),
        bytes_retrans: want(&["tcp_sock.bytes_retrans"]),
        rcv_tstamp: want(&["tcp_sock.rcv_tstamp"]),
        write_seq: want(&["tcp_sock.write_seq"]),
        snd_nxt: want(&["tcp_sock.snd_nxt"]),
        snd_una: need("tcp_sock.snd_una"),
        snd_wnd: want(&["tcp_sock.snd_wnd"]),
        lsndtime: want(&["tcp_sock.lsndtime"]),
        rtt_min: want(&["tcp_sock.rtt_min"]),
        data_segs_out: want(&["tcp_sock.data_segs_out"]),
        data_segs_in: want(&["tcp_sock.data_segs_in"]),
        chrono_start: want(&["tcp_sock.chrono_start"]),
        chrono_stat: want(&["tcp_sock.chrono_stat"]),
        ts_recent_stamp: want(&["tcp_sock.rx_opt.ts_recent_stamp"]),
        tsorted_sent_queue: want(&["tcp_sock.tsorted_sent_queue"]),
        net_inum: need("net.ns.inum"),
        // The caller decides whether to use it.
        net_cookie: want(&["net.net_cookie"]),
        // The kernel renamed this field twice.
        net_count: want(&["net.ns.__ns_ref", "net.ns.count", "net.count"]),
        // These exist up to 5.16 and since 6.1. In between, both are behind a pointer and remain
        // unknown.
        tw_count: want(&["net.ipv4.tcp_death_row.tw_count"]),
        tw_refcount: want(&["net.ipv4.tcp_death_row.tw_refcount"]),
        tw_max: want(&["net.ipv4.tcp_death_row.sysctl_max_tw_buckets"]),
        cgroup_kn: want(&["cgroup.kn"]),
        cgroup_level: want(&["cgroup.level"]),
        // Present since 6.1. Before, the array holds the ancestors' ids.
        cgroup_ancestors: want(&["cgroup.ancestors"]),
        kn_id: want(&["kernfs_node.id"]),
        bucket_fastreuse: want(&["inet_bind_bucket.fastreuse"]),
        sk_protocol: want(&["sock.sk_protocol"]),
        socket_sk: want(&["socket.sk"]),
        file_inode: want(&["file.f_inode"]),
        file_private: want(&["file.private_data"]),
        inode_mode: want(&["inode.i_mode"]),
        task_group_leader: need("task_struct.group_leader"),
        task_parent: want(&["task_struct.real_parent"]),
        task_tgid: want(&["task_struct.tgid"]),
        task_mm: want(&["task_struct.mm"]),
        task_start_time: want(&["task_struct.start_time"]),
        task_comm: need("task_struct.comm"),
        task_cgroups: want(&["task_struct.cgroups"]),
        task_flags: need("task_struct.flags"),
        task_pid: want(&["task_struct.pid"]),
        task_nsproxy: want(&["task_struct.nsproxy"]),
        nsproxy_net: want(&["nsproxy.net_ns"]),
        subflow_conn: want(&["mptcp_subflow_context.conn"]),
        css_set_cgroup: want(&["css_set.dfl_cgrp"]),
        tw_substate: need("inet_timewait_sock.tw_substate"),
        tw_sport: want(&["inet_timewait_sock.tw_sport"]),
        tw_expires: want(&["inet_timewait_sock.tw_timer.expires"]),
        tw_bucket: want(&["inet_timewait_sock.tw_tb"]),
        req_num_retrans: want(&["request_sock.num_retrans"]),
        req_snt_synack: want(&["tcp_request_sock.snt_synack"]),
        // Present since 5.8 with MPTCP.
        req_drop: want(&["tcp_request_sock.drop_req"]),
        req_mptcp: want(&["mptcp_subflow_request_sock.msk"]),
        skb_head: want(&["sk_buff.head"]),
        skb_transport_header: want(&["sk_buff.transport_header"]),
        skb_refdst: want(&["sk_buff._skb_refdst"]),
        dst_dev: want(&["dst_entry.dev"]),
        dev_net: want(&["net_device.nd_net.net"]),
    };
    if !missing.is_empty() {
        return Err(TypesError::MissingFields(missing));
    }
    Ok(Config {
        offsets,
        repair: bit(btf, "tcp_sock.repair"),
        syn_fastopen: bit(btf, "tcp_sock.syn_fastopen"),
        syn_data: bit(btf, "tcp_sock.syn_data"),
        is_mptcp: bit(btf, "tcp_sock.is_mptcp"),
        reuseport: bit(btf, "sock_common.skc_reuseport"),
        chrono_type: bits(btf, "tcp_sock.chrono_type"),
        reset_reasons: reset_reasons(btf),
        // The tracepoint's own context is the first parameter of `btf_trace_*`.
        has_reset_reason: (btf.parameters("btf_trace_tcp_send_reset") >= Some(4)).into(),
        return_indices: return_indices(btf),
        has_current_task: btf
            .enumerator("bpf_func_id", "BPF_FUNC_get_current_task_btf")
            .is_some()
            .into(),
        // This function came with the check that prevents nesting.
        can_nest: btf.function("bpf_prog_inc_misses_counter").is_none().into(),
        tcp_sock_type: btf.structure_number("tcp_sock").unwrap_or(0),
        jiffy_us: 0,
        wake_bytes: 0,
        cpu_rings: 0,
        segments: 0,
        cpu_ring_bytes: 0,
        cpu_wake_bytes: 0,
    })
}

/// The BTF id of the function that the main program calls on the tracepoint's event. `None` if the
/// event's layout differs from the one that the program reads.
pub(crate) fn event_cast(btf: &Btf) -> Option<u32> {
    let is_at = |field: &str, offset: usize| {
        let found = find(btf, &format!("trace_event_raw_inet_sock_set_state.{field}"));
        found.map(usize::from) == Some(offset)
    };
    let looks_right = is_at("skaddr", offset_of!(InetSockSetState, skaddr))
        && is_at("oldstate", offset_of!(InetSockSetState, oldstate))
        && is_at("newstate", offset_of!(InetSockSetState, newstate))
        && is_at("protocol", offset_of!(InetSockSetState, protocol));
    btf.function_number(kfunc::RDONLY_CAST).filter(|_| looks_right)
}

/// Resolves the fields that lead from a process to its open files.
pub(crate) fn file_table(btf: &Btf) -> FileTable {
    let field = |path| find(btf, path).unwrap_or(ABSENT);
    FileTable {
        task_files: field("task_struct.files"),
        files_fdt: field("files_struct.fdt"),
        fdtable_fd: field("fdtable.fd"),
        reserved: 0,
    }
}

/// Whether the kernel side can find the socket of an open file.
pub(crate) fn reads_files(config: &Config) -> bool {
    let Offsets { file_inode, file_private, inode_mode, socket_sk, sk_protocol, .. } =
        config.offsets;
    ![file_inode, file_private, inode_mode, socket_sk, sk_protocol].contains(&ABSENT)
}

/// Indices of the context slots in which fexit programs find this kernel's return values.
fn return_indices(btf: &Btf) -> ReturnIndices {
    let parameters = |function: &str| {
        let function = btf.function(function).filter(|function| function.returns_value)?;
        u8::try_from(function.parameters).ok()
    };
    ReturnIndices {
        inet_csk_accept: parameters("inet_csk_accept").unwrap_or(0),
        inet_csk_reqsk_queue_hash_add: parameters("inet_csk_reqsk_queue_hash_add").unwrap_or(0),
        inet_csk_reqsk_queue_drop: SYN_QUEUE_DROP
            .iter()
            .find_map(|function| parameters(function))
            .unwrap_or(0),
        reserved: 0,
    }
}

/// This kernel's values of `enum sk_rst_reason`.
fn reset_reasons(btf: &Btf) -> [u16; ResetReason::COUNT] {
    let number = |reason: &ResetReason| {
        let value = btf.enumerator("sk_rst_reason", reason.enumerator())?;
        u16::try_from(value).ok()
    };
    std::array::from_fn(|index| number(&ResetReason::ALL[index]).unwrap_or(ABSENT))
}

/// The member's offset in bytes, or `None` if the member is absent or a bit field.
fn find(btf: &Btf, path: &str) -> Option<u16> {
    let member = btf.member(path)?;
    if member.bits.is_some() {
        return None;
    }
    u16::try_from(member.bit_offset / 8).ok().filter(|&offset| offset != ABSENT)
}

fn bit(btf: &Btf, path: &str) -> Bit {
    btf.member(path)
        .filter(|member| member.bits.is_none_or(|bits| bits == 1))
        .and_then(|member| {
            // A plain `bool` is the lowest bit of its byte.
            let byte = u16::try_from(member.bit_offset / 8).ok()?;
            Some(Bit { byte, mask: 1 << (member.bit_offset % 8) })
        })
        .unwrap_or(Bit::ABSENT)
}

/// The two bits of a bit field, the lower one first.
fn bits(btf: &Btf, path: &str) -> [Bit; 2] {
    let field = btf.member(path).filter(|member| member.bits == Some(2));
    field.map_or([Bit::ABSENT; 2], |member| {
        [0, 1].map(|place| {
            let bit = member.bit_offset + place;
            let byte = u16::try_from(bit / 8).unwrap_or(ABSENT);
            if byte == ABSENT { Bit::ABSENT } else { Bit { byte, mask: 1 << (bit % 8) } }
        })
    })
}
