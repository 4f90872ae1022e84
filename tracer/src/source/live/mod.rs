//! The live kernel as a stream of frames.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use anyhow::Result;

use super::{
    NextFrame, Round, Source, Want,
    scan_schedule::{Plan, ScanScheduler},
    session,
};
use crate::{
    host::clock,
    kernel::{
        Kernel, Mark, Setup,
        iterators::{Answer, SocketScanner},
    },
    source::names::NameResolver,
    trace::{
        counters::{KERNEL_COUNTERS, Tick},
        ids::NetnsId,
        names::Names,
        recording::Frame,
        scan::{NamespaceList, ScanBegin},
        time::Nanos,
    },
};

/// Time between two drains of the ring buffer. The kernel side wakes synfin only if many records
/// wait, and records cost less in large batches than in small ones, between which the tracker's
/// data leaves the CPU caches.
const DRAIN_PERIOD: Nanos = 100 * MILLISECOND;

/// Maximum time between two ticks.
const TICK_PERIOD: Nanos = 250 * MILLISECOND;

/// Time until another drain if a program is still writing a record that is awaited.
const RETRY_PERIOD: Nanos = MILLISECOND / 10;

/// How long a record that a program is writing is awaited. It usually takes less than a microsecond,
/// but a hypervisor can suspend the CPU.
const LONGEST_WRITE: Nanos = 1000 * MILLISECOND;

/// Minimum time between two scans of open files for all sockets during the trace.
const ALL_HOLDERS_PERIOD: Nanos = 10_000 * MILLISECOND;

/// Maximum size of a batch of records.
const BATCH_BYTES: usize = 1 << 20;

/// How often the counters are read at most, if records arrive during each read.
const COUNTER_TRIES: usize = 8;

const MILLISECOND: Nanos = 1_000_000;

/// Traces the kernel of this host.
pub struct Live {
    kernel: Kernel,
    scanner: SocketScanner,
    scheduler: ScanScheduler,
    name_resolver: NameResolver,
    scan_always: bool,
    /// The kernel's counters as last returned.
    known_counters: HashMap<NetnsId, [u64; KERNEL_COUNTERS.len()]>,
    /// When open files were last scanned for the owners of all sockets; `None` if they were not.
    all_holders_known_at: Option<Nanos>,
    /// What the kernel side has logged.
    messages: Vec<String>,
    /// Frames to return.
    queue: VecDeque<Frame>,
    /// Number of records taken from the ring buffer.
    delivered: u64,
    next_drain: Nanos,
    next_tick: Nanos,
    /// Whether the last tick awaits scans.
    awaits_scans: bool,
    /// The answer of the scanner that waits for older records.
    held: Option<Held>,
    /// The mark of an answer that has waited too long.
    given_up: Option<Mark>,
    /// CPU time of this thread (nanoseconds) when a result of a scan was returned, to measure how
    /// long the consumer takes to apply it.
    applying_since: Option<Nanos>,
    ending: Ending,
    /// The error that ended the trace, if one did. Returned after the last frame.
    failure: Option<anyhow::Error>,
}

/// An answer of the scanner that waits until all older records have been returned.
struct Held {
    answer: Answer,
    /// Behind the older records.
    mark: Mark,
    /// The longest time to wait.
    until: Nanos,
}

/// Progress towards the end of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The end has not been requested.
    No,
    /// The end has been requested. The last scan has not been planned yet.
    Requested,
    /// The last scan is in progress. It is over when this many rounds are complete.
    Scanning(u64),
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
            self.ending = Ending::Requested;
            self.next_drain = 0;
        }
    }

    fn tick_at(&mut self, time: Nanos) {
        self.next_tick = self.next_tick.min(time);
    }

    fn end_interval_at(&mut self, time: Nanos) {
        self.scheduler.end_interval_at(time);
    }

    fn is_seeded(&self) -> bool {
        self.scheduler.rounds() > 0 || !self.can_scan()
    }

    fn plan_scans(&mut self, want: &dyn Fn(NetnsId, Round) -> Want) {
        if !self.can_scan() {
            return;
        }
        if self.scan_always {
            self.scheduler.hurry();
        }
        let now = clock::monotonic_ns();
        match self.scheduler.plan(now, want) {
            Plan::Rest
                if (self.scan_always || self.awaits_scans) && self.scheduler.is_resting() =>
            {
                self.next_tick = 0;
            }
            Plan::Rest => {}
            Plan::List => self.scanner.list(),
            Plan::ReadCounters(namespaces) => self.scanner.read_counters(namespaces),
            Plan::ScanOpenFiles if self.scanner.open_files_refusal().is_some() => {
                self.scheduler.open_files_scanned(0);
            }
            Plan::ScanOpenFiles => {
                let is_for_all = self.scans_all_open_files(now);
                self.scanner.scan_open_files(is_for_all);
                if is_for_all {
                    self.all_holders_known_at = Some(now);
                }
            }
            Plan::ScanSockets(netns, path) => {
                // Ordered before the scan, and after all records that have been returned.
                self.queue.push_back(Frame::ScanBegin(ScanBegin { netns, time: now }));
                self.scanner.scan_sockets(netns, path);
            }
        }
    }

    fn restart_scans(&mut self) {
        self.scheduler.restart();
        self.next_tick = 0;
        if let Ending::Scanning(rounds) = &mut self.ending {
            // The present round, and the restarted one.
            *rounds = (*rounds).max(self.scheduler.rounds() + 2);
        }
    }
}

impl Live {
    /// Attaches to the kernel. `scan_always`: scans follow each other without rest, for tests.
    ///
    /// # Errors
    ///
    /// The kernel refuses the programs: the error says why and what to do.
    pub fn attach(setup: Setup, scan_always: bool) -> Result<Self> {
        let (kernel, scanner) = Kernel::attach(&setup)?;
        let session = session::begin(&kernel, &scanner, setup);
        Ok(Self {
            kernel,
            scanner,
            scheduler: ScanScheduler::default(),
            name_resolver: NameResolver::new(),
            scan_always,
            known_counters: HashMap::new(),
            all_holders_known_at: None,
            messages: Vec::new(),
            queue: VecDeque::from([Frame::Session(Box::new(session))]),
            delivered: 0,
            next_drain: 0,
            next_tick: 0,
            awaits_scans: false,
            held: None,
            given_up: None,
            applying_since: None,
            ending: Ending::No,
            failure: None,
        })
    }

    fn can_scan(&self) -> bool {
        self.scanner.refusal().is_none()
    }

    /// Whether the next scan of open files is for all sockets: in the first round and the last one, after
    /// a restart, and now and then. Otherwise it is for listeners and CLOSE_WAIT only, because the
    /// first transition of a connection has its owner, and few are handed on to another process.
    fn scans_all_open_files(&self, now: Nanos) -> bool {
        self.scheduler.round() == Round::Full
            || self.ending != Ending::No
            || self.all_holders_known_at.is_none_or(|known| now >= known + ALL_HOLDERS_PERIOD)
    }

    async fn next_frame(&mut self) -> Result<Option<Frame>> {
        if let Some(before) = self.applying_since.take() {
            self.scheduler.spent(clock::thread_cpu_ns() - before);
        }
        loop {
            if let Some(frame) = self.queue.pop_front() {
                let is_of_scan = matches!(
                    frame,
                    Frame::Scanned(_)
                        | Frame::ScanEnd(_)
                        | Frame::Counters(_)
                        | Frame::SocketHolders(_)
                        | Frame::ListenerHolders(_)
                        | Frame::Namespaces(_)
                );
                if is_of_scan {
                    self.applying_since = Some(clock::thread_cpu_ns());
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

    /// Waits for a due drain or tick, a filling ring buffer, or an answer of the scanner.
    async fn wait(&mut self) -> Result<()> {
        let now = clock::monotonic_ns();
        let due = self.next_drain.min(self.next_tick);
        let timer = tokio::time::sleep(Duration::from_nanos(due.saturating_sub(now)));
        tokio::select! {
            () = timer => {}
            filling = self.kernel.filling() => filling?,
            // While an answer waits for older records, the scanner waits as well.
            answer = self.scanner.answer(), if self.held.is_none() => match answer {
                Ok(answer) => self.hold(answer),
                // Without a scanner, the last scan would never complete.
                Err(error) => {
                    self.failure = Some(error);
                    self.stop()?;
                }
            },
        }
        Ok(())
    }

    /// Keeps an answer until all records that are older have been returned. What they tell is part
    /// of what the scanner has seen.
    fn hold(&mut self, answer: Answer) {
        let until = clock::monotonic_ns() + LONGEST_WRITE;
        self.held = Some(Held { answer, mark: self.kernel.mark(), until });
    }

    /// Applies the answer that waits if nothing older is missing any more.
    fn release(&mut self, held: Held) {
        let is_awaited = |mark: &Mark| !self.kernel.has_drained(mark);
        if is_awaited(&held.mark) && !self.given_up.as_ref().is_some_and(is_awaited) {
            let now = clock::monotonic_ns();
            if now < held.until {
                self.next_drain = now + RETRY_PERIOD;
                self.held = Some(held);
                return;
            }
            self.messages.push(
                "a program of the kernel side has been writing an event for a second: until it is \
                 complete, later events are not seen, and scans show what they would have told"
                    .to_owned(),
            );
            self.given_up = Some(held.mark);
        }
        self.apply(held.answer);
    }

    fn apply(&mut self, answer: Answer) {
        match answer {
            Answer::Namespaces { listing, started, cost } => {
                let names = self.name_resolver.new_namespaces(&listing);
                self.queue_names(names);
                self.known_counters.retain(|netns, _| listing.namespaces.contains_key(netns));
                if listing.is_complete() {
                    let namespaces = listing.namespaces.keys().copied().collect();
                    let list = NamespaceList { time: started, namespaces };
                    self.queue.push_back(Frame::Namespaces(list));
                }
                self.scheduler.listed(listing.into_paths(), cost);
            }
            Answer::SocketHolders { holders, all, cost } => {
                match holders {
                    Ok(holders) if all => self.queue_frame(Frame::SocketHolders(holders)),
                    Ok(holders) => self.queue_frame(Frame::ListenerHolders(holders)),
                    // The holders stay as they were.
                    Err(error) => self.messages.push(format!("{error:#}")),
                }
                self.scheduler.open_files_scanned(cost);
            }
            Answer::Counters { counters, cost } => {
                self.scheduler.counters_read(cost);
                for read in counters {
                    let known = self.known_counters.insert(read.netns, read.counters.counts);
                    if known != Some(read.counters.counts) {
                        self.queue.push_back(Frame::Counters(read));
                    }
                }
            }
            // The scan is still in progress, so there is nothing to plan.
            Answer::Sockets(sockets) => return self.queue_frame(Frame::Scanned(sockets)),
            Answer::ScanDone { end, cost } => {
                self.scheduler.sockets_scanned(cost);
                if let Some(counters) = end.counters {
                    self.known_counters.insert(end.netns, counters.counts);
                }
                self.queue.push_back(Frame::ScanEnd(end));
            }
        }
        self.next_tick = 0;
    }

    /// Queues the records in the ring buffer, then the answer that waited for them, then a tick if
    /// one is due.
    fn drain(&mut self) -> Result<()> {
        let begun = clock::monotonic_ns();
        self.drain_ring();
        self.next_drain = begun + DRAIN_PERIOD;
        if let Some(held) = self.held.take() {
            self.release(held);
        }
        if begun >= self.next_tick {
            self.tick()?;
        }
        Ok(())
    }

    /// Queues a frame, preceded by the names of the cgroups in it.
    fn queue_frame(&mut self, frame: Frame) {
        let names = self.name_resolver.names_in(&frame);
        self.queue_names(names);
        self.queue.push_back(frame);
    }

    fn queue_names(&mut self, names: Names) {
        if !names.is_empty() {
            self.queue.push_back(Frame::Names(names));
        }
    }

    fn drain_ring(&mut self) {
        while let Some(batch) = self.kernel.drain(BATCH_BYTES) {
            let is_last = batch.bytes.len() < BATCH_BYTES;
            self.delivered += batch.records;
            self.queue_frame(Frame::Events(batch.bytes));
            if is_last {
                break;
            }
        }
    }

    /// Queues a tick. Reads the counters until no record is in flight, so that they agree with the
    /// records that were returned.
    fn tick(&mut self) -> Result<()> {
        self.messages.extend(self.kernel.take_log());
        // The records before what is counted here come first: they tell the inode number of a new
        // namespace.
        let ports = self.kernel.new_port_counts()?;
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
        let awaits_scans =
            self.ending == Ending::No && self.can_scan() && self.scheduler.completes_interval(now);
        self.awaits_scans = awaits_scans;
        self.queue.push_back(Frame::Tick(Tick { time: now, counters, ports, awaits_scans }));
        self.next_tick = now + TICK_PERIOD;
        Ok(())
    }

    /// Takes the next step towards the end, if it has been requested.
    fn end(&mut self) -> Result<()> {
        match self.ending {
            Ending::Requested if !self.can_scan() => self.stop()?,
            Ending::Requested => {
                // A round in progress may have scanned some namespaces already, so a whole one
                // follows.
                let more = if self.scheduler.is_resting() { 1 } else { 2 };
                self.ending = Ending::Scanning(self.scheduler.rounds() + more);
                self.scheduler.hurry_last();
                self.next_tick = 0;
            }
            Ending::Scanning(rounds) if self.scheduler.rounds() >= rounds => self.stop()?,
            Ending::Scanning(_) if self.scheduler.is_resting() => {
                self.scheduler.hurry();
                self.next_tick = 0;
            }
            Ending::Scanning(_) | Ending::No | Ending::Over => {}
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.kernel.detach()?;
        self.drain_to_the_end()?;
        self.tick()?;
        self.ending = Ending::Over;
        Ok(())
    }

    /// Queues all records after the hooks are detached, also those of programs that were running at
    /// that moment: a program first counts the event as seen.
    fn drain_to_the_end(&mut self) -> Result<()> {
        let until = clock::monotonic_ns() + LONGEST_WRITE;
        loop {
            self.drain_ring();
            if self.missing()? == 0 {
                return Ok(());
            }
            if clock::monotonic_ns() >= until {
                break;
            }
            std::thread::sleep(Duration::from_nanos(RETRY_PERIOD));
        }
        self.kernel.give_up_incomplete();
        self.drain_ring();
        let missing = self.missing()?;
        self.messages.push(format!(
            "{missing} events were not complete a second after the end of the trace, and are missing"
        ));
        Ok(())
    }

    /// How many records that a program has begun were neither drained nor lost.
    fn missing(&self) -> Result<u64> {
        let [seen, lost, filtered] = self.kernel.counters()?.totals();
        Ok(seen.saturating_sub(self.delivered + lost + filtered))
    }
}

#[cfg(test)]
mod tests;
