//! An open connection: 80 bytes, because a busy host has a million. IPv6, MPTCP, resets and a range of
//! ports of its own cost a box in addition.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use bitfield_struct::bitfield;
use synfin_common::state::TcpState;

use super::{
    classify::{CloseEvidence, Resets},
    endpoints::Endpoints,
    owners::Owner,
    row::Row,
    row_key::RowId,
    served::Served,
};
use crate::{
    tcp::{close_reason::CloseReason, handshake::Handshake, role::Role, state},
    trace::{
        event::{ResetDirection, TimeWaitKind},
        ids::{ListenerId, MptcpId, NetnsId},
        scan::EphemeralPorts,
        time::Nanos,
    },
};

/// How a connection became known to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The first transition was observed.
    Observed,
    /// The connection existed before the first scan of its namespace.
    Preexisting,
    /// The connection was found after that scan, so the record of its first transition was lost.
    AfterLoss,
}

/// An open connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Time of the first transition; if it was not observed, the earliest time at which the connection
    /// is known to have existed (CLOCK_MONOTONIC, nanoseconds).
    pub first_seen: Nanos,
    /// Time of the latest transition; if it was not observed, the earliest time at which the connection
    /// is known to have been in its state.
    pub last_transition: Nanos,
    /// The owning process; `None` if unknown.
    pub owner: Option<Arc<Owner>>,
    /// The listener that created a server's connection; `None` if unknown.
    pub(super) listener: Option<ListenerId>,
    /// What not every connection has.
    rare: Option<Box<Rare>>,
    /// The handshake; `None` until it is complete.
    pub handshake: Option<Handshake>,
    /// The network namespace.
    pub netns: NetnsId,
    pub(super) row: RowId,
    /// One more than the milliseconds since the last segment was received, when a scan found the
    /// connection.
    idle: Option<NonZeroU32>,
    /// The addresses, unless `rare` has them.
    local_ip: Ipv4Addr,
    remote_ip: Ipv4Addr,
    local_port: u16,
    remote_port: u16,
    /// The port of the listener; 0 if unknown. Behind a transparent proxy (TPROXY, `sk_lookup`) the
    /// connection has another port.
    pub(super) listener_port: u16,
    pub(super) flags: ConnectionFlags,
    /// The side that this host is.
    pub role: Role,
    /// How the connection became known.
    pub origin: Origin,
    /// The TCP state.
    pub state: TcpState,
    /// The TIME_WAIT kind (`tcp_minisocks.c:tcp_time_wait`); `None` without a record of it.
    pub(super) time_wait_kind: Option<TimeWaitKind>,
}

const _: () = assert!(size_of::<Connection>() <= 80, "see the module's documentation");

/// What is true of a connection, or not.
#[bitfield(u16)]
pub(super) struct ConnectionFlags {
    /// Whether the connection counts as open, no longer as pending.
    pub(super) is_established: bool,
    /// Whether it is a subflow of an MPTCP connection. False until a server's handshake is complete.
    pub(super) is_subflow: bool,
    /// Whether it is a subflow that joined a known MPTCP connection (MP_JOIN).
    pub(super) has_joined: bool,
    /// Whether TCP_DEFER_ACCEPT was set at the first transition.
    pub(super) defers_accept: bool,
    /// Whether a SYN cookie may have begun it.
    pub(super) may_be_cookie: bool,
    /// Whether accept() has returned the connection.
    pub(super) is_accepted: bool,
    /// Whether a client's port was taken by bind(), not chosen by connect(). False if unknown.
    pub(super) is_bound: bool,
    /// Whether another process than the known owner acts on the socket: the owner is uncertain.
    pub(super) has_ambiguous_owner: bool,
    /// Whether a scan of open files has found that the owner holds the socket.
    pub(super) owner_holds: bool,
    /// Whether a scan of all open files has found a process that holds the socket, since a list of all
    /// namespaces last lacked its namespace.
    pub(super) is_held: bool,
    /// Whether it is older than the tracker's knowledge of it, and was not in the pools of ports yet.
    pub(super) is_newly_adopted: bool,
    /// Whether the connection was found in its state: the time in that state is a lower bound.
    pub(super) state_since_is_lower_bound: bool,
    /// Whether a scan has found it.
    pub(super) was_found: bool,
    /// Whether the running scan has found it.
    pub(super) found_by_running_scan: bool,
    /// Whether a scan has missed it since it was last found or had a record.
    pub(super) is_missed: bool,
    __: bool,
}

/// What not every connection has.
#[derive(Clone, Debug, Default)]
struct Rare {
    /// The addresses, if they are not both IPv4.
    addresses: Option<[IpAddr; 2]>,
    /// The MPTCP connection of a subflow.
    mptcp: Option<MptcpId>,
    /// The ports that connect() may choose for this socket (`IP_LOCAL_PORT_RANGE`), 0 as either end if
    /// the namespace decides it; `None` if it decides both.
    port_range: Option<(u16, u16)>,
    resets: Resets,
    /// Why another subflow of its MPTCP connection was reset just before the close.
    sibling_reset: Option<CloseReason>,
}

impl Connection {
    /// A connection that is in this state at this time, without further data.
    pub(super) fn new(
        netns: NetnsId,
        role: Role,
        origin: Origin,
        state: TcpState,
        endpoints: Endpoints,
        time: Nanos,
        row: RowId,
    ) -> Self {
        let mut connection = Self {
            first_seen: time,
            last_transition: time,
            owner: None,
            listener: None,
            rare: None,
            handshake: None,
            netns,
            row,
            idle: None,
            local_ip: Ipv4Addr::UNSPECIFIED,
            remote_ip: Ipv4Addr::UNSPECIFIED,
            local_port: 0,
            remote_port: 0,
            listener_port: 0,
            flags: ConnectionFlags::new(),
            role,
            origin,
            state,
            time_wait_kind: None,
        };
        connection.set_endpoints(endpoints);
        connection
    }

    fn addresses(&self) -> [IpAddr; 2] {
        let rare = self.rare.as_ref().and_then(|rare| rare.addresses);
        rare.unwrap_or([self.local_ip.into(), self.remote_ip.into()])
    }

    /// The local address.
    pub fn local(&self) -> SocketAddr {
        self.endpoints().local
    }

    /// The peer's address.
    pub fn remote(&self) -> SocketAddr {
        self.endpoints().remote
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        let [local, remote] = self.addresses();
        Endpoints {
            local: SocketAddr::new(local, self.local_port),
            remote: SocketAddr::new(remote, self.remote_port),
        }
    }

    fn set_endpoints(&mut self, Endpoints { local, remote }: Endpoints) {
        (self.local_port, self.remote_port) = (local.port(), remote.port());
        match (local.ip(), remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                (self.local_ip, self.remote_ip) = (local, remote);
                if let Some(rare) = &mut self.rare {
                    rare.addresses = None;
                }
            }
            (local, remote) => self.rare_mut().addresses = Some([local, remote]),
        }
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The MPTCP connection of a subflow; `None` if unknown.
    pub fn mptcp(&self) -> Option<MptcpId> {
        self.rare.as_ref()?.mptcp
    }

    /// Sets the MPTCP connection, and returns the one before. [`super::connections::Connections`] keeps
    /// the subflows of each.
    pub(super) fn replace_mptcp(&mut self, id: Option<MptcpId>) -> Option<MptcpId> {
        let before = self.mptcp();
        if before != id {
            self.rare_mut().mptcp = id;
        }
        before
    }

    pub(super) fn set_port_range(&mut self, range: Option<(u16, u16)>) {
        if range.is_some() || self.rare.is_some() {
            self.rare_mut().port_range = range;
        }
    }

    /// The ports that connect() may choose for this socket, given those of its namespace.
    pub(super) fn ephemeral_ports(&self, of_netns: EphemeralPorts) -> EphemeralPorts {
        let Some((first, last)) = self.rare.as_ref().and_then(|rare| rare.port_range) else {
            return of_netns;
        };
        EphemeralPorts {
            first: if first == 0 { of_netns.first } else { first },
            last: if last == 0 { of_netns.last } else { last },
            ..of_netns
        }
    }

    pub(super) fn note_reset(&mut self, direction: ResetDirection) {
        self.rare_mut().resets.note(direction);
    }

    /// Notes why another subflow of its MPTCP connection was reset just before the close.
    pub(super) fn note_sibling_reset(&mut self, reason: CloseReason) {
        self.rare_mut().sibling_reset = Some(reason);
    }

    /// The listener's port for a server, the remote port for a client; 0 if the role is unknown.
    pub fn service_port(&self) -> u16 {
        match self.listener_port {
            0 => {
                let Endpoints { local, remote } = self.endpoints();
                self.role.service_port(local, remote)
            }
            port => port,
        }
    }

    /// The evidence from the history before the last transition.
    pub(super) fn close_evidence(&self) -> CloseEvidence {
        let rare = self.rare.as_ref();
        CloseEvidence {
            role: self.role,
            established: self.flags.is_established(),
            is_subflow: self.flags.is_subflow(),
            accepted: self.flags.is_accepted(),
            sibling_reset: rare.and_then(|rare| rare.sibling_reset),
            resets: rare.map_or_else(Resets::default, |rare| rare.resets),
            time_wait_kind: self.time_wait_kind,
        }
    }

    /// Whether a socket with the same kernel address and these endpoints can be this connection; if
    /// not, the kernel has reused the memory of the socket. `is_young`: the socket is leaving its
    /// first state.
    pub(super) fn matches(&self, netns: NetnsId, endpoints: Endpoints, is_young: bool) -> bool {
        let is_young_child = self.role != Role::Client && is_young;
        self.netns == netns && self.endpoints().can_be(endpoints, is_young_child)
    }

    /// Enters a state and counts that in the row. If this completes the handshake, measures it with
    /// `handshake`. Returns whether the handshake is complete now.
    pub(super) fn enter(
        &mut self,
        state: TcpState,
        row: &mut Row,
        handshake: impl FnOnce(&Self) -> Handshake,
    ) -> bool {
        row.gauges.leave(self.state);
        row.gauges.enter(state);
        self.state = state;
        let completes_handshake = !self.flags.is_established() && !state::is_pending(state);
        if completes_handshake {
            let handshake = handshake(self);
            row.gauges.pending -= 1;
            row.gauges.open += 1;
            row.gauges.preexisting += u64::from(self.is_preexisting());
            row.counters.established += 1;
            row.counters.handshake(&handshake);
            self.flags.set_is_established(true);
            self.handshake = Some(handshake);
        }
        completes_handshake
    }

    /// Fills in endpoints that were unknown at the first transition. `is_young`: as in
    /// [`Self::matches`].
    pub(super) fn learn_endpoints(&mut self, found: Endpoints, is_young: bool) {
        let known = self.endpoints();
        let mut endpoints = known;
        let has_listeners = self.role == Role::Server && is_young && found.local.port() != 0;
        if known.local.port() == 0 || known.local.ip().is_unspecified() || has_listeners {
            endpoints.local = found.local;
        }
        if known.remote.port() == 0 {
            endpoints.remote = found.remote;
        }
        if endpoints != known {
            self.set_endpoints(endpoints);
        }
    }

    /// Whether it is a subflow of an MPTCP connection. False until a server's handshake is complete.
    pub fn is_subflow(&self) -> bool {
        self.flags.is_subflow()
    }

    /// Whether `last_transition` was not observed, so that the time in the state is a lower bound.
    pub fn state_since_is_lower_bound(&self) -> bool {
        self.flags.state_since_is_lower_bound()
    }

    /// Microseconds since the last segment was received, when a scan last found the connection; `None`
    /// if unknown.
    pub fn idle_us(&self) -> Option<u64> {
        self.idle.map(|idle| u64::from(idle.get() - 1) * 1000)
    }

    pub(super) fn set_idle_ms(&mut self, ms: Option<u32>) {
        self.idle = ms.map(|ms| NonZeroU32::MIN.saturating_add(ms));
    }

    /// Notes that the running scan found the connection.
    pub(super) fn on_scan(&mut self) {
        self.flags.set_was_found(true);
        self.flags.set_found_by_running_scan(true);
        self.flags.set_is_missed(false);
    }

    /// Whether the scan that has ended found the connection.
    pub(super) fn take_found(&mut self) -> bool {
        let is_found = self.flags.found_by_running_scan();
        if is_found {
            self.flags.set_found_by_running_scan(false);
        }
        is_found
    }

    /// Whether it is older than the trace.
    pub fn is_preexisting(&self) -> bool {
        self.origin == Origin::Preexisting
    }

    /// Whether the first transition was not observed, so that the age is a lower bound.
    pub fn is_adopted(&self) -> bool {
        self.origin != Origin::Observed
    }
}

impl From<&Connection> for Served {
    fn from(connection: &Connection) -> Self {
        Self {
            netns: connection.netns,
            local: SocketAddr::new(connection.local().ip(), connection.service_port()),
            listener: connection.listener,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(local: &str, remote: &str) -> Connection {
        let [local, remote] = [local, remote].map(|it| it.parse().expect("an address"));
        let (role, origin) = (Role::Client, Origin::Observed);
        Connection::new(1, role, origin, TcpState::SynSent, Endpoints { local, remote }, 1, 0)
    }

    #[test]
    fn addresses_of_any_family_are_kept() {
        for (local, remote) in [
            ("192.0.2.1:1", "192.0.2.2:2"),
            ("[2001:db8::1]:1", "[2001:db8::2]:2"),
            ("0.0.0.0:0", "[2001:db8::2]:2"),
        ] {
            let mut kept = connection(local, remote);
            assert_eq!(
                (kept.local().to_string(), kept.remote().to_string()),
                (local.into(), remote.into())
            );
            assert_eq!(kept.service_port(), 2);
            // A client learns its own endpoint, which may be of another family.
            for local in ["[2001:db8::9]:9", "192.0.2.9:9"] {
                let before = kept.clone();
                let unknown = connection("0.0.0.0:0", remote).endpoints();
                kept.set_endpoints(unknown);
                kept.learn_endpoints(connection(local, remote).endpoints(), false);
                assert_eq!(kept.local().to_string(), local);
                assert_eq!(kept.remote(), before.remote());
            }
        }
    }

    #[test]
    fn idle_times_are_kept() {
        let mut kept = connection("192.0.2.1:1", "192.0.2.2:2");
        for (ms, us) in [(Some(0), Some(0)), (Some(7), Some(7_000)), (None, None)] {
            kept.set_idle_ms(ms);
            assert_eq!(kept.idle_us(), us);
        }
    }
}
