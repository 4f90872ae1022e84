//! The self-test: makes connections with known outcomes, traces them through the same source,
//! decoder and tracker as other commands, and compares the results.

pub(crate) mod compare;
pub(crate) mod traffic;

use std::{ops::ControlFlow, sync::Arc, thread::JoinHandle};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    check::Check,
    self_test::{
        compare::{Circumstances, Observed},
        traffic::Made,
    },
};
use crate::{
    host::{namespaces, pid_namespace},
    output::consumer::Consumer,
    trace::{ids::NetnsId, session::Session, time::Nanos},
    tracker::{Change, ChangeKinds, Events, Tracker},
};

/// Nanoseconds between ticks during the self-test.
const TICK: Nanos = 20_000_000;

/// Maximum time in nanoseconds to wait for the results after the last connection was made.
const MAX_WAIT: Nanos = 2_000_000_000;

/// Maximum number of deviations in the table; JSON has all of them.
const MAX_SHOWN: usize = 10;

/// The result of a self-test.
#[derive(Default)]
pub(crate) struct SelfTestResult {
    /// The connections that were made, or why they could not be; `None`: the self-test was
    /// interrupted.
    made: Option<Result<Made>>,
    deviations: Vec<String>,
    events: Events,
}

impl SelfTestResult {
    /// Whether all connections were made and traced correctly.
    pub(super) fn has_passed(&self) -> bool {
        matches!(self.made, Some(Ok(_))) && self.deviations.is_empty()
    }

    /// Whether events were lost or missed, which explains deviations.
    pub(super) fn was_disturbed(&self) -> bool {
        self.events.missed > 0 || self.events.lost > 0
    }

    /// The first deviations, as many as the table shows.
    pub(super) fn deviations(&self) -> impl Iterator<Item = &str> {
        self.deviations.iter().map(String::as_str).take(MAX_SHOWN)
    }

    pub(super) fn check(&self, trials: usize) -> Check {
        const ID: &str = "self_test";
        let made = match &self.made {
            Some(Ok(made)) => made,
            Some(Err(error)) => {
                return Check::missing(ID, format!("the connections could not be made: {error:#}"))
                    .remedy("check that the loopback interface is up (ip link set lo up) and not filtered");
            }
            None => {
                return Check::missing(ID, "interrupted").remedy("run it again");
            }
        };
        let endpoints = made.endpoints.len();
        let addresses = if made.ipv6 { "127.0.0.1 and ::1" } else { "127.0.0.1 (there is no ::1)" };
        let attempt = if trials > 1 { format!(", in attempt {trials}") } else { String::new() };
        if self.deviations.is_empty() {
            let text = format!(
                "all {endpoints} endpoints of connections on {addresses} were traced correctly{attempt}"
            );
            return Check::ok(ID, text);
        }
        let missed = match self.events.missed + self.events.lost {
            0 => String::new(),
            missed => format!(" ({missed} events were lost or missed)"),
        };
        let text = format!(
            "{} deviations in {endpoints} endpoints of connections on {addresses}{attempt}{missed}",
            self.deviations.len()
        );
        Check::missing(ID, text).remedy(if missed.is_empty() {
            "report a bug with the kernel version and the lines below"
        } else {
            "run it again when the host is less busy"
        })
    }

    pub(super) fn to_json(&self, trials: usize) -> Value {
        let (ends, error) = match &self.made {
            Some(Ok(made)) => (Some(made.endpoints.len()), None),
            Some(Err(error)) => (None, Some(format!("{error:#}"))),
            None => (None, None),
        };
        json!({
            "right": self.has_passed(),
            "trials": trials,
            "ends": ends,
            "error": error,
            "missed": self.events.missed,
            "lost": self.events.lost,
            "deviations": self.deviations,
        })
    }
}

/// A self-test in progress.
pub(crate) struct SelfTest<'a> {
    trial: &'a mut SelfTestResult,
    netns: Option<NetnsId>,
    maker: Option<JoinHandle<Result<Made>>>,
    seen: Vec<Observed>,
    now: Nanos,
    /// Time when all connections had been made (CLOCK_MONOTONIC, nanoseconds); `None`: not yet.
    made_at: Option<Nanos>,
}

impl<'a> SelfTest<'a> {
    pub(super) fn new(trial: &'a mut SelfTestResult) -> Self {
        Self { trial, netns: None, maker: None, seen: Vec::new(), now: 0, made_at: None }
    }

    fn compare(&self, made: &Made) -> Vec<String> {
        compare::deviations(&made.endpoints, &self.seen, circumstances())
    }
}

fn circumstances() -> Circumstances {
    let cookies = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies");
    Circumstances {
        pid: (pid_namespace::is_initial() == Some(true)).then(std::process::id),
        cookies: cookies.is_ok_and(|value| value.trim() == "2"),
    }
}

impl Consumer for SelfTest<'_> {
    fn wanted_changes(&self) -> ChangeKinds {
        ChangeKinds::CLOSED
    }

    fn change(&mut self, change: &Change) {
        if let Change::Closed(closed) = change
            && Some(closed.netns) == self.netns
            && closed.local.ip().is_loopback()
        {
            self.seen.push(Observed::from(closed));
        }
    }

    fn begin(&mut self, session: &Arc<Session>) {
        self.now = session.clock.monotonic_ns;
        self.netns = namespaces::own().ok();
        // The hooks are attached, so every event is captured from now on.
        let maker = std::thread::Builder::new().name("synfin-selftest".into());
        match maker.spawn(traffic::make_all).context("cannot start a thread") {
            Ok(maker) => self.maker = Some(maker),
            Err(error) => self.trial.made = Some(Err(error)),
        }
    }

    fn tick(&mut self, tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        self.now = tracker.now();
        if let Some(maker) = self.maker.take_if(|maker| maker.is_finished()) {
            let panicked =
                |_| Err(anyhow::anyhow!("the thread that makes the connections panicked"));
            self.trial.made = Some(maker.join().unwrap_or_else(panicked));
            self.made_at = Some(self.now);
        }
        let is_over = match &self.trial.made {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(made)) => {
                let waited = self.now.saturating_sub(self.made_at.unwrap_or(0));
                waited >= MAX_WAIT || self.compare(made).is_empty()
            }
        };
        Ok(if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn next_tick(&self) -> Option<Nanos> {
        Some(self.now + TICK)
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        self.trial.events = tracker.events();
        if let Some(Ok(made)) = &self.trial.made {
            self.trial.deviations = self.compare(made);
        }
        Ok(())
    }
}
