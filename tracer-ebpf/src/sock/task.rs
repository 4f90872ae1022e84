//! Processes (`struct task_struct`).

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_task, bpf_get_current_task_btf},
};

use super::{load, net_id};

/// A task. Methods that use `field!` need a pointer that the verifier knows as a `task_struct`.
#[derive(Clone, Copy)]
pub struct Task(*const u8);

impl Task {
    #[inline(always)]
    pub fn new(task: *const c_void) -> Self {
        Self(task.cast())
    }

    /// `tgid`: the process id, in the initial PID namespace.
    #[inline(always)]
    pub fn pid(self) -> u32 {
        field!(self.0, task_tgid: u32)
    }

    /// `pid`: the thread id, in the initial PID namespace.
    #[inline(always)]
    pub fn thread(self) -> u32 {
        field!(self.0, task_pid: u32)
    }

    /// Whether this is the main thread of its process.
    #[inline(always)]
    pub fn is_main_thread(self) -> bool {
        self.pid() == self.thread()
    }

    /// Id and inode number of its network namespace; `None` of a thread that is exiting.
    #[inline(always)]
    pub fn netns(self) -> Option<(u32, u32)> {
        netns_of(field!(self.0, task_nsproxy: *const u8))
    }

    /// The same of the main thread of its process.
    #[inline(always)]
    pub fn leader_netns(self) -> Option<(u32, u32)> {
        netns_of(field!(field!(self.0, task_group_leader: *const u8), task_nsproxy: *const u8))
    }

    /// The process id of `real_parent`.
    #[inline(always)]
    pub fn parent_pid(self) -> u32 {
        field!(field!(self.0, task_parent: *const u8), task_tgid: u32)
    }

    /// `start_time`: when the task was created, in nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub fn start_time(self) -> u64 {
        field!(self.0, task_start_time: u64)
    }

    /// Whether the task shares its parent's memory, as a child of vfork() does until it calls
    /// execve(). Until then its open files are only copies of its parent's.
    #[inline(always)]
    pub fn shares_parent_memory(self) -> bool {
        let parent = probe_read!(self.0, task_parent: usize) as *const u8;
        let own = probe_read!(self.0, task_mm: usize);
        own != 0 && own == probe_read!(parent, task_mm: usize)
    }

    /// The id of its cgroup (version 2).
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        let set = probe_read!(self.0, task_cgroups: usize) as *const u8;
        let cgroup = probe_read!(set, css_set_cgroup: usize) as *const u8;
        let node = probe_read!(cgroup, cgroup_kn: usize) as *const u8;
        probe_read!(node, kn_id: u64)
    }

    /// The name (`comm`) of its main thread, NUL-padded.
    #[inline(always)]
    pub fn name(self) -> [u8; 16] {
        let leader = probe_read!(self.0, task_group_leader: usize) as *const u8;
        probe_read!(leader, task_comm: [u8; 16])
    }
}

/// Id and inode number of the network namespace of a `struct nsproxy`; `None` if the pointer is null.
#[inline(always)]
fn netns_of(nsproxy: *const u8) -> Option<(u32, u32)> {
    if nsproxy.is_null() {
        return None;
    }
    let net = field!(nsproxy, nsproxy_net: *const u8);
    Some((net_id(net), field!(net, net_inum: u32)))
}

/// The current task.
#[derive(Clone, Copy)]
pub struct Current(*const u8);

/// `PF_KTHREAD` (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

impl Current {
    #[inline(always)]
    pub fn get() -> Self {
        if global!(has_current_task) == 0 {
            // SAFETY: the helper has no arguments.
            return Self(unsafe { bpf_get_current_task() } as *const u8);
        }
        // SAFETY: the helper has no arguments, and the verifier removes this on kernels without it.
        Self(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
    }

    /// Whether it is a kernel thread, which owns no sockets: workers close sockets of processes.
    #[inline(always)]
    pub fn is_kernel_thread(self) -> bool {
        let flags = if global!(has_current_task) != 0 {
            field!(self.0, task_flags: u32)
        } else {
            probe_read!(self.0, task_flags: u32)
        };
        flags & PF_KTHREAD != 0
    }

    /// The name of the process as `ps` shows it, which is that of its main thread.
    #[inline(always)]
    pub fn process_name(self) -> [u64; 2] {
        if global!(has_current_task) == 0 {
            let leader = probe_read!(self.0, task_group_leader: usize) as *const u8;
            return probe_read!(leader, task_comm: [u64; 2]);
        }
        let leader = field!(self.0, task_group_leader: *const u8);
        let comm = global!(offsets.task_comm);
        // SAFETY: the verifier checks it, as in `field!`; the name has 16 bytes.
        unsafe { [load(leader, comm), load(leader, comm + 8)] }
    }

    /// The process id, in the initial PID namespace.
    #[inline(always)]
    pub fn pid() -> u32 {
        (bpf_get_current_pid_tgid() >> 32) as u32
    }
}
