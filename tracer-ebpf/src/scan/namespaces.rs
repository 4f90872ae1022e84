//! `iter/task`: lists the network namespaces of all threads, also of those whose namespace file in
//! `/proc` cannot be read.

use core::ffi::c_void;

use synfin_common::holder::NamespaceHolder;

use super::{Meta, write};
use crate::sock::Task;

/// `struct bpf_iter__task`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *const c_void,
}

/// The kernel calls it once per thread, and once without a thread at the end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn scan_namespaces(context: *const Context) -> i32 {
    // SAFETY: the kernel passes this structure; the verifier knows the types of its pointers.
    let (seq, task) = unsafe { ((*(*context).meta).seq, (*context).task) };
    if task.is_null() {
        return 0;
    }
    let task = Task::new(task);
    // The other threads of a process are usually in the same namespace.
    let Some((netns, inode)) = task.netns() else {
        return 0;
    };
    if task.is_main_thread() || task.leader_netns() != Some((netns, inode)) {
        let start_time = task.start_time();
        let (pid, thread) = (task.pid(), task.thread());
        write(seq, &NamespaceHolder { start_time, netns, inode, pid, thread });
    }
    0
}
