//! Resets from ports that have no row.

use std::{collections::HashMap, mem};

use rustc_hash::FxBuildHasher;
use synfin_common::port_count::PortEvent;

use super::client_ports::ClientPorts;
use crate::trace::{ids::NetnsId, time::Nanos};

/// A port without a listener gets a row after this many resets: it belongs to a service that is
/// down, and is not one of many that a port scan touched.
const RESETS_FOR_A_ROW: u64 = 3;

/// Least time between resets of an ephemeral port that are apart. A late segment of a client's connection
/// is answered by a reset, which ends the connection at the peer too: no more segments follow that one
/// but those on their way. Attempts to connect go on.
const APART: Nanos = 1_000_000_000;

/// Maximum number of ports.
const LIMIT: usize = 4096;

/// The resets from each port that has no row.
#[derive(Debug, Default)]
pub(super) struct ClosedPorts {
    ports: HashMap<(NetnsId, u16), Resets, FxBuildHasher>,
    clients: ClientPorts,
}

#[derive(Debug, Default)]
struct Resets {
    count: u64,
    /// How often there were resets that are [`APART`], and the time of the last of these.
    times: u64,
    last: Nanos,
    /// Whether one of them refused a client on this host.
    is_refused: bool,
    /// Those of the current interval, which the row of all other ports has counted.
    elsewhere: Vec<(PortEvent, u64)>,
}

impl ClosedPorts {
    /// Notes that a client has used a local port, at which late segments can arrive.
    pub(super) fn note_client(&mut self, netns: NetnsId, port: u16, now: Nanos) {
        self.clients.note(netns, port, now);
    }

    /// Notes that a client on this host was refused at a port.
    pub(super) fn note_refused(&mut self, netns: NetnsId, port: u16) {
        self.at(netns, port).is_refused = true;
    }

    /// Adds resets of a port. If the port gets a row, returns what that has to take over from the row
    /// of all other ports.
    pub(super) fn add(
        &mut self,
        netns: NetnsId,
        port: u16,
        (event, count): (PortEvent, u64),
    ) -> Option<Vec<(PortEvent, u64)>> {
        self.at(netns, port).add(event, count, |_| true)
    }

    /// The same of a port that the kernel may choose for clients.
    pub(super) fn add_ephemeral(
        &mut self,
        netns: NetnsId,
        port: u16,
        (event, count): (PortEvent, u64),
        now: Nanos,
    ) -> Option<Vec<(PortEvent, u64)>> {
        let is_of_client = self.clients.contains(netns, port);
        // A busy client has used all of them: they would displace the others.
        if is_of_client && !self.ports.get(&(netns, port)).is_some_and(|known| known.is_refused) {
            return None;
        }
        let resets = self.at(netns, port);
        if resets.times == 0 || now >= resets.last.saturating_add(APART) {
            resets.times += 1;
            resets.last = now;
        }
        let is_service = |resets: &Resets| resets.is_refused || resets.times >= RESETS_FOR_A_ROW;
        resets.add(event, count, is_service)
    }

    pub(super) fn begin_interval(&mut self) {
        self.ports.values_mut().for_each(|resets| resets.elsewhere.clear());
    }

    fn at(&mut self, netns: NetnsId, port: u16) -> &mut Resets {
        if self.ports.len() >= LIMIT && !self.ports.contains_key(&(netns, port)) {
            // A port scan has touched them once each.
            self.ports.clear();
        }
        self.ports.entry((netns, port)).or_default()
    }
}

impl Resets {
    fn add(
        &mut self,
        event: PortEvent,
        count: u64,
        is_service: impl FnOnce(&Self) -> bool,
    ) -> Option<Vec<(PortEvent, u64)>> {
        self.count = self.count.saturating_add(count);
        if self.count >= RESETS_FOR_A_ROW && is_service(self) {
            return Some(mem::take(&mut self.elsewhere));
        }
        match self.elsewhere.iter_mut().find(|(known, _)| *known == event) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.elsewhere.push((event, count)),
        }
        None
    }
}
