//! `doctor`: what synfin can trace on this host, the ring buffer size that the host needs, and a
//! self-test with connections whose outcome is known.

mod check;
mod host;
mod rate;
pub(crate) mod self_test;

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;
use check::{Check, Status};
use rate::Rate;
use self_test::{SelfTest, SelfTestResult};
use serde_json::json;

use crate::{
    cli::{
        host_only::{DoctorArgs, DoctorFormat},
        live::LiveArgs,
        select::FilterArgs,
    },
    host::privileges::Facts,
    kernel::{
        Kernel, MAIN_HOOK, MAIN_HOOK_BY_EVENT, Need, PREEMPTED, RESET_SENT, Setup, hooks,
        iterators::SocketScanner,
    },
    message::{
        escape::{escape_control, write_json},
        exit::Exit,
        failure::{Failure, cannot_write},
        stderr::warn_lines,
    },
    run::{Run, RunMode},
    tcp::coverage::OptionalHook,
    trace::ring_size::{self, bytes},
};

/// Version of the JSON format. It changes when a field is renamed or removed.
const SCHEMA: u32 = 1;

/// How long the reader may stall without losing events, at the recommended size.
const STALL: Duration = Duration::from_secs(2);

/// Maximum number of self-tests. A failed one is repeated if events were lost or missed.
const MAX_TRIALS: usize = 3;

/// Examines this host, then runs the self-test, which makes connections of its own.
pub(crate) async fn run(args: DoctorArgs, verbose: u8) -> Result<Exit> {
    let mut doctor = Doctor::examine(args.duration, args.btf.file.clone()).await;
    while doctor.wants_self_test() {
        let live = LiveArgs { btf: args.btf.clone(), ..LiveArgs::default() };
        let run = Run::live(live, &FilterArgs::default(), verbose)?;
        run.go(RunMode::Quiet, &mut doctor.self_test()).await?;
    }
    doctor.write(args.output, &mut io::stdout().lock()).map_err(cannot_write)?;
    if let Some(failure) = doctor.refusal() {
        warn_lines(&failure.lines(verbose > 0));
    }
    Ok(if doctor.has_passed() { Exit::Done } else { Exit::CannotRun })
}

/// The results of all checks.
struct Doctor {
    checks: Vec<Check>,
    /// `None`: the eBPF programs could not be attached or the rate could not be measured.
    rate: Option<Rate>,
    failure: Option<anyhow::Error>,
    facts: Facts,
    trials: Vec<SelfTestResult>,
}

impl Doctor {
    /// Examines this host and measures its rate of records for `duration`. `btf` is a file with the
    /// BTF of the kernel; `None`: the BTF that the kernel exports.
    pub(crate) async fn examine(duration: Duration, btf: Option<PathBuf>) -> Self {
        let facts = Facts::gather();
        let mut checks = host::before_attaching(&facts, btf.as_deref());
        let (rate, failure) = match Kernel::attach(&Setup { btf, ..Setup::default() }) {
            Ok((mut kernel, scanner)) => {
                checks.push(Check::ok("kernel_side", "loaded and attached"));
                checks.push(Check::ok(
                    "ring_buffer",
                    format!("available; the default size is {}", bytes(kernel.ring_bytes().into())),
                ));
                checks.extend(hook_checks(&kernel));
                checks.extend(iterator_checks(&scanner));
                drop(scanner);
                match rate::measure(&mut kernel, duration).await {
                    Ok(rate) => (Some(rate), None),
                    Err(error) => {
                        let check = Check::missing("ring_size", format!("unknown: {error:#}"));
                        checks.push(check.remedy("run it again"));
                        (None, None)
                    }
                }
            }
            Err(error) => (None, Some(error)),
        };
        if let Some(error) = &failure {
            checks.push(refused(error));
        }
        checks.extend(host::for_details());
        checks.extend(rate.as_ref().map(ring_check));
        Self { checks, rate, failure, facts, trials: Vec::new() }
    }

    /// Whether to run a self-test: the first one, or another if the last one failed while records
    /// were lost or missed.
    pub(crate) fn wants_self_test(&self) -> bool {
        let inconclusive =
            self.trials.last().is_none_or(|trial| !trial.has_passed() && trial.was_disturbed());
        self.rate.is_some() && self.trials.len() < MAX_TRIALS && inconclusive
    }

    /// A new self-test, which makes connections and compares how they were traced.
    pub(crate) fn self_test(&mut self) -> SelfTest<'_> {
        self.trials.push(SelfTestResult::default());
        let last = self.trials.len() - 1;
        SelfTest::new(&mut self.trials[last])
    }

    /// Whether everything that is required works.
    pub(crate) fn has_passed(&self) -> bool {
        self.all_checks().iter().all(|check| check.status != Status::Missing)
    }

    /// The failure to attach, if the kernel wrote a log about it.
    pub(crate) fn refusal(&self) -> Option<&Failure> {
        let failure = self.failure.as_ref()?.downcast_ref::<Failure>()?;
        (!failure.log.is_empty()).then_some(failure)
    }

    /// Writes all checks as a table or JSON.
    pub(crate) fn write(&self, format: DoctorFormat, out: &mut impl Write) -> io::Result<()> {
        match format {
            DoctorFormat::Table => {
                self.all_checks().iter().try_for_each(|check| check.write(out))?;
                for deviation in self.trials.last().into_iter().flat_map(SelfTestResult::deviations)
                {
                    writeln!(out, "        - {}", escape_control(deviation))?;
                }
                let summary = if self.has_passed() {
                    "all required checks passed"
                } else {
                    "a required check failed"
                };
                writeln!(out, "{summary}")?;
            }
            DoctorFormat::Json => {
                let object = json!({
                    "schema": SCHEMA,
                    "good": self.has_passed(),
                    "kernel": self.facts.kernel,
                    "checks": self.all_checks().iter().map(Check::to_json).collect::<Vec<_>>(),
                    "rate": self.rate.as_ref().map(Rate::to_json),
                    "ring": self.rate.as_ref().map(|rate| json!({
                        "stall_seconds": STALL.as_secs(),
                        "needed_bytes": needed(rate),
                        "default_bytes": rate.ring_bytes(),
                        "default_is_enough": needed(rate) <= rate.ring_bytes(),
                    })),
                    "self_test": self.trials.last().map(|trial| trial.to_json(self.trials.len())),
                });
                write_json(out, &object)?;
                writeln!(out)?;
            }
        }
        out.flush()
    }

    fn all_checks(&self) -> Vec<Check> {
        let self_test = match self.trials.last() {
            Some(trial) => trial.check(self.trials.len()),
            None => Check::missing("self_test", "skipped, because this host cannot be traced")
                .remedy("fix the failed checks above"),
        };
        self.checks.iter().cloned().chain([self_test]).collect()
    }
}

/// The impact of a missing main hook.
const NO_TRACE: &str = "nothing can be traced";

fn hook_checks(kernel: &Kernel) -> Vec<Check> {
    let refusal = |name| kernel.refused_hooks().iter().find(|refused| refused.name == name);
    let check = |(name, need): (&'static str, Need)| {
        let id = format!("hook.{name}");
        match (refusal(name), need) {
            (None, Need::Optional(_)) => Check::ok(id, "attached: exact"),
            (None, _) if name == RESET_SENT && !kernel.coverage().has(OptionalHook::Resets) => {
                Check::note(id, "attached, but this kernel reports only resets of connections")
                    .impact(OptionalHook::Resets.fallback())
                    .remedy("boot a newer kernel")
            }
            (None, _) if name == MAIN_HOOK && refusal(MAIN_HOOK_BY_EVENT).is_some() => {
                Check::note(id, "attached, but this kernel can preempt it")
                    .impact(PREEMPTED)
                    .remedy("see tracefs below, or report a bug with the kernel version")
            }
            (None, _) => Check::ok(id, "attached"),
            (Some(refused), Need::Optional(hook)) => Check::note(
                id,
                format!("refused ({})", refused.error),
            )
            .impact(hook.fallback())
            .remedy("optional; needs a kernel with fentry (BPF trampolines) and without lockdown"),
            (Some(refused), need) => {
                let impact = if let Need::Expected(impact) = need { impact } else { NO_TRACE };
                Check::note(id, format!("refused ({})", refused.error))
                    .impact(impact)
                    .remedy("boot a newer kernel, or report a bug with the kernel version")
            }
        }
    };
    hooks().map(check).collect()
}

fn iterator_checks(scanner: &SocketScanner) -> [Check; 2] {
    let check = |id, refusal: Option<&str>, over: &str, impact: &str| match refusal {
        None => Check::ok(id, format!("the iterator over {over} can be loaded")),
        Some(error) => {
            Check::note(id, format!("the kernel rejects the iterator over {over} ({error})"))
                .impact(impact)
                .remedy("boot a newer kernel, or report a bug with the kernel version")
        }
    };
    [
        check(
            "survey",
            scanner.refusal(),
            "sockets",
            "connections older than the trace, TIME_WAIT and queues are unknown",
        ),
        check(
            "owners",
            scanner.open_files_refusal(),
            "open files",
            "owners of sockets older than the trace, and of listeners passed to other processes, are unknown",
        ),
    ]
}

/// The check for eBPF programs that could not be attached.
fn refused(error: &anyhow::Error) -> Check {
    match error.downcast_ref::<Failure>() {
        Some(failure) => Check::missing("kernel_side", failure.to_string())
            .impact(NO_TRACE)
            .remedy(failure.remedy.clone()),
        None => Check::missing("kernel_side", format!("{error:#}"))
            .impact(NO_TRACE)
            .remedy("report a bug with the kernel version"),
    }
}

/// Factor on the measured rate, because the measurement seldom covers the busiest second.
const HEADROOM: f64 = 1.5;

fn needed(rate: &Rate) -> u64 {
    ring_size::for_stall(STALL, rate.busiest_bytes_per_second() * HEADROOM)
}

fn ring_check(rate: &Rate) -> Check {
    let (needed, default) = (needed(rate), rate.ring_bytes());
    let (busiest, each) =
        if rate.is_per_cpu() { (" on the busiest CPU", " per CPU") } else { ("", "") };
    let text = format!(
        "at {HEADROOM} times the rate of {:.0} transitions/s ({:.0} bytes/s{busiest}, measured for {:.1} s), a ring buffer of {}{each} survives a stall of {} s",
        rate.transitions_per_second(),
        rate.busiest_bytes_per_second(),
        rate.seconds(),
        bytes(needed),
        STALL.as_secs(),
    );
    if needed <= default {
        return Check::ok("ring_size", format!("{text}; the default is {}", bytes(default)));
    }
    let lost = rate.lost_in(HEADROOM * STALL.as_secs_f64());
    Check::note("ring_size", format!("{text}; the default is only {}", bytes(default)))
        .impact(format!("such a stall loses about {lost:.0} events"))
        .remedy(format!("use --ring-size {}", bytes(needed)))
}
