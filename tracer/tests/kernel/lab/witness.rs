//! Transitions for which this machine's kernel does not run synfin's program.

use std::fs;

use super::ftrace::Instance;

/// Some machines' kernels run no BPF program while a thread of process 1 is current, even in a
/// softirq that interrupts it, and do not count it as missed. The event of the tracepoint still
/// records these transitions.
pub(super) struct Witness(Instance);

impl Witness {
    /// Starts to record transitions in process 1.
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

    /// The number of these transitions.
    pub(super) fn count(&self) -> usize {
        self.0.trace().lines().filter(|line| line.contains(": inet_sock_set_state: ")).count()
    }
}
