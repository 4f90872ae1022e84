//! What synfin cannot see on this machine, through no fault of its own.

use std::fs;

use super::ftrace::Instance;

/// Some machines' kernels run no BPF program while a thread of process 1 is current, not even in
/// a softirq that has interrupted it, and count nothing: neither as lost nor as missed. The
/// classic tracepoint sees these transitions, so it tells whether there were any.
pub(super) struct Witness(Instance);

impl Witness {
    /// Begins to watch what happens over process 1.
    pub(super) fn begin() -> Self {
        let threads = fs::read_dir("/proc/1/task").expect("the threads of process 1");
        let threads: Vec<_> = threads
            .map(|thread| thread.expect("a thread").file_name().into_string().expect("a number"))
            .collect();
        let instance = Instance::new();
        instance.set("set_event_pid", &threads.join(" "));
        instance.set("options/event-fork", "1");
        instance.set("events/sock/inet_sock_set_state/enable", "1");
        Self(instance)
    }

    /// How many transitions happened there.
    pub(super) fn count(&self) -> usize {
        self.0.trace().lines().filter(|line| line.contains(": inet_sock_set_state: ")).count()
    }
}
