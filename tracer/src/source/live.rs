//! The live kernel as a stream of frames.

use std::{collections::VecDeque, time::Duration};

use anyhow::Result;
use bytes::Bytes;

use super::{
    NextFrame, Source,
    scan_schedule::{Plan, ScanScheduler},
    session::session,
};
use crate::{
    host::{clock, namespaces, privileges},
    kernel::{
        Kernel, Need, Setup,
        iterators::{Answer, SocketScanner},
    },
    source::names::NameResolver,
    trace::{
        counters::Tick,
        ids::NetnsId,
        names::Names,
        recording::Frame,
        scan::{ScanBegin, ScanEnd},
        session::Session,
        time::{ClockAnchor, Nanos},
    },
};

/// Records are taken from the ring so often: unless much waits, nothing else says that some are
/// there. Many at a time cost less each than few, whose books have left the processor's caches in
/// between.
const DRAIN_PERIOD: Nanos = 100 * MILLISECOND;

/// Time passes for the tracker at least this often.
const TICK_PERIOD: Nanos = 250 * MILLISECOND;

/// A record is in the ring at most this long after its time was taken.
const SUBMIT_DELAY: Nanos = 2 * MILLISECOND;

/// Largest batch of records.
const BATCH_BYTES: usize = 1 << 20;

/// How often counters are read anew when records arrived while they were read.
const COUNTER_TRIES: usize = 8;

const MILLISECOND: Nanos = 1_000_000;

/// The live kernel.
pub struct Live {
    kernel: Kernel,
    scanner: SocketScanner,
    scheduler: ScanScheduler,
    enricher: NameResolver,
    survey_always: bool,
    /// Somebody has looked at who holds which sockets.
    looked: bool,
    /// What the kernel side has logged.
    messages: Vec<String>,
    /// Frames that are ready.
    queue: VecDeque<Frame>,
    /// Records handed out.
    delivered: u64,
    next_drain: Nanos,
    next_tick: Nanos,
    /// What a scan has found, which waits until all older records have been handed out.
    found: Option<Found>,
    /// The CPU time by which a part of a scan was handed out, which it takes time to take in.
    handed_out: Option<Nanos>,
    ending: Ending,
    /// Why the trace ended before anybody asked for it. Reported after the last frame.
    failure: Option<anyhow::Error>,
}

/// What a scan finds.
enum Found {
    /// Sockets, by this time.
    Sockets(Bytes, Nanos),
    /// Its end, and what it cost.
    End(ScanEnd, Nanos),
}

impl Found {
    fn time(&self) -> Nanos {
        match self {
            Self::Sockets(_, by) => *by,
            Self::End(end, _) => end.ended,
        }
    }
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Not asked for.
    No,
    /// The last survey waits for the round that goes on.
    Asked,
    /// The last survey goes on, and is over when this many rounds are.
    Surveying(u64),
    /// No more frames come.
    Over,
}

impl Source for Live {
    fn next(&mut self) -> NextFrame<'_> {
        Box::pin(self.next_frame())
    }

    fn is_live(&self) -> bool {
        true
    }

    fn take_messages(&mut self) -> Vec<String> {
        std::mem::take(&mut self.messages)
    }

    fn finish(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::Asked;
            self.next_drain = 0;
        }
    }

    fn tick_at(&mut self, time: Nanos) {
        self.next_tick = self.next_tick.min(time);
    }

    fn is_seeded(&self) -> bool {
        self.scheduler.rounds() > 0 || !self.can_scan()
    }

    fn plan_scans(&mut self, wanted: &dyn Fn(NetnsId, bool) -> bool) {
        if !self.can_scan() {
            return;
        }
        if self.survey_always && self.scheduler.is_resting() {
            self.scheduler.hurry();
        }
        let now = clock::monotonic_ns();
        match self.scheduler.plan(now, wanted) {
            Plan::Rest if self.survey_always && self.scheduler.is_resting() => self.next_tick = 0,
            Plan::Rest => {}
            Plan::List => self.scanner.list(),
            Plan::ScanOpenFiles if self.scanner.open_files_refusal().is_some() => {
                self.scheduler.open_files_scanned(0)
            }
            // What was there before is looked at once; since then, births tell who connects.
            Plan::ScanOpenFiles => {
                self.scanner.scan_open_files(!self.looked || self.scheduler.restarted())
            }
            Plan::ScanSockets(netns, path) => {
                // Before the scan begins, and after all records that have been handed out.
                self.queue.push_back(Frame::ScanBegin(ScanBegin { netns, time: now }));
                self.scanner.scan_sockets(netns, path);
            }
        }
    }

    fn restart_scans(&mut self) {
        self.scheduler.restart();
        self.next_tick = 0;
        if let Ending::Surveying(rounds) = &mut self.ending {
            // The present one, and the one that begins anew.
            *rounds = (*rounds).max(self.scheduler.rounds() + 2);
        }
    }
}

impl Live {
    /// Attaches to the kernel. `survey_always`: scans follow each other without rest, for tests.
    pub fn attach(setup: Setup, survey_always: bool) -> Result<Self> {
        let (kernel, scanner) = Kernel::attach(&setup)?;
        let session = describe(&kernel, &scanner, setup);
        Ok(Self {
            kernel,
            scanner,
            scheduler: ScanScheduler::default(),
            enricher: NameResolver::new(),
            survey_always,
            looked: false,
            messages: Vec::new(),
            queue: VecDeque::from([Frame::Session(Box::new(session))]),
            delivered: 0,
            next_drain: 0,
            next_tick: 0,
            found: None,
            handed_out: None,
            ending: Ending::No,
            failure: None,
        })
    }

    fn can_scan(&self) -> bool {
        self.scanner.refusal().is_none()
    }

    async fn next_frame(&mut self) -> Result<Option<Frame>> {
        if let Some(before) = self.handed_out.take() {
            self.scheduler.spent(clock::thread_cpu_ns() - before);
        }
        loop {
            if let Some(frame) = self.queue.pop_front() {
                if matches!(frame, Frame::Scanned(_) | Frame::ScanEnd(_)) {
                    self.handed_out = Some(clock::thread_cpu_ns());
                }
                return Ok(Some(frame));
            }
            if self.ending == Ending::Over {
                return self.failure.take().map_or(Ok(None), Err);
            }
            self.end()?;
            if self.queue.is_empty() {
                self.wait().await?;
                if self.ending != Ending::Over {
                    self.drain()?;
                }
            }
        }
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) -> Result<()> {
        let now = clock::monotonic_ns();
        let due = self.next_drain.min(self.next_tick);
        let timer = tokio::time::sleep(Duration::from_nanos(due.saturating_sub(now)));
        tokio::select! {
            () = timer => {}
            filling = self.kernel.filling() => filling?,
            // While something waits, the scan does as well.
            answer = self.scanner.answer(), if self.found.is_none() => match answer {
                Ok(answer) => self.take(answer),
                // Without surveys the last one would never be over.
                Err(error) => {
                    self.failure = Some(error);
                    self.stop()?;
                }
            },
        }
        Ok(())
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Namespaces { paths, cost } => {
                let names = self.enricher.new_namespaces(namespaces::names(&paths));
                self.give_names(names);
                self.scheduler.listed(paths, cost);
                self.next_tick = 0;
            }
            Answer::SocketHolders { holders, cost } => {
                self.drain_ring();
                self.give(Frame::SocketHolders(holders));
                self.looked = true;
                self.scheduler.open_files_scanned(cost);
                self.next_tick = 0;
            }
            Answer::Sockets { sockets, by } => self.wait_for_older(Found::Sockets(sockets, by)),
            Answer::ScanDone { end, cost } => self.wait_for_older(Found::End(end, cost)),
        }
    }

    fn wait_for_older(&mut self, found: Found) {
        self.next_drain = found.time() + SUBMIT_DELAY;
        self.found = Some(found);
    }

    /// Moves what the ring holds to the queue, then what waited for that, then a tick if one is due.
    fn drain(&mut self) -> Result<()> {
        let begun = clock::monotonic_ns();
        self.drain_ring();
        self.next_drain = begun + DRAIN_PERIOD;

        match self.found.take() {
            Some(found) if begun < found.time() + SUBMIT_DELAY => self.wait_for_older(found),
            Some(Found::Sockets(sockets, _)) => self.give(Frame::Scanned(sockets)),
            Some(Found::End(end, cost)) => {
                self.scheduler.sockets_scanned(cost);
                self.queue.push_back(Frame::ScanEnd(end));
                self.next_tick = 0;
            }
            None => {}
        }
        if begun >= self.next_tick {
            self.tick()?;
        }
        Ok(())
    }

    /// Queues a frame, after the names of what it speaks of.
    fn give(&mut self, frame: Frame) {
        let names = self.enricher.names_in(&frame);
        self.give_names(names);
        self.queue.push_back(frame);
    }

    fn give_names(&mut self, names: Names) {
        if !names.is_empty() {
            self.queue.push_back(Frame::Names(names));
        }
    }

    fn drain_ring(&mut self) {
        while let Some(batch) = self.kernel.drain(BATCH_BYTES) {
            let is_last = batch.bytes.len() < BATCH_BYTES;
            self.delivered += batch.records;
            self.give(Frame::Events(batch.bytes));
            if is_last {
                break;
            }
        }
    }

    /// Counters are read when no record seems to be on its way, so that they agree with what was
    /// handed out.
    fn tick(&mut self) -> Result<()> {
        self.messages.extend(self.kernel.take_log());
        let mut counters = self.kernel.counters()?;
        for _ in 1..COUNTER_TRIES {
            let [seen, lost, filtered] = counters.totals();
            if seen == self.delivered + lost + filtered {
                break;
            }
            self.drain_ring();
            counters = self.kernel.counters()?;
        }
        let now = clock::monotonic_ns();
        let ports = self.kernel.new_port_counts()?;
        self.queue.push_back(Frame::Tick(Tick { time: now, counters, ports }));
        self.next_tick = now + TICK_PERIOD;
        Ok(())
    }

    /// Goes on towards the end, if it was asked for.
    fn end(&mut self) -> Result<()> {
        match self.ending {
            Ending::Asked if !self.can_scan() => self.stop()?,
            Ending::Asked => {
                // A round that goes on may have passed a namespace already: one more.
                let more = if self.scheduler.is_resting() { 1 } else { 2 };
                self.ending = Ending::Surveying(self.scheduler.rounds() + more);
                self.scheduler.hurry();
                self.next_tick = 0;
            }
            Ending::Surveying(rounds) if self.scheduler.rounds() >= rounds => self.stop()?,
            Ending::Surveying(_) if self.scheduler.is_resting() => {
                self.scheduler.hurry();
                self.next_tick = 0;
            }
            Ending::Surveying(_) | Ending::No | Ending::Over => {}
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.kernel.detach()?;
        // A program that was running when its hook went away gets time to submit its record.
        std::thread::sleep(Duration::from_nanos(SUBMIT_DELAY));
        self.drain_ring();
        self.tick()?;
        self.ending = Ending::Over;
        Ok(())
    }
}

fn describe(kernel: &Kernel, scanner: &SocketScanner, setup: Setup) -> Session {
    let mut session = session();
    session.clock =
        ClockAnchor { monotonic_ns: clock::monotonic_ns(), realtime_ns: clock::realtime_ns() };
    session.ring_bytes = setup.ring_bytes;
    session.filter = setup.filter;
    session.namespaces = namespaces::names(&namespaces::list());
    session.hooks = kernel.active_hooks().into_iter().map(str::to_owned).collect();
    session.coverage = kernel.coverage();
    // Without the extra ones a trace is as it can be on most hosts.
    let missing = kernel.refused_hooks().iter().filter_map(|hook| match hook.need {
        Need::Expected(without) => {
            Some(format!("no hook on {}: {without} ({})", hook.name, hook.error))
        }
        Need::Required | Need::Extra(_) => None,
    });
    session.limitations = missing.collect();
    if let Some(refusal) = scanner.refusal() {
        session.limitations.push(format!(
            "no survey: connections older than the trace, TIME_WAIT and queues are unknown ({refusal})"
        ));
    }
    if let Some(refusal) = scanner.open_files_refusal() {
        session.limitations.push(format!(
            "no look at open files: owners of sockets older than the trace, and of listeners that were handed on, are unknown ({refusal})"
        ));
    }
    session.limitations.extend(kernel.caveat().map(str::to_owned));
    session.limitations.extend(privileges::limitations());
    session
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames_to_the_end(
        live: &mut Live,
        asked_after: Option<usize>,
    ) -> (Vec<Frame>, anyhow::Error) {
        let mut frames = Vec::new();
        loop {
            if Some(frames.len()) == asked_after {
                live.finish();
            }
            match live.next().await {
                Ok(Some(frame)) => {
                    if matches!(frame, Frame::Tick(_)) {
                        live.plan_scans(&|_, _| true);
                    }
                    frames.push(frame);
                }
                Ok(None) => panic!("ended without an error"),
                Err(error) => return (frames, error),
            }
        }
    }

    /// Loads eBPF programs, so it needs root like the kernel tests.
    #[tokio::test]
    async fn a_survey_that_panics_ends_the_trace_and_is_reported() {
        for asked_after in [None, Some(1)] {
            let setup = Setup { tracepoints_only: true, ..Setup::default() };
            let mut live = Live::attach(setup, false).expect("the kernel tests run as root");
            live.scanner = SocketScanner::that_panics();

            let run = frames_to_the_end(&mut live, asked_after);
            let ended = tokio::time::timeout(Duration::from_secs(30), run).await;
            let (frames, error) = ended.expect("an end, though no survey will be over");
            assert!(error.to_string().contains("the survey's thread panicked"), "{error}");
            // What the hooks saw is complete.
            let Some(Frame::Tick(Tick { counters, .. })) = frames.last() else {
                panic!("the counters come last")
            };
            let [seen, lost, filtered] = counters.totals();
            assert_eq!(seen, live.delivered + lost + filtered);
            assert!(live.kernel.active_hooks().is_empty());
            assert!(matches!(live.next().await, Ok(None)));
        }
    }
}
