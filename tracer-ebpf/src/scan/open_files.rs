//! `iter/task_file`: scans the open files of all processes for TCP and MPTCP sockets.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use synfin_common::{holder::SocketHolder, state::TcpState};

use super::{Meta, write};
use crate::{
    maps::SCAN_ALL_SOCKETS,
    sock::{File, Task},
};

/// `struct bpf_iter__task_file`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *const c_void,
    fd: u64,
    file: *const c_void,
}

/// The kernel calls it once per open file, and once without a file at the end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn scan_open_files(context: *const Context) -> i32 {
    // SAFETY: the kernel passes this structure; the verifier knows the types of its pointers.
    let (seq, task, file) = unsafe { ((*(*context).meta).seq, (*context).task, (*context).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let Some((sock, state)) = File::new(file).tcp_socket() else {
        return 0;
    };
    // A connection in CLOSE_WAIT waits for whoever holds it, who need not have accepted it.
    let is_wanted = state == TcpState::Listen.number() || state == TcpState::CloseWait.number();
    if !is_wanted && SCAN_ALL_SOCKETS.get(0).copied().unwrap_or(0) == 0 {
        return 0;
    }
    let task = Task::new(task);
    if task.shares_parent_memory() {
        return 0;
    }
    write(
        seq,
        &SocketHolder {
            sock,
            // SAFETY: the helper has no arguments.
            time: unsafe { bpf_ktime_get_ns() },
            start_time: task.start_time(),
            cgroup: task.cgroup(),
            pid: task.pid(),
            parent: task.parent_pid(),
            comm: task.name(),
        },
    );
    0
}
