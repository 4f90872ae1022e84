//! `iter/task_file`: a look at the open files of all processes, for those that are TCP sockets.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use synfin_common::{holder::HeldSocket, state::TcpState};

use crate::{
    iterate::{Meta, write},
    maps::LOOK_AT_ALL,
    sock::{OpenFile, Process},
};

/// `struct bpf_iter__task_file`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *const c_void,
    fd: u64,
    file: *const c_void,
}

/// Called once per open file, and once without one at the end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn holders(context: *const Context) -> i32 {
    // SAFETY: the kernel passes this structure; the verifier types its pointers.
    let (seq, task, file) = unsafe { ((*(*context).meta).seq, (*context).task, (*context).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let Some((sock, state)) = OpenFile::new(file).tcp_socket() else {
        return 0;
    };
    if state != TcpState::Listen.number() && LOOK_AT_ALL.get(0).copied().unwrap_or(0) == 0 {
        return 0;
    }
    let process = Process::new(task);
    if process.is_passing() {
        return 0;
    }
    write(
        seq,
        &HeldSocket {
            sock,
            // SAFETY: the helper has no arguments.
            time: unsafe { bpf_ktime_get_ns() },
            born: process.born(),
            cgroup: process.cgroup(),
            pid: process.pid(),
            parent: process.parent(),
            comm: process.name(),
        },
    );
    0
}
