//! The bounded table of open connections.

use std::hash::BuildHasher as _;

use hashbrown::{HashTable, hash_table::Entry};
use rustc_hash::FxBuildHasher;

use super::{connection::Connection, subflows::Subflows};
use crate::{
    tcp::close_reason::CloseReason,
    trace::{
        ids::{MptcpId, SockId},
        time::Nanos,
    },
};

/// All open connections, by socket. If the table is full, the least recently active connection of a
/// random sample is evicted, because an exact order would be expensive.
pub(crate) struct Connections {
    /// In no order, without gaps.
    entries: Vec<(SockId, Connection)>,
    /// The places of the entries, by socket.
    places: HashTable<u32>,
    subflows: Subflows,
    limit: usize,
    evicted: u64,
    /// State of the random number generator, seeded with a constant for reproducible results.
    random: u64,
}

const EVICTION_SAMPLE: usize = 8;

/// The place of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot(u32);

fn hash(sock: SockId) -> u64 {
    FxBuildHasher.hash_one(sock)
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            places: HashTable::new(),
            subflows: Subflows::default(),
            limit: limit.clamp(1, u32::MAX as usize),
            evicted: 0,
            random: 1,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the next insertion evicts a connection.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn get(&self, sock: SockId) -> Option<&Connection> {
        self.slot(sock).map(|Slot(place)| &self.entries[place as usize].1)
    }

    pub(crate) fn get_mut(&mut self, sock: SockId) -> Option<&mut Connection> {
        self.slot(sock).map(|slot| self.at(slot))
    }

    /// Adds a connection whose socket has none, and returns the connection that was evicted for it.
    pub(crate) fn insert(&mut self, sock: SockId, connection: Connection) -> Option<Connection> {
        let victim = self.is_full().then(|| self.evict());
        if let Some(id) = connection.mptcp() {
            self.subflows.add(id, sock);
        }
        let place = u32::try_from(self.len()).expect("fewer entries than the limit");
        let sock_at = |&place: &u32| self.entries[place as usize].0;
        let is_of = |place: &u32| sock_at(place) == sock;
        match self.places.entry(hash(sock), is_of, |place| hash(sock_at(place))) {
            Entry::Vacant(free) => drop(free.insert(place)),
            Entry::Occupied(_) => unreachable!("socket {sock:x} has a connection"),
        }
        self.entries.push((sock, connection));
        victim
    }

    /// The slot of a connection, valid until the next insertion or removal; saves a second lookup.
    pub(crate) fn slot(&self, sock: SockId) -> Option<Slot> {
        let is_of = |&place: &u32| self.entries[place as usize].0 == sock;
        self.places.find(hash(sock), is_of).map(|&place| Slot(place))
    }

    pub(crate) fn at(&mut self, Slot(place): Slot) -> &mut Connection {
        &mut self.entries[place as usize].1
    }

    pub(crate) fn remove_at(&mut self, Slot(place): Slot) -> Connection {
        let (sock, connection) = self.entries.swap_remove(place as usize);
        self.places
            .find_entry(hash(sock), |&of| of == place)
            .expect("every entry has a place")
            .remove();
        // The last entry fills the gap.
        let last = self.len();
        if let Some(&(moved, _)) = self.entries.get(place as usize) {
            let moved = self.places.find_mut(hash(moved), |&of| of as usize == last);
            *moved.expect("every entry has a place") = place;
        }
        if let Some(id) = connection.mptcp() {
            self.subflows.remove(id, sock);
        }
        connection
    }

    /// Why another subflow of the same MPTCP connection was reset just before this time; `None` if
    /// none was.
    pub(crate) fn sibling_reset(&mut self, slot: Slot, time: Nanos) -> Option<CloseReason> {
        let id = self.at(slot).mptcp()?;
        self.subflows.reset_before(id, time)
    }

    /// Notes that a subflow of this MPTCP connection was reset.
    pub(crate) fn note_subflow_reset(&mut self, id: MptcpId, time: Nanos, reason: CloseReason) {
        self.subflows.note_reset(id, time, reason);
    }

    pub(crate) fn remove(&mut self, sock: SockId) -> Option<Connection> {
        self.slot(sock).map(|slot| self.remove_at(slot))
    }

    /// Sets the MPTCP connection of a subflow.
    pub(crate) fn set_mptcp(&mut self, sock: SockId, id: Option<MptcpId>) {
        let Some(connection) = self.get_mut(sock) else { return };
        let before = connection.replace_mptcp(id);
        if before == id {
            return;
        }
        if let Some(before) = before {
            self.subflows.remove(before, sock);
        }
        if let Some(id) = id {
            self.subflows.add(id, sock);
        }
    }

    /// The open subflows of an MPTCP connection.
    pub(crate) fn subflows(&self, id: MptcpId) -> &[SockId] {
        self.subflows.of(id)
    }

    /// The open subflows of an MPTCP connection except that of this socket.
    pub(crate) fn siblings(&self, id: MptcpId, sock: SockId) -> impl Iterator<Item = &Connection> {
        let others = self.subflows.of(id).iter().filter(move |&&other| other != sock);
        others.filter_map(|&other| self.get(other))
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (SockId, &Connection)> {
        self.entries.iter().map(|(sock, connection)| (*sock, connection))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (SockId, &mut Connection)> {
        self.entries.iter_mut().map(|(sock, connection)| (*sock, connection))
    }

    fn evict(&mut self) -> Connection {
        let sample: [u32; EVICTION_SAMPLE] = std::array::from_fn(|_| self.random_place());
        let age = |&place: &u32| self.entries[place as usize].1.last_transition;
        let victim = sample.into_iter().min_by_key(age).expect("a sample is not empty");
        self.evicted += 1;
        self.remove_at(Slot(victim))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a place is less than the limit")]
    fn random_place(&mut self) -> u32 {
        (self.next_random() % self.len() as u64) as u32
    }

    /// Xorshift, which is random enough for sampling.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::SocketAddr};

    use proptest::prelude::*;
    use synfin_common::state::TcpState;

    use super::*;
    use crate::{
        tcp::role::Role,
        tracker::{connection::Origin, endpoints::Endpoints},
    };

    /// A connection that is known by its time.
    fn connection(time: Nanos, mptcp: Option<MptcpId>) -> Connection {
        let any = SocketAddr::from(([192, 0, 2, 1], 1));
        let (state, endpoints) = (TcpState::Established, Endpoints { local: any, remote: any });
        let mut connection =
            Connection::new(1, Role::Client, Origin::Observed, state, endpoints, time, 0);
        connection.replace_mptcp(mptcp);
        connection
    }

    proptest! {
        #[test]
        fn the_table_holds_what_was_added_last(
            acts in prop::collection::vec((0..40_u64, 0..3_u64, any::<bool>()), 0..200),
            limit in 1..30_usize,
        ) {
            let mut table = Connections::new(limit);
            let mut model = HashMap::new();
            for (time, (sock, mptcp, removes)) in (1..).zip(acts) {
                let mptcp = MptcpId::new(mptcp);
                if removes || model.contains_key(&sock) {
                    let removed = table.remove(sock).map(|it| (it.first_seen, it.mptcp()));
                    prop_assert_eq!(removed, model.remove(&sock));
                } else {
                    let is_full = model.len() == limit;
                    let victim = table.insert(sock, connection(time, mptcp));
                    prop_assert_eq!(victim.is_some(), is_full);
                    model.retain(|_, (time, _)| victim.as_ref().is_none_or(|it| it.first_seen != *time));
                    model.insert(sock, (time, mptcp));
                }
                let held = table.iter().map(|(sock, it)| (sock, (it.first_seen, it.mptcp())));
                prop_assert_eq!(&held.collect::<HashMap<_, _>>(), &model);
                for (&sock, &(time, mptcp)) in &model {
                    prop_assert_eq!(table.get(sock).map(|it| it.first_seen), Some(time));
                    prop_assert!(mptcp.is_none_or(|id| table.subflows(id).contains(&sock)));
                }
                let subflows = [1, 2].map(|id| table.subflows(MptcpId::new(id).expect("not 0")).len());
                let with_id = model.values().filter(|(_, mptcp)| mptcp.is_some()).count();
                prop_assert_eq!(subflows.iter().sum::<usize>(), with_id);
            }
        }
    }
}
