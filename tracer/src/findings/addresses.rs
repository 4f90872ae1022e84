//! What the other rows of a port tell: which of its addresses have a listener, and which accept a client's
//! connections.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::case::Case;
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    tracker::RowSnapshot,
};

/// The consequences if one address of a service refuses and another one accepts.
pub(super) const ONE_OF_TWO: &str =
    "clients that try no other address fail, and those that do lose a round trip each time";

/// Number of addresses that are listed.
const LISTED: usize = 3;

/// Whether clients reach an address within their own network namespace.
fn is_here(clients: &RowSnapshot, remote: IpAddr) -> bool {
    remote.is_loopback() || clients.identity.addresses.contains(&remote)
}

fn refused(clients: &RowSnapshot) -> u64 {
    clients.stats.counters.ended(CloseReason::ConnectRefusedRst)
}

/// Attempts of clients in the namespace of a server that were refused at addresses of its port on which
/// nothing listens.
pub(super) struct RefusedHere {
    pub(super) count: u64,
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl RefusedHere {
    /// Those at the port of a server's row.
    pub(super) fn of(case: &Case<'_>) -> Self {
        let listening = &case.row.identity.listening;
        let mut here = Self { count: 0, addresses: BTreeSet::new() };
        for clients in case.by_port.beside(case.row, Role::Client) {
            let Some(&remote) = clients.identity.remote.one() else { continue };
            let is_never_accepted = clients.stats.counters.established == 0;
            if is_here(clients, remote)
                && refused(clients) > 0
                && is_never_accepted
                && !listening.iter().any(|listener| serves(*listener, remote))
            {
                here.count += refused(clients);
                here.addresses.insert(remote);
            }
        }
        here
    }
}

/// Whether a listener on this address certainly accepts connections to that one: one on `::` accepts IPv4
/// unless IPV6_V6ONLY is set.
fn serves(listener: IpAddr, address: IpAddr) -> bool {
    listener == address || listener.is_unspecified() && listener.is_ipv4() == address.is_ipv4()
}

/// The address at which the clients of a row, which are refused, are accepted: another one of the
/// same namespace, or the only one of the other family.
pub(super) fn accepted_at(case: &Case<'_>) -> Option<IpAddr> {
    let remote = *case.row.identity.remote.one()?;
    let owners = &case.row.identity.owners;
    let others = case.by_port.beside(case.row, Role::Client);
    let others = others.filter(|other| !other.identity.owners.is_disjoint(owners));
    let others = others.filter_map(|other| Some((other, *other.identity.remote.one()?)));
    let mut others = others.filter(|(_, address)| *address != remote);
    let accepts = |it: &RowSnapshot| refused(it) == 0 && it.stats.counters.established > 0;
    if is_here(case.row, remote) {
        return others.find(|&(it, at)| is_here(it, at) && accepts(it)).map(|(_, at)| at);
    }
    let (other, address) = others.next()?;
    let is_other_family = address.is_ipv4() != remote.is_ipv4();
    (others.next().is_none() && is_other_family && accepts(other)).then_some(address)
}

/// A port at these addresses, for people: `[::1]:80, 127.0.0.1:80`.
pub(super) fn list(addresses: &BTreeSet<IpAddr>, port: u16) -> String {
    let mut listed: Vec<_> = addresses
        .iter()
        .take(LISTED)
        .map(|&address| SocketAddr::new(address, port).to_string())
        .collect();
    let more = addresses.len().saturating_sub(LISTED);
    if more > 0 {
        listed.push(format!("{more} more"));
    }
    listed.join(", ")
}
