//! What synfin cannot see on this machine, through no fault of its own.

use std::{
    fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Some machines' kernels run no BPF program while a thread of process 1 is current, not even in
/// a softirq that has interrupted it, and count nothing: neither as lost nor as missed. The
/// classic tracepoint sees these transitions, so it tells whether there were any.
pub(super) struct Witness {
    /// An instance of ftrace of our own.
    instance: PathBuf,
}

impl Witness {
    /// Begins to watch what happens over process 1.
    pub(super) fn begin() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("synfin-test-{}-{number}", process::id());
        let instance = PathBuf::from("/sys/kernel/tracing/instances").join(name);
        fs::create_dir(&instance).expect("an instance of tracefs, which is at /sys/kernel/tracing");
        let witness = Self { instance };
        let threads = fs::read_dir("/proc/1/task").expect("the threads of process 1");
        let threads: Vec<_> = threads
            .map(|thread| thread.expect("a thread").file_name().into_string().expect("a number"))
            .collect();
        witness.set("set_event_pid", &threads.join(" "));
        witness.set("options/event-fork", "1");
        witness.set("events/sock/inet_sock_set_state/enable", "1");
        witness
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.instance.join(file), value)
            .unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// How many transitions happened there.
    pub(super) fn count(&self) -> usize {
        let trace = fs::read_to_string(self.instance.join("trace")).expect("the trace");
        trace.lines().filter(|line| line.contains(": inet_sock_set_state: ")).count()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Of an instance, this removes all that is in it.
        let _ = fs::remove_dir(&self.instance);
    }
}
