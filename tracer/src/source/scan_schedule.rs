//! When to scan which network namespace: in rounds over all of them, far enough apart to limit the
//! CPU time. Pure: the caller passes the time.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use super::Round;
use crate::trace::{ids::NetnsId, time::Nanos};

const SECOND: Nanos = 1_000_000_000;

/// Minimum time between the beginnings of two rounds.
const SHORTEST_PERIOD: Nanos = SECOND;

/// The rounds take at most one part in this many of one CPU: half a percent.
const COST_DIVISOR: u64 = 200;

/// The next step of the scheduler.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Do nothing now.
    Rest,
    /// List the network namespaces.
    List,
    /// Scan the open files of all processes for the owners of sockets.
    ScanOpenFiles,
    /// Scan the sockets of a network namespace, which can be entered through this path.
    ScanSockets(NetnsId, PathBuf),
}

/// Plans the rounds, one step at a time.
#[derive(Debug, Default)]
pub(super) struct ScanScheduler {
    state: State,
    /// Earliest start of the next round (CLOCK_MONOTONIC, nanoseconds).
    next_round: Nanos,
    /// CPU time of this round so far, in nanoseconds.
    cost: Nanos,
    rounds: u64,
    /// Whether the next round is to be a full one.
    restart_requested: bool,
    /// The purpose of the present round.
    round: Round,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Resting,
    Listing,
    /// The namespaces are listed. Whether to scan open files is not decided yet.
    Listed(VecDeque<(NetnsId, PathBuf)>),
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
        matches!(self.state, State::Resting)
    }

    /// Makes the next round start without delay, once the present one is over.
    pub(super) fn hurry(&mut self) {
        self.next_round = 0;
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

    /// The step to take at `now`. `wanted` says whether a scan of a namespace in such a round
    /// could find anything.
    pub(super) fn plan(&mut self, now: Nanos, wanted: impl Fn(NetnsId, Round) -> bool) -> Plan {
        match std::mem::take(&mut self.state) {
            State::Resting if now >= self.next_round => {
                self.state = State::Listing;
                self.cost = 0;
                self.next_round = now + SHORTEST_PERIOD;
                let is_full = std::mem::take(&mut self.restart_requested);
                self.round = if is_full { Round::Full } else { Round::Update };
                Plan::List
            }
            // A namespace without activity has no new sockets. Owners are scanned first, so that
            // they are known when the scans find their sockets.
            State::Listed(rest) if rest.iter().any(|(netns, _)| wanted(*netns, self.round)) => {
                self.state = State::ScanningOpenFiles(rest);
                Plan::ScanOpenFiles
            }
            State::Listed(mut rest) | State::Round(mut rest) => {
                while let Some((netns, path)) = rest.pop_front() {
                    if wanted(netns, self.round) {
                        self.state = State::ScanningSockets(rest);
                        return Plan::ScanSockets(netns, path);
                    }
                }
                self.rounds += 1;
                if !self.restart_requested {
                    self.next_round = self.next_round.max(now + self.cost * COST_DIVISOR);
                }
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
        self.cost += cost;
        self.state = State::Listed(namespaces.into_iter().collect());
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

    #[test]
    fn a_round_scans_wanted_namespaces_and_rests_in_proportion() {
        let mut scheduler = ScanScheduler::default();
        let wanted = |netns, _| netns != 2;
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
        assert_eq!(scheduler.plan(59 * SECOND, wanted), Plan::Rest);
        assert_eq!(scheduler.plan(61 * SECOND, wanted), Plan::List);
    }

    #[test]
    fn a_hurried_round_starts_without_rest() {
        let mut scheduler = ScanScheduler::default();
        assert_eq!(scheduler.plan(SECOND, |_, _| false), Plan::List);
        scheduler.listed(namespaces(&[]), 0);
        assert_eq!(scheduler.plan(SECOND, |_, _| false), Plan::Rest);
        assert_eq!(scheduler.plan(SECOND, |_, _| false), Plan::Rest);
        scheduler.hurry();
        assert_eq!(scheduler.plan(SECOND, |_, _| false), Plan::List);
    }

    #[test]
    fn a_restarted_round_scans_all_namespaces_once() {
        let mut scheduler = ScanScheduler::default();
        let wanted = |_, round| round == Round::Full;
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
}
