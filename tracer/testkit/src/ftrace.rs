//! The kernel's tracer ftrace as a witness: it records events independently of eBPF programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// An instance of ftrace, which is removed on drop.
pub struct Instance(PathBuf);

impl Instance {
    /// Creates one.
    ///
    /// # Panics
    ///
    /// Tracefs is not mounted on /sys/kernel/tracing, or this process is not root.
    pub fn create() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("synfin-test-{}-{number}", process::id());
        let folder = Path::new("/sys/kernel/tracing/instances").join(name);
        fs::create_dir(&folder).expect("a tracefs instance in /sys/kernel/tracing");
        Self(folder)
    }

    /// Writes a value to one of its files.
    ///
    /// # Panics
    ///
    /// The file does not exist, or takes no such value.
    pub fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// The trace, one event per line.
    ///
    /// # Panics
    ///
    /// It cannot be read.
    pub fn trace(&self) -> String {
        fs::read_to_string(self.0.join("trace")).expect("the trace")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The directory of an instance can be removed with its contents.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Records the transitions for which this machine's kernel does not run synfin's program.
///
/// Some machines' kernels run no BPF program while a thread of process 1 is current, even in a
/// softirq that interrupts it, and do not count it as missed. The event of the tracepoint still
/// records these transitions.
pub struct Witness(Instance);

impl Witness {
    /// Starts to record transitions in process 1.
    ///
    /// # Panics
    ///
    /// As [`Instance::create`].
    pub fn begin() -> Self {
        let threads = fs::read_dir("/proc/1/task").expect("the threads of process 1");
        let threads: Vec<_> = threads
            .map(|thread| thread.expect("a thread").file_name().into_string().expect("a number"))
            .collect();
        let instance = Instance::create();
        instance.set("set_event_pid", &threads.join(" "));
        instance.set("options/event-fork", "1");
        instance.set("events/sock/inet_sock_set_state/enable", "1");
        Self(instance)
    }

    /// The number of these transitions.
    ///
    /// # Panics
    ///
    /// As [`Instance::trace`].
    pub fn count(&self) -> usize {
        self.0.trace().lines().filter(|line| line.contains(": inet_sock_set_state: ")).count()
    }
}
