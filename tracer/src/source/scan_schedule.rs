//! When to scan which network namespace: in rounds over all of them, far enough apart to limit the
//! CPU time. Pure: the caller passes the time.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use super::{Round, Want};
use crate::trace::{ids::NetnsId, time::Nanos};

const SECOND: Nanos = 1_000_000_000;

/// Minimum time between the beginnings of two rounds.
const SHORTEST_PERIOD: Nanos = SECOND;

/// By how much the end of an interval may shorten that time, so that rounds keep pace with
/// intervals of the same length.
const PERIOD_SLACK: Nanos = SECOND / 10;

/// Maximum time that the end of an interval waits for the round that completes it.
const LONGEST_WAIT: Nanos = SECOND / 2;

/// The rounds take at most one part in this many of one CPU: half a percent.
const COST_DIVISOR: u64 = 200;

/// While rounds rest, namespaces are listed for at most one part in this many of one CPU. This delays
/// the next round, so that both together keep to [`COST_DIVISOR`].
const LISTING_COST_DIVISOR: u64 = 2 * COST_DIVISOR;

/// The next step of the scheduler.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Do nothing now.
    Rest,
    /// List the network namespaces.
    List,
    /// Read the kernel's counters of these network namespaces, which can be entered through these
    /// paths. What grows without a record is only worth a scan if one of them has grown.
    ReadCounters(Vec<(NetnsId, PathBuf)>),
    /// Scan the open files of all processes for the owners of sockets.
    ScanOpenFiles,
    /// Scan the sockets of a network namespace, which can be entered through this path.
    ScanSockets(NetnsId, PathBuf),
}

/// Plans the rounds, one step at a time.
#[derive(Debug, Default)]
pub(super) struct ScanScheduler {
    state: State,
    /// Start of the present round, or of the last one (CLOCK_MONOTONIC, nanoseconds); `None` before
    /// the first.
    started: Option<Nanos>,
    /// Earliest start of the next round by its cost.
    rest_until: Nanos,
    /// Start of the last listing of namespaces.
    listed: Nanos,
    /// Earliest start of the next listing while rounds rest: namespaces that are gone end, and new
    /// ones get their names, although the next round may be minutes away.
    next_listing: Nanos,
    /// Whether the next round is to start without delay.
    hurried: bool,
    /// End of the consumer's present interval, which a round is to complete; `None` if it has none.
    interval_end: Option<Nanos>,
    /// CPU time of this round so far, in nanoseconds.
    cost: Nanos,
    rounds: u64,
    /// Whether the next round is to be a full one.
    restart_requested: bool,
    /// The purpose of the present round.
    round: Round,
    /// Whether the next scan of open files does not need a namespace that has changed.
    wants_holders: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Resting,
    /// The namespaces are being listed, but not for a round.
    ListingBetweenRounds,
    Listing,
    /// The namespaces are listed.
    Listed(VecDeque<(NetnsId, PathBuf)>),
    /// The counters of some namespaces are being read.
    ReadingCounters(VecDeque<(NetnsId, PathBuf)>),
    /// The counters are read. Whether to scan open files is not decided yet.
    Counted(VecDeque<(NetnsId, PathBuf)>),
    /// The scan of open files is in progress.
    ScanningOpenFiles(VecDeque<(NetnsId, PathBuf)>),
    /// Network namespaces that this round has not scanned yet.
    Round(VecDeque<(NetnsId, PathBuf)>),
    /// The scan of a namespace is in progress; these follow.
    ScanningSockets(VecDeque<(NetnsId, PathBuf)>),
}

impl ScanScheduler {
    /// Number of completed rounds.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Whether no round is in progress.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting | State::ListingBetweenRounds)
    }

    /// Makes the next round start without delay, once the present one is over.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Makes the next round the last one, without delay: it scans open files even if no namespace has
    /// changed, because descriptors can be handed on without a change.
    pub(super) fn hurry_last(&mut self) {
        self.wants_holders = true;
        self.hurry();
    }

    /// Sets the end of the consumer's present interval. The next round waits for it if it is near.
    pub(super) fn end_interval_at(&mut self, time: Nanos) {
        self.interval_end = Some(time);
    }

    /// Whether an interval that is due at `now` is to wait for a round that completes it. Without
    /// a round, what the scans show of its last second would be part of the next interval.
    pub(super) fn completes_interval(&self, now: Nanos) -> bool {
        self.interval_end.is_some_and(|end| {
            let has_started = self.started.is_some_and(|started| started >= end);
            (end..end.saturating_add(LONGEST_WAIT)).contains(&now)
                && match (has_started, self.is_resting()) {
                    (true, is_resting) => !is_resting,
                    (false, true) => self.is_due(now),
                    // Another round follows the present one, which began too early.
                    (false, false) => self.hurried,
                }
        })
    }

    /// Whether a round may start.
    fn is_due(&self, now: Nanos) -> bool {
        let Some(started) = self.started.filter(|_| !self.hurried) else {
            return self.is_resting();
        };
        let next_round = started.saturating_add(SHORTEST_PERIOD);
        let is_late_enough = match self.interval_end {
            Some(end) if started < end && end <= now => now + PERIOD_SLACK >= next_round,
            Some(end) if now < end && end - now <= SHORTEST_PERIOD => false,
            Some(_) | None => now >= next_round,
        };
        self.is_resting() && now >= self.rest_until && is_late_enough
    }

    /// Makes the next round start once the present one is over, as if there had been none before.
    pub(super) fn restart(&mut self) {
        self.restart_requested = true;
        self.hurry();
    }

    /// The purpose of the present round.
    pub(super) fn round(&self) -> Round {
        self.round
    }

    /// The step to take at `now`. `want` says what in a namespace such a round should read.
    pub(super) fn plan(&mut self, now: Nanos, want: impl Fn(NetnsId, Round) -> Want) -> Plan {
        let round = self.round;
        let wants_holders = |netns| want(netns, round) == Want::SocketsAndHolders;
        let wants_sockets = |netns| wants_holders(netns) || want(netns, round) == Want::Sockets;
        let is_due = self.is_due(now);
        match std::mem::take(&mut self.state) {
            State::Resting if is_due => {
                self.state = State::Listing;
                self.listed = now;
                self.cost = 0;
                self.started = Some(now);
                self.hurried = false;
                let is_full = std::mem::take(&mut self.restart_requested);
                self.round = if is_full { Round::Full } else { Round::Update };
                Plan::List
            }
            State::Resting
                if self.rounds > 0 && (self.next_listing..self.rest_until).contains(&now) =>
            {
                self.state = State::ListingBetweenRounds;
                self.listed = now;
                Plan::List
            }
            State::Listed(rest) => {
                let counters = |(netns, _): &&(_, _)| want(*netns, self.round) == Want::Counters;
                let counters: Vec<_> = rest.iter().filter(counters).cloned().collect();
                if counters.is_empty() {
                    self.state = State::Counted(rest);
                    return self.plan(now, want);
                }
                self.state = State::ReadingCounters(rest);
                Plan::ReadCounters(counters)
            }
            // A namespace without transitions has no new sockets, and a scan of all open files costs
            // more than one of sockets. Owners are scanned first, so that they are known when the
            // scans find their sockets.
            State::Counted(rest)
                if self.wants_holders || rest.iter().any(|(netns, _)| wants_holders(*netns)) =>
            {
                self.wants_holders = false;
                self.state = State::ScanningOpenFiles(rest);
                Plan::ScanOpenFiles
            }
            State::Counted(mut rest) | State::Round(mut rest) => {
                while let Some((netns, path)) = rest.pop_front() {
                    if wants_sockets(netns) {
                        self.state = State::ScanningSockets(rest);
                        return Plan::ScanSockets(netns, path);
                    }
                }
                self.rounds += 1;
                self.rest_until = now + self.cost * COST_DIVISOR;
                Plan::Rest
            }
            state => {
                self.state = state;
                Plan::Rest
            }
        }
    }

    /// Completes [`Plan::List`], which took `cost` nanoseconds of CPU time.
    pub(super) fn listed(&mut self, namespaces: BTreeMap<NetnsId, PathBuf>, cost: Nanos) {
        self.next_listing = self.listed + SHORTEST_PERIOD.max(cost * LISTING_COST_DIVISOR);
        if let State::ListingBetweenRounds = self.state {
            self.state = State::Resting;
            self.rest_until += cost * COST_DIVISOR;
            return;
        }
        self.cost += cost;
        self.state = State::Listed(namespaces.into_iter().collect());
    }

    /// Completes [`Plan::ReadCounters`], which took `cost` nanoseconds of CPU time.
    pub(super) fn counters_read(&mut self, cost: Nanos) {
        self.cost += cost;
        if let State::ReadingCounters(rest) = std::mem::take(&mut self.state) {
            self.state = State::Counted(rest);
        }
    }

    /// Adds the CPU time that it took to apply results, in nanoseconds.
    pub(super) fn spent(&mut self, cost: Nanos) {
        self.cost += cost;
    }

    /// Completes [`Plan::ScanOpenFiles`], which took `cost` nanoseconds of CPU time.
    pub(super) fn open_files_scanned(&mut self, cost: Nanos) {
        self.cost += cost;
        if let State::ScanningOpenFiles(rest) = std::mem::take(&mut self.state) {
            self.state = State::Round(rest);
        }
    }

    /// Completes [`Plan::ScanSockets`], which took `cost` nanoseconds of CPU time.
    pub(super) fn sockets_scanned(&mut self, cost: Nanos) {
        self.cost += cost;
        if let State::ScanningSockets(rest) = std::mem::take(&mut self.state) {
            self.state = State::Round(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(ids: &[NetnsId]) -> BTreeMap<NetnsId, PathBuf> {
        ids.iter().map(|&id| (id, PathBuf::new())).collect()
    }

    fn sockets_if(wanted: bool) -> Want {
        if wanted { Want::SocketsAndHolders } else { Want::Nothing }
    }

    #[test]
    fn a_round_scans_wanted_namespaces_and_rests_in_proportion() {
        let mut scheduler = ScanScheduler::default();
        let wanted = |netns, _| sockets_if(netns != 2);
        assert_eq!(scheduler.plan(0, wanted), Plan::List);
        assert_eq!(scheduler.plan(1, wanted), Plan::Rest);
        scheduler.listed(namespaces(&[1, 2, 3]), SECOND / 20);
        assert_eq!(scheduler.plan(2, wanted), Plan::ScanOpenFiles);
        assert_eq!(scheduler.plan(2, wanted), Plan::Rest);
        scheduler.open_files_scanned(SECOND / 20);
        assert_eq!(scheduler.plan(2, wanted), Plan::ScanSockets(1, PathBuf::new()));
        assert_eq!(scheduler.plan(3, wanted), Plan::Rest);
        scheduler.sockets_scanned(SECOND / 10);
        assert_eq!(scheduler.plan(4, wanted), Plan::ScanSockets(3, PathBuf::new()));
        scheduler.sockets_scanned(SECOND / 10);
        assert_eq!(scheduler.plan(5, wanted), Plan::Rest);
        assert_eq!((scheduler.rounds(), scheduler.is_resting()), (1, true));
        assert_eq!(scheduler.plan(59 * SECOND, |_, _| Want::Nothing), Plan::List);
    }

    #[test]
    fn namespaces_are_listed_while_rounds_rest() {
        const MS: Nanos = SECOND / 1000;
        let mut scheduler = ScanScheduler::default();
        assert_eq!(scheduler.plan(0, |_, _| Want::SocketsAndHolders), Plan::List);
        scheduler.listed(namespaces(&[1]), 0);
        assert_eq!(scheduler.plan(0, |_, _| Want::SocketsAndHolders), Plan::ScanOpenFiles);
        // A round of 50 ms is followed by 10 s of rest.
        scheduler.open_files_scanned(50 * MS);
        assert_eq!(scheduler.plan(0, |_, _| Want::Nothing), Plan::Rest);
        let wanted = |_, _| Want::Nothing;
        for (now, cost) in [(SECOND, 5 * MS), (3 * SECOND, 0), (4 * SECOND, 5 * MS)] {
            assert_eq!(scheduler.plan(now - 1, wanted), Plan::Rest);
            assert_eq!(scheduler.plan(now, wanted), Plan::List);
            assert_eq!(scheduler.plan(now + 1, wanted), Plan::Rest);
            assert!(scheduler.is_resting());
            scheduler.listed(namespaces(&[1]), cost);
        }
        // The two listings of 5 ms delay the next round by a second each.
        assert_eq!(scheduler.plan(12 * SECOND - 1, wanted), Plan::List);
        assert!(scheduler.is_resting());
        scheduler.listed(namespaces(&[1]), 0);
        assert_eq!(scheduler.plan(12 * SECOND, wanted), Plan::List);
        assert!(!scheduler.is_resting());
        assert_eq!(scheduler.rounds(), 1);
    }

    #[test]
    fn a_hurried_round_starts_without_rest() {
        let mut scheduler = ScanScheduler::default();
        assert_eq!(scheduler.plan(SECOND, |_, _| Want::Nothing), Plan::List);
        scheduler.listed(namespaces(&[]), 0);
        assert_eq!(scheduler.plan(SECOND, |_, _| Want::Nothing), Plan::Rest);
        assert_eq!(scheduler.plan(SECOND, |_, _| Want::Nothing), Plan::Rest);
        scheduler.hurry();
        assert_eq!(scheduler.plan(SECOND, |_, _| Want::Nothing), Plan::List);
    }

    #[test]
    fn the_last_round_scans_open_files_though_nothing_has_changed() {
        let mut scheduler = ScanScheduler::default();
        scheduler.hurry_last();
        assert_eq!(scheduler.plan(SECOND, |_, _| Want::Nothing), Plan::List);
        scheduler.listed(namespaces(&[1]), 0);
        assert_eq!(scheduler.plan(SECOND, |_, _| Want::Nothing), Plan::ScanOpenFiles);
        scheduler.open_files_scanned(0);
        assert_eq!(scheduler.plan(SECOND, |_, _| Want::Nothing), Plan::Rest);
        assert_eq!((scheduler.rounds(), scheduler.is_resting()), (1, true));
    }

    #[test]
    fn a_restarted_round_scans_all_namespaces_once() {
        let mut scheduler = ScanScheduler::default();
        let wanted = |_, round| sockets_if(round == Round::Full);
        assert_eq!(scheduler.plan(SECOND, wanted), Plan::List);
        // A restart during a round does not change that round.
        scheduler.restart();
        scheduler.listed(namespaces(&[1]), SECOND);
        assert_eq!(scheduler.plan(SECOND, wanted), Plan::Rest);
        assert_eq!(scheduler.plan(SECOND, wanted), Plan::List);
        scheduler.listed(namespaces(&[1]), 0);
        assert_eq!(
            (scheduler.plan(SECOND, wanted), scheduler.round()),
            (Plan::ScanOpenFiles, Round::Full)
        );
        scheduler.open_files_scanned(0);
        assert_eq!(scheduler.plan(SECOND, wanted), Plan::ScanSockets(1, PathBuf::new()));
        scheduler.sockets_scanned(0);
        assert_eq!(scheduler.plan(SECOND, wanted), Plan::Rest);
        assert_eq!(scheduler.plan(3 * SECOND, wanted), Plan::List);
        scheduler.listed(namespaces(&[1]), 0);
        assert_eq!(scheduler.plan(3 * SECOND, wanted), Plan::Rest);
    }

    #[test]
    fn a_namespace_whose_counters_have_grown_is_scanned_in_the_same_round() {
        let mut scheduler = ScanScheduler::default();
        let before = |netns, _| if netns < 3 { Want::Counters } else { Want::Nothing };
        // Its counters say nothing about who holds its sockets.
        let after = |netns, _| if netns == 2 { Want::Sockets } else { Want::Nothing };
        assert_eq!(scheduler.plan(0, before), Plan::List);
        scheduler.listed(namespaces(&[1, 2, 3]), SECOND / 1000);
        let read = [1, 2].map(|netns| (netns, PathBuf::new())).to_vec();
        assert_eq!(scheduler.plan(1, before), Plan::ReadCounters(read));
        assert_eq!(scheduler.plan(2, after), Plan::Rest);
        assert!(!scheduler.is_resting());
        scheduler.counters_read(SECOND / 100);
        assert_eq!(scheduler.plan(4, after), Plan::ScanSockets(2, PathBuf::new()));
        scheduler.sockets_scanned(0);
        assert_eq!(scheduler.plan(5, after), Plan::Rest);
        // The counters have their part in the cost: 11 ms.
        assert_eq!(scheduler.plan(2_199_000_000, before), Plan::List);
        assert!(scheduler.is_resting(), "only a listing");
        scheduler.listed(namespaces(&[1, 2, 3]), 0);
        assert_eq!(scheduler.plan(2_201_000_000, before), Plan::List);
        assert!(!scheduler.is_resting());
    }

    /// Runs a round of this cost that begins at `now`.
    fn round(scheduler: &mut ScanScheduler, now: Nanos, cost: Nanos) {
        assert_eq!(scheduler.plan(now, |_, _| Want::Nothing), Plan::List);
        scheduler.listed(namespaces(&[]), cost);
        assert_eq!(scheduler.plan(now, |_, _| Want::Nothing), Plan::Rest);
        assert!(scheduler.is_resting());
    }

    #[test]
    fn a_round_completes_each_interval_that_it_can_afford() {
        const LAG: Nanos = SECOND / 1000;
        let mut scheduler = ScanScheduler::default();
        // The first round waits for nothing.
        scheduler.end_interval_at(SECOND);
        round(&mut scheduler, LAG, 0);
        for second in 1..4 {
            let end = second * SECOND;
            scheduler.end_interval_at(end);
            assert_eq!(scheduler.plan(end - LAG, |_, _| Want::Nothing), Plan::Rest);
            assert!(!scheduler.completes_interval(end - LAG));
            assert!(scheduler.completes_interval(end + second * LAG), "{second}");
            round(&mut scheduler, end + second * LAG, 0);
            assert!(!scheduler.completes_interval(end + second * LAG + 1));
        }
        // A round that is too expensive for every interval completes every second one.
        scheduler.end_interval_at(4 * SECOND);
        round(&mut scheduler, 4 * SECOND, 6 * LAG);
        scheduler.end_interval_at(5 * SECOND);
        assert!(!scheduler.completes_interval(5 * SECOND));
        scheduler.end_interval_at(6 * SECOND);
        assert_eq!(scheduler.plan(5 * SECOND + 300 * LAG, |_, _| Want::Nothing), Plan::Rest);
        round(&mut scheduler, 6 * SECOND, 0);
    }

    #[test]
    fn the_end_of_an_interval_does_not_wait_for_ever() {
        let mut scheduler = ScanScheduler::default();
        round(&mut scheduler, 0, 0);
        let end = 2 * SECOND;
        scheduler.end_interval_at(end);
        assert_eq!(scheduler.plan(end, |_, _| Want::Nothing), Plan::List);
        assert!(scheduler.completes_interval(end + LONGEST_WAIT - 1));
        assert!(!scheduler.completes_interval(end + LONGEST_WAIT));
        // A round that began before the end does not complete the interval.
        scheduler.end_interval_at(end + 1);
        assert!(!scheduler.completes_interval(end + 1));
        scheduler.hurry();
        assert!(scheduler.completes_interval(end + 1));
    }

    #[test]
    fn long_intervals_do_not_delay_rounds() {
        let mut scheduler = ScanScheduler::default();
        round(&mut scheduler, 0, 0);
        scheduler.end_interval_at(10 * SECOND);
        round(&mut scheduler, SECOND, 0);
        round(&mut scheduler, 8 * SECOND, 0);
        assert_eq!(scheduler.plan(9 * SECOND, |_, _| Want::Nothing), Plan::Rest);
        round(&mut scheduler, 10 * SECOND, 0);
    }
}
