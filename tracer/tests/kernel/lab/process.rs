//! Memory and scheduling of processes.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::eventually;

/// The number of busy threads per CPU.
const BUSY_EACH: usize = 2;

/// A process, by its PID.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

/// The scheduling policy of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Policy {
    /// The default.
    Fair,
    /// Hardly runs while others are runnable.
    Idle,
}

impl Process {
    /// Its memory in KiB.
    pub(crate) fn memory(self) -> u64 {
        self.status("VmRSS")
    }

    /// Its peak memory since [`Self::reset_peak_memory`], in KiB.
    pub(crate) fn peak_memory(self) -> u64 {
        self.status("VmHWM")
    }

    /// Resets the peak to the current memory.
    pub(crate) fn reset_peak_memory(self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").expect("a writable file");
    }

    #[track_caller]
    fn status(self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in:\n{status}"))
    }

    /// Stops it until [`Self::resume`].
    pub(crate) fn stop(self) {
        self.signal(Signal::SIGSTOP);
        eventually("all its threads stop", || {
            let is_stopped = |thread| self.thread_stat(thread).starts_with(['T', 't']);
            self.threads().into_iter().all(is_stopped).then_some(())
        });
    }

    pub(crate) fn resume(self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits until its main thread sleeps.
    pub(crate) fn wait_until_asleep(self) {
        eventually("its main thread sleeps", || {
            self.thread_stat(self.0).starts_with('S').then_some(())
        });
    }

    pub(crate) fn signal(self, signal: Signal) {
        kill(Pid::from_raw(self.0 as i32), signal).expect("a signal");
    }

    /// Sets the policy of all its threads.
    pub(crate) fn set_policy(self, policy: Policy) {
        self.threads().into_iter().for_each(|thread| policy.of(thread));
    }

    /// Sets the policy of its thread of this name.
    #[track_caller]
    pub(crate) fn set_policy_of(self, name: &str, policy: Policy) {
        let is_named = |thread: &u32| self.thread_file(*thread, "comm").trim_end() == name;
        let thread = self.threads().into_iter().find(is_named);
        policy.of(thread.unwrap_or_else(|| panic!("no thread {name}")));
    }

    fn threads(self) -> Vec<u32> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).expect("its threads");
        let names = threads.map(|thread| thread.expect("a thread").file_name());
        names
            .map(|name| name.to_str().and_then(|name| name.parse().ok()).expect("a number"))
            .collect()
    }

    fn thread_file(self, thread: u32, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/task/{thread}/{file}", self.0)).expect("a thread")
    }

    /// A thread's state and the fields after it.
    fn thread_stat(self, thread: u32) -> String {
        let stat = self.thread_file(thread, "stat");
        let (_, state) = stat.rsplit_once(") ").expect("a name in parentheses");
        state.to_owned()
    }
}

impl Policy {
    /// Sets the policy of this thread and those that it starts.
    pub(crate) fn here(self) {
        self.of(0);
    }

    fn of(self, thread: u32) {
        let policy = match self {
            Self::Fair => libc::SCHED_OTHER,
            Self::Idle => libc::SCHED_IDLE,
        };
        let priority: libc::c_int = 0;
        // musl's function of that name always fails.
        // SAFETY: the parameter, a structure of one number, is valid for reads.
        let result = unsafe {
            libc::syscall(libc::SYS_sched_setscheduler, thread, policy, &raw const priority)
        };
        assert_eq!(result, 0, "{self:?} for {thread}: {}", io::Error::last_os_error());
    }
}

/// Threads that keep every CPU busy until drop.
pub(crate) struct Busy {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    pub(crate) fn everywhere() -> Self {
        let processors = thread::available_parallelism().expect("a number of processors").get();
        let ends = Arc::new(AtomicBool::new(false));
        let work = |ends: Arc<AtomicBool>| {
            Policy::Fair.here();
            while !ends.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let start = |_| {
            let ends = ends.clone();
            thread::spawn(move || work(ends))
        };
        let threads = (0..processors * BUSY_EACH).map(start).collect();
        Self { ends, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
