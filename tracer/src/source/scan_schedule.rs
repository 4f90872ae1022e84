//! When to scan which namespace: rounds over all of them, so far apart that they cost next to
//! nothing. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use crate::trace::{ids::NetnsId, time::Nanos};

const SECOND: Nanos = 1_000_000_000;

/// Rounds begin at least this far apart.
const SHORTEST_PERIOD: Nanos = SECOND;

/// All rounds together take at most this part of one CPU, half a percent.
const COST_DIVISOR: u64 = 200;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing now.
    Rest,
    /// Find out which namespaces there are.
    List,
    /// Find out who holds which sockets.
    ScanOpenFiles,
    /// Walk one.
    ScanSockets(NetnsId, PathBuf),
}

/// Plans the rounds.
#[derive(Debug, Default)]
pub(super) struct ScanScheduler {
    state: State,
    /// When the next round may begin.
    next_round: Nanos,
    /// What this round has cost.
    cost: Nanos,
    rounds: u64,
    /// One is asked for that begins anew.
    anew: bool,
    /// This one does.
    is_anew: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Resting,
    Listing,
    /// The namespaces are known; whether a look is worth it is not.
    Listed(VecDeque<(NetnsId, PathBuf)>),
    /// A look goes on.
    Looking(VecDeque<(NetnsId, PathBuf)>),
    /// Namespaces that this round has still to look at.
    Round(VecDeque<(NetnsId, PathBuf)>),
    /// A scan goes on.
    Walking(VecDeque<(NetnsId, PathBuf)>),
}

impl ScanScheduler {
    /// How many rounds are over.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Whether nothing is asked for or left to do in this round.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting)
    }

    /// Begins a round as soon as the present one is over.
    pub(super) fn hurry(&mut self) {
        self.next_round = 0;
    }

    /// The next round begins as soon as the present one is over, and as if there had been none
    /// before.
    pub(super) fn restart(&mut self) {
        self.anew = true;
        self.hurry();
    }

    /// Whether this round is as if there had been none before.
    pub(super) fn restarted(&self) -> bool {
        self.is_anew
    }

    /// What to do now. `wanted` tells whether a scan could show anything new, or, in a round that
    /// begins anew, anything at all.
    pub(super) fn plan(&mut self, now: Nanos, wanted: impl Fn(NetnsId, bool) -> bool) -> Plan {
        match std::mem::take(&mut self.state) {
            State::Resting if now >= self.next_round => {
                self.state = State::Listing;
                self.cost = 0;
                self.next_round = now + SHORTEST_PERIOD;
                self.is_anew = std::mem::take(&mut self.anew);
                Plan::List
            }
            // Where nothing has happened, nobody has a new socket. Owners come first, for what
            // the scans will meet.
            State::Listed(rest) if rest.iter().any(|(netns, _)| wanted(*netns, self.is_anew)) => {
                self.state = State::Looking(rest);
                Plan::ScanOpenFiles
            }
            State::Listed(mut rest) | State::Round(mut rest) => {
                while let Some((netns, path)) = rest.pop_front() {
                    if wanted(netns, self.is_anew) {
                        self.state = State::Walking(rest);
                        return Plan::ScanSockets(netns, path);
                    }
                }
                self.rounds += 1;
                if !self.anew {
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

    /// Takes the answer to [`Plan::List`].
    pub(super) fn listed(&mut self, namespaces: BTreeMap<NetnsId, PathBuf>, cost: Nanos) {
        self.cost += cost;
        self.state = State::Listed(namespaces.into_iter().collect());
    }

    /// Takes note of what it took to take in what was found.
    pub(super) fn spent(&mut self, cost: Nanos) {
        self.cost += cost;
    }

    /// Takes note that the look is over.
    pub(super) fn open_files_scanned(&mut self, cost: Nanos) {
        self.cost += cost;
        if let State::Looking(rest) = std::mem::take(&mut self.state) {
            self.state = State::Round(rest);
        }
    }

    /// Takes note that the scan is over and applied.
    pub(super) fn sockets_scanned(&mut self, cost: Nanos) {
        self.cost += cost;
        if let State::Walking(rest) = std::mem::take(&mut self.state) {
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
    fn a_round_walks_what_is_wanted_and_then_rests_in_proportion() {
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
    fn in_a_hurry_it_does_not_rest() {
        let mut scheduler = ScanScheduler::default();
        assert_eq!(scheduler.plan(SECOND, |_, _| false), Plan::List);
        scheduler.listed(namespaces(&[]), 0);
        assert_eq!(scheduler.plan(SECOND, |_, _| false), Plan::Rest);
        assert_eq!(scheduler.plan(SECOND, |_, _| false), Plan::Rest);
        scheduler.hurry();
        assert_eq!(scheduler.plan(SECOND, |_, _| false), Plan::List);
    }

    #[test]
    fn a_round_that_begins_anew_goes_everywhere_once() {
        let mut scheduler = ScanScheduler::default();
        let wanted = |_, is_anew| is_anew;
        assert_eq!(scheduler.plan(SECOND, wanted), Plan::List);
        // Asked for while another goes on: that one is finished as it was begun.
        scheduler.restart();
        scheduler.listed(namespaces(&[1]), SECOND);
        assert_eq!(scheduler.plan(SECOND, wanted), Plan::Rest);
        assert_eq!(scheduler.plan(SECOND, wanted), Plan::List);
        scheduler.listed(namespaces(&[1]), 0);
        assert_eq!(
            (scheduler.plan(SECOND, wanted), scheduler.restarted()),
            (Plan::ScanOpenFiles, true)
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
