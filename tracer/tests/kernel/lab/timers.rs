//! The timers of the TIME_WAITs of all namespaces, as the kernel starts and stops them: each has
//! one, for as long as it lasts.

use std::{collections::BTreeSet, fs};

use super::ftrace::Instance;

/// What the kernel calls when a TIME_WAIT is over.
const HANDLER: &str = "tw_timer_handler";

/// Watches the timers of TIME_WAITs.
pub(crate) struct TimeWaitTimers(Instance);

/// What became of them since they are watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// TIME_WAITs that began.
    pub(crate) began: u64,
    /// Of these, those that are not over.
    pub(crate) left: u64,
}

impl TimeWaitTimers {
    pub(crate) fn watch() -> Self {
        let instance = Instance::new();
        // All timers that are stopped have to be seen: which they are is not known from that.
        instance.set("buffer_size_kb", "32768");
        // By its address: filters know functions by name only since Linux 6.3.
        instance.set("events/timer/timer_start/filter", &format!("function == {:#x}", address()));
        instance.set("events/timer/timer_start/enable", "1");
        instance.set("events/timer/timer_cancel/enable", "1");
        Self(instance)
    }

    /// Ends the watch. Nothing is counted twice while no TIME_WAIT is over before another begins,
    /// which might get its memory; one that is started anew, as its FIN came, is the same.
    pub(crate) fn end(self) -> Timed {
        self.0.set("tracing_on", "0");
        let (mut began, mut left) = (BTreeSet::new(), BTreeSet::new());
        let trace = self.0.trace();
        let events = trace.lines().filter_map(|line| line.split_once(": timer_"));
        for (_, event) in events {
            let (what, rest) = event.split_once(": timer=").expect("a timer");
            let timer = rest.split(' ').next().expect("its address");
            match what {
                "start" => {
                    began.insert(timer);
                    left.insert(timer);
                }
                _ => {
                    left.remove(timer);
                }
            }
        }
        Timed { began: began.len() as u64, left: left.len() as u64 }
    }
}

/// The handler's address in the kernel.
fn address() -> u64 {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("the kernel's symbols");
    let handler = symbols.lines().find_map(|line| {
        let (address, name) = line.split_once(' ')?;
        // After the name, some say of which module it is.
        let is_it = name.split_whitespace().nth(1) == Some(HANDLER);
        is_it.then(|| u64::from_str_radix(address, 16).expect("an address"))
    });
    handler.filter(|&address| address != 0).unwrap_or_else(|| panic!("no address of {HANDLER}"))
}
