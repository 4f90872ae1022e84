//! The kernel's timers of TIME_WAITs in all namespaces: a TIME_WAIT has one for as long as it
//! exists.

use std::{collections::BTreeSet, fs};

use synfin_testkit::ftrace::Instance;

/// The timer function of a TIME_WAIT.
const HANDLER: &str = "tw_timer_handler";

/// A trace of the timers of TIME_WAITs.
pub(crate) struct TimeWaitTimers(Instance);

/// The result of a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// Number of TIME_WAITs entered.
    pub(crate) began: u64,
    /// Number of these that have not expired.
    pub(crate) left: u64,
}

impl TimeWaitTimers {
    pub(crate) fn watch() -> Self {
        let instance = Instance::create();
        // timer_cancel does not have the function, so all canceled timers are traced.
        instance.set("buffer_size_kb", "32768");
        // By address, because filters accept function names only since Linux 6.3.
        instance.set("events/timer/timer_start/filter", &format!("function == {:#x}", address()));
        instance.set("events/timer/timer_start/enable", "1");
        instance.set("events/timer/timer_cancel/enable", "1");
        Self(instance)
    }

    /// Ends the trace. The counts are exact if no TIME_WAIT expires before another is entered,
    /// which could reuse its address. A timer that a FIN restarts stays the same timer.
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
        // The name of a module may follow.
        let is_it = name.split_whitespace().nth(1) == Some(HANDLER);
        is_it.then(|| u64::from_str_radix(address, 16).expect("an address"))
    });
    handler.filter(|&address| address != 0).unwrap_or_else(|| panic!("no address of {HANDLER}"))
}
