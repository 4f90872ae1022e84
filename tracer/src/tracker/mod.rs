//! Aggregates socket events and scans into per-port statistics. The tracker is pure: it has no
//! clock, no I/O, no locks and no logging, and equal input gives equal results.
//!
//! Invariants of each row and of their sum, however many events are lost:
//!
//! - attempts = pending + failed + established + discarded
//! - established + adopted = open + closed
//! - `failed` and `closed` are the sums of their own reasons
//! - established = clean + retransmitted + unmeasured handshakes
//!
//! (Over an interval, connections pending or open at its start are added on the left.)
//!
//! [`Tracker`] is the facade; the modules beside it define one data type each; `apply` contains the
//! methods of the tracker for each kind of input.

use std::{sync::Arc, vec::Drain};

mod accept_fifo;
mod apply;
mod change;
pub(crate) mod classify;
mod client_ports;
mod closed_ports;
mod common;
mod connection;
mod connections;
mod counters;
mod current_interval;
mod early_time_waits;
mod endpoints;
mod ephemeral;
mod events;
mod filter_evidence;
mod gauges;
mod handshake;
mod histogram;
mod holders;
mod last_minute;
mod limits;
mod listener_drops;
mod listener_gap;
mod listeners;
mod namespaces;
mod oldest;
mod owners;
mod ownership;
mod past_activity;
mod pending_close;
mod port_pools;
mod recent_transitions;
mod record_counts;
mod report_rows;
mod row;
mod row_key;
mod row_stats;
mod rows;
mod scan;
mod segments;
mod served;
mod snapshot;
mod socket_key;
mod subflows;
mod time_wait;
mod time_wait_rows;
mod time_wait_tables;
mod traffic;
mod unconfirmed_time_waits;
mod undecided;

pub use accept_fifo::{InferredAccept, Unaccepted};
use change::Changes;
pub use change::{Change, ChangeKinds, Closed};
use closed_ports::ClosedPorts;
pub use common::Common;
pub use connection::{Connection, Origin};
use connections::Connections;
pub use counters::{ClosedFirst, Counters, IDLE_ENDS};
use current_interval::CurrentInterval;
pub use ephemeral::Ephemeral;
pub use events::Events;
pub use gauges::{Gauges, ScanGauges};
pub use histogram::LatencyHistogram;
use holders::SocketOwners;
pub(crate) use last_minute::LastMinute;
pub use limits::Limits;
use listener_drops::ListenerDrops;
pub use listener_gap::ListenerUptime;
use listeners::Listeners;
use namespaces::Namespaces;
pub use oldest::{LINGERING_STATES, LONG, Oldest};
use owners::ProcessNames;
pub use owners::{Label, Owner};
use pending_close::PendingCloses;
use recent_transitions::RecentTransitions;
use record_counts::RecordCounts;
pub use report_rows::{RowIdentity, RowName, RowSnapshot};
pub use row_key::RowKey;
pub use row_stats::RowStats;
use rows::Rows;
pub use segments::Segments;
pub use snapshot::{ScanCoverage, Snapshot, Tables};
use time_wait_tables::TimeWaitTables;
pub use traffic::ScannedTraffic;
use traffic::TrafficTable;
use undecided::UndecidedSockets;

use crate::{
    tcp::{
        coverage::Coverage,
        handshake::{Handshake, Unmeasured},
        transition::TransitionKind,
    },
    trace::{
        counters::Tick,
        event::Input,
        filter::Filter,
        ids::{MptcpId, NetnsId, NetnsInode, SockId},
        recent::Recent,
        time::Nanos,
    },
};

/// The handshake of a connection whose transition to ESTABLISHED was lost.
const EVIDENCE_LOST: Handshake = Handshake::Unmeasured(Unmeasured::EvidenceLost);

/// Maximum time for which records of a connection whose beginning was not observed wait for a scan
/// that can decide its role.
const SCAN_WAIT: Nanos = 10_000_000_000;

/// Maximum number of MPTCP connections whose owners are kept for subflows that join later.
const MPTCP_OWNERS_LIMIT: usize = 1 << 16;

/// Aggregates socket events into per-port statistics.
pub struct Tracker {
    connections: Connections,
    rows: Rows,
    listeners: Listeners,
    listener_drops: ListenerDrops,
    undecided: UndecidedSockets,
    coverage: Coverage,
    /// Whether the filters keep whole accept queues, so that waits for accept() can be inferred.
    keeps_accept_queues: bool,
    names: ProcessNames,
    socket_owners: SocketOwners,
    /// Processes that connected MPTCP sockets recently, whether the filters admit them or not.
    mptcp_owners: Recent<MptcpId, Arc<Owner>>,
    time_waits: TimeWaitTables,
    pending_closes: PendingCloses,
    closed_ports: ClosedPorts,
    /// The running scan. Methods that apply its findings take it out while they run.
    scan: Option<Box<scan::SocketScan>>,
    scans: u32,
    /// Number of scans of all open files.
    holder_scans: u32,
    namespaces: Namespaces,
    now: Nanos,
    /// Closes up to this time are classified: no more evidence about them can arrive.
    classified_until: Nanos,
    interval: CurrentInterval,
    /// Whether a snapshot had a row.
    has_reported: bool,
    records: RecordCounts,
    recent_transitions: RecentTransitions,
    changes: Changes,
    /// The traffic of open connections; `None`: it is not kept.
    traffic: Option<TrafficTable>,
}

impl Tracker {
    /// An empty tracker whose first interval begins at `start` (CLOCK_MONOTONIC, nanoseconds).
    pub fn new(limits: Limits, start: Nanos) -> Self {
        Self {
            connections: Connections::new(limits.connections),
            rows: Rows::new(limits.rows),
            listeners: Listeners::default(),
            listener_drops: ListenerDrops::default(),
            undecided: UndecidedSockets::default(),
            coverage: Coverage::default(),
            keeps_accept_queues: true,
            names: ProcessNames::default(),
            socket_owners: SocketOwners::default(),
            mptcp_owners: Recent::new(MPTCP_OWNERS_LIMIT),
            time_waits: TimeWaitTables::default(),
            pending_closes: PendingCloses::default(),
            closed_ports: ClosedPorts::default(),
            scan: None,
            scans: 0,
            holder_scans: 0,
            namespaces: Namespaces::default(),
            now: start,
            classified_until: 0,
            interval: CurrentInterval::begin(start, Events::default()),
            has_reported: false,
            records: RecordCounts::default(),
            recent_transitions: RecentTransitions::default(),
            changes: Changes::default(),
            traffic: None,
        }
    }

    /// Filters connections: only those that all of these filters admit are tracked.
    #[must_use]
    pub fn with_filters(self, filters: Vec<Filter>) -> Self {
        let keeps_accept_queues = filters.iter().all(Filter::keeps_accept_queues);
        Self { undecided: UndecidedSockets::new(filters), keeps_accept_queues, ..self }
    }

    /// Sets which optional hooks the input comes from.
    #[must_use]
    pub fn with_coverage(self, coverage: Coverage) -> Self {
        Self { coverage, ..self }
    }

    /// Sets which changes [`Tracker::drain_changes`] returns; the default is none.
    #[must_use]
    pub fn with_changes(self, kinds: ChangeKinds) -> Self {
        Self { changes: Changes::new(kinds), ..self }
    }

    /// Keeps what scans find of the traffic of open connections.
    #[must_use]
    pub fn with_traffic(self) -> Self {
        Self { traffic: Some(TrafficTable::default()), ..self }
    }

    /// Takes the changes since the last call, in order. Changes are buffered until then, so a
    /// consumer that selected any should call this after each frame.
    pub fn drain_changes(&mut self) -> Drain<'_, Change> {
        self.changes.drain()
    }

    /// Applies one input. Inputs must arrive in the order in which the decoder yields them.
    ///
    /// Applying one input can apply earlier records too: records of a socket are held until the
    /// filters and the role can be decided, see `apply/filter.rs`.
    pub fn apply(&mut self, input: &Input) {
        match input {
            Input::Transition(transition) => {
                self.count_record(transition.time);
                if self.recent_transitions.repeats(transition) {
                    self.records.repeated += 1;
                    return;
                }
                self.namespaces.note_change(transition.netns, transition.time);
                let is_decided = self.undecided.admits_everything()
                    && self.undecided.is_empty()
                    && (self.is_tracked(transition)
                        || TransitionKind::of(transition.old, transition.new).is_beginning()
                            && !transition.is_restored());
                if let Some(opening) = &transition.opening {
                    self.learn_inode(transition.netns, opening.netns_inode);
                }
                self.classify_previous(transition.sock);
                self.note_mptcp_owner(transition);
                if is_decided {
                    self.transition(transition);
                } else {
                    self.filter_transition(transition);
                }
            }
            Input::Reset(reset) => {
                self.count_record(reset.time);
                self.apply_reset(reset);
            }
            Input::TimeWaitEntry(entry) => {
                self.count_record(entry.time);
                self.apply_time_wait_entry(entry);
            }
            Input::TimeWaitChange(change) => {
                self.count_record(change.time);
                self.apply_time_wait_change(change);
            }
            Input::Accepted(accepted) => {
                self.count_record(accepted.time);
                self.apply_accepted(accepted);
            }
            Input::SocketHolders(holders) => {
                self.holder_scans += 1;
                self.apply_socket_holders(holders, true);
            }
            Input::ListenerHolders(holders) => self.apply_socket_holders(holders, false),
            Input::Names(names) => self.apply_names(names),
            Input::Namespaces(list) => self.apply_namespace_list(list),
            Input::ScanBegin(begin) => self.begin_scan(begin),
            Input::ScannedSocket(socket) => self.apply_scanned_socket(socket),
            Input::ScannedTimeWait(time_wait) => self.apply_scanned_time_wait(time_wait),
            Input::ScanEnd(end) => self.end_scan(end),
            Input::KernelCounters(read) => self.apply_kernel_counters(read),
            Input::Tick(tick) => self.tick(tick),
            Input::UnreadableRecord => {
                self.records.received += 1;
                self.records.unreadable += 1;
            }
            Input::UnreadableScan => self.mark_scan_incomplete(),
        }
        self.classify_until(self.classified_until);
    }

    fn tick(&mut self, tick: &Tick) {
        self.now = self.now.max(tick.time);
        self.records.on_tick(&tick.counters);
        self.record_port_counts(&tick.ports);
        self.settle_all(|_, seen| seen.saturating_add(SCAN_WAIT) <= tick.time);
        // While records are in flight, a tick can be newer than these.
        if self.records.is_caught_up() {
            let classified = tick.time.saturating_sub(pending_close::WAIT);
            self.classified_until = self.classified_until.max(classified);
        }
    }

    /// Counts a record with this kernel time.
    fn count_record(&mut self, time: Nanos) {
        self.records.received += 1;
        self.now = self.now.max(time);
        self.classified_until = self.classified_until.max(time.saturating_sub(pending_close::WAIT));
    }

    /// Ends the input: pending closes are classified by the available evidence, and records of
    /// undecided sockets are counted as filtered.
    pub fn finish(&mut self) {
        self.settle_all(|_, _| true);
        self.classify_until(Nanos::MAX);
        self.undecided.close();
    }

    /// The open connections, including those in a handshake.
    pub fn open(&self) -> impl ExactSizeIterator<Item = (SockId, &Connection)> {
        self.connections.iter()
    }

    /// What scans have found of the traffic of an open connection; `None` if none has found it, or if it
    /// is not kept.
    pub fn traffic(&self, sock: SockId) -> Option<&ScannedTraffic> {
        self.traffic.as_ref()?.of(sock, self.connections.get(sock)?)
    }

    /// Inode number of a network namespace, for people; the id itself on kernels without cookies.
    pub fn netns_inode(&self, netns: NetnsId) -> NetnsInode {
        self.names.inode(netns)
    }

    /// Whether any snapshot had a row, or the next one has: something has matched the filters.
    pub fn has_rows(&self) -> bool {
        let start = self.interval.start;
        self.has_reported || self.rows.iter().any(|row| row.is_worth_reporting(start))
    }

    /// Number of connections evicted because the table was full, since the start.
    pub fn evicted(&self) -> u64 {
        self.connections.evicted()
    }

    /// Number of records that are held until the filters and the role of their socket can be decided.
    pub fn held_records(&self) -> u64 {
        self.undecided.waiting()
    }

    /// Time of the latest input (CLOCK_MONOTONIC, nanoseconds).
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Whether a scan of the namespace could show anything new: the namespace was never scanned, it
    /// has changed since the last scan, or events were lost.
    pub fn wants_scan(&self, netns: NetnsId) -> bool {
        self.undecided.may_match_netns(netns)
            && self.namespaces.wants_scan(netns, self.losses(), self.now)
    }

    /// Whether such a scan should know the processes that hold the namespace's sockets. What grows
    /// without a transition, such as the SYN queue in a flood, does not concern them.
    pub fn wants_holders(&self, netns: NetnsId) -> bool {
        self.undecided.may_match_netns(netns)
            && self.namespaces.wants_holders(netns, self.losses(), self.now)
    }

    /// Whether the kernel's counters of the namespace could show that a scan is wanted.
    pub fn wants_counters(&self, netns: NetnsId) -> bool {
        self.undecided.may_match_netns(netns) && self.namespaces.wants_counters(netns)
    }

    /// Whether a scan of the namespace could show anything that the filters do not exclude.
    pub fn admits_scan(&self, netns: NetnsId) -> bool {
        self.undecided.may_match_netns(netns)
    }

    /// Number of records known to be missing, for any reason.
    fn losses(&self) -> u64 {
        let events = self.events();
        [events.lost, events.missed, events.gaps, events.unreadable]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}
