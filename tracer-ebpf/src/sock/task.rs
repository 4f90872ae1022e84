//! Processes (`struct task_struct`).

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_task};

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

/// The id of the current process.
#[inline(always)]
pub fn current_pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The name of the current process as `ps` shows it, which is that of its main thread.
#[inline(always)]
pub fn current_process_name() -> [u8; 16] {
    // SAFETY: the helper has no arguments, and `name` only copies from behind its result.
    let task = unsafe { bpf_get_current_task() };
    Task(task as *const u8).name()
}
