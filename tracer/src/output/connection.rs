//! The output of `connections`: one row per connection.

use std::sync::Arc;

use super::SCHEMA_HELP;
use crate::{
    output::column::{
        Column, Value,
        Visibility::{Data, Table, Wide},
        Width::{Left, Right},
        columns,
    },
    tcp::{
        close_reason::{Class, CloseReason},
        handshake::Handshake,
        role::Role,
        state::STATES,
    },
    trace::{
        ids::{MptcpId, NetnsId, NetnsInode},
        names::Container,
        time::{ClockAnchor, Nanos, date},
    },
    tracker::{Closed, Connection, Origin, Owner, ScannedTraffic},
};

/// Version of the JSON object and of the CSV row.
const SCHEMA: u64 = 2;

/// A closed or open connection for output.
pub struct ConnectionRow {
    clock: ClockAnchor,
    pub(crate) role: Role,
    origin: Origin,
    pub(crate) netns: NetnsId,
    pub(crate) netns_inode: NetnsInode,
    pub(crate) local: std::net::SocketAddr,
    pub(crate) remote: std::net::SocketAddr,
    pub(crate) service_port: u16,
    /// `None` if it has closed.
    pub(crate) state: Option<&'static str>,
    pub(crate) reason: Option<CloseReason>,
    pub(crate) opened: Option<Nanos>,
    pub(crate) closed: Option<Nanos>,
    /// The time of observation.
    now: Nanos,
    /// Its first transition; if that was not observed, since when it is known to exist.
    pub(crate) since: Nanos,
    pub(crate) handshake: Option<Handshake>,
    pub(crate) time_wait: Option<bool>,
    idle_us: Option<u64>,
    rtt_us: Option<u32>,
    min_rtt_us: Option<u32>,
    retransmits: Option<u32>,
    pub(crate) owner: Option<Arc<Owner>>,
    is_subflow: bool,
    mptcp: Option<MptcpId>,
    bytes_sent: Option<u64>,
    bytes_received: Option<u64>,
    sent_per_s: Option<f64>,
    received_per_s: Option<f64>,
    window_limited_us: Option<u64>,
    buffer_limited_us: Option<u64>,
}

impl ConnectionRow {
    /// The row of a closed connection.
    pub fn closed(closed: &Closed, clock: ClockAnchor) -> Self {
        Self {
            clock,
            role: closed.role,
            origin: closed.origin,
            netns: closed.netns,
            netns_inode: closed.netns_inode,
            local: closed.local,
            remote: closed.remote,
            service_port: closed.service_port,
            state: None,
            reason: Some(closed.reason),
            opened: closed.opened,
            closed: Some(closed.closed),
            now: closed.closed,
            since: closed.since,
            handshake: closed.handshake,
            time_wait: closed.time_wait,
            idle_us: closed.idle_us,
            rtt_us: closed.rtt_us,
            min_rtt_us: closed.min_rtt_us,
            retransmits: closed.retransmits,
            owner: closed.owner.clone(),
            is_subflow: closed.is_subflow,
            mptcp: closed.mptcp,
            bytes_sent: closed.bytes_sent,
            bytes_received: closed.bytes_received,
            sent_per_s: None,
            received_per_s: None,
            window_limited_us: closed.window_limited_us,
            buffer_limited_us: closed.buffer_limited_us,
        }
    }

    /// The row of an open connection, with its traffic as far as scans have found it.
    pub fn open(
        connection: &Connection,
        traffic: Option<&ScannedTraffic>,
        netns_inode: NetnsInode,
        now: Nanos,
        clock: ClockAnchor,
    ) -> Self {
        let last = traffic.map(|traffic| traffic.last);
        Self {
            clock,
            role: connection.role,
            origin: connection.origin,
            netns: connection.netns,
            netns_inode,
            local: connection.local(),
            remote: connection.remote(),
            service_port: connection.service_port(),
            state: Some(connection.state.name()),
            reason: None,
            opened: (!connection.is_adopted()).then_some(connection.first_seen),
            closed: None,
            now,
            since: connection.first_seen,
            handshake: connection.handshake,
            time_wait: None,
            idle_us: connection.idle_us(),
            rtt_us: last.and_then(|last| last.rtt_us),
            min_rtt_us: last.and_then(|last| last.min_rtt_us),
            retransmits: last.and_then(|last| last.retransmits),
            owner: connection.owner.clone(),
            is_subflow: connection.is_subflow(),
            mptcp: connection.mptcp(),
            bytes_sent: last.and_then(|last| last.bytes_sent),
            bytes_received: last.and_then(|last| last.bytes_received),
            sent_per_s: traffic.and_then(ScannedTraffic::sent_per_s),
            received_per_s: traffic.and_then(ScannedTraffic::received_per_s),
            window_limited_us: None,
            buffer_limited_us: None,
        }
    }

    /// Whether its beginning was not observed, so that its age is a lower bound.
    pub(crate) fn is_adopted(&self) -> bool {
        self.origin != Origin::Observed
    }

    fn container(&self) -> Option<&Container> {
        self.owner.as_ref()?.label.container.as_deref()
    }

    fn date(&self, time: Option<Nanos>) -> Value {
        Value::known(time, |time| Value::Text(date(self.clock.date(time))))
    }
}

/// All columns of a connection.
pub const COLUMNS: &[Column<ConnectionRow>] = columns! {
    "schema" "" Version(SCHEMA), Data, SCHEMA_HELP, |_| Value::Int(SCHEMA);
    "role" "ROLE" Word(Role::NAMES), Table(Left(6)), "The side that this host is: server or client; unknown (? in tables) if its beginning was not observed (or a checkpoint restored it), its port has no listener and connect() did not choose the port.", |c| Value::role(c.role);
    "local_addr" "LOCAL" Address, Table(Left(15)), "Local address.", |c| Value::Text(c.local.ip().to_string());
    "local_port" "LPORT" Number, Table(Right(5)), "Local port.", |c| Value::Int(c.local.port().into());
    "remote_addr" "REMOTE" Address, Table(Left(15)), "Remote address.", |c| Value::Text(c.remote.ip().to_string());
    "remote_port" "RPORT" Number, Table(Right(5)), "Remote port.", |c| Value::Int(c.remote.port().into());
    "service_port" "" Number, Data, "The listener's port for a server, the remote port for a client; 0 if the role is unknown.",
        |c| Value::Int(c.service_port.into());
    "owner" "OWNER" Text or null, Table(Left(15)), "Name of the owning process.",
        |c| Value::known(c.owner.as_ref(), |owner| Value::Text(owner.label.name.to_string()));
    "state" "STATE" Word(STATES) or null, Table(Left(11)), "State of an open connection; null once it has closed.",
        |c| Value::known(c.state, Value::Word);
    "handshake" "" Word(Handshake::NAMES) or null, Data, "clean, retransmitted or unmeasured; null if its completion was not observed.",
        |c| Value::known(c.handshake, |handshake| Value::Word(handshake.class()));
    "handshake_us" "HS" Micros or null, Table(Right(7)), "Duration of the handshake.",
        |c| Value::known(c.handshake.and_then(|handshake| handshake.us()), |us| Value::Micros(us.into()));
    "handshake_retransmits" "RTX" Count("segments") or null, Table(Right(3)), "Number of times that the SYN or SYN-ACK was retransmitted.",
        |c| Value::known(c.handshake.and_then(|handshake| handshake.retransmits()), |times| Value::Int(times.into()));
    "age_us" "AGE" Micros, Table(Right(7)), "Time from its beginning to its close, or until now; a lower bound (≥ in tables) if it is preexisting or adopted: since its last activity before it was found.",
        |c| Value::micros(c.now.saturating_sub(c.since) / 1000, c.is_adopted());
    "reason" "REASON" Word(CloseReason::NAMES) or null, Table(Left(28)), "Why it closed; null while it is open.",
        |c| Value::known(c.reason, |reason| Value::Word(reason.id()));
    "class" "CLASS" Word(Class::NAMES) or null, Wide(Left(8)), "Severity of the reason: normal, notable, abnormal or unknown.",
        |c| Value::known(c.reason, |reason| Value::Word(reason.class().name()));
    "opened_at" "OPENED" Time or null, Wide(Left(27)), "When it began; null if that was not observed.", |c| c.date(c.opened);
    "closed_at" "CLOSED" Time or null, Wide(Left(27)), "When it closed.", |c| c.date(c.closed);
    "time_wait" "TW" Bool or null, Wide(Left(3)), "Whether it left a TIME_WAIT on this host; null if unknown because the kernel's TIME_WAIT table was full.", |c| Value::known(c.time_wait, Value::Bool);
    "idle_us" "IDLE" Micros or null, Wide(Right(7)), "Time since the last received segment when it closed, or when a scan last found it open, with the resolution of the kernel's tick; null if unknown.",
        |c| Value::known(c.idle_us, Value::Micros);
    "rtt_us" "RTT" Micros or null, Wide(Right(7)), "Smoothed round-trip time when it closed, or when a scan last found it open; null if none was measured, and with --slow.",
        |c| Value::known(c.rtt_us, |us| Value::Micros(us.into()));
    "min_rtt_us" "MINRTT" Micros or null, Wide(Right(7)), "Smallest round-trip time of the last minutes (net.ipv4.tcp_min_rtt_wlen) when it closed, or when a scan last found it open; null as rtt_us.",
        |c| Value::known(c.min_rtt_us, |us| Value::Micros(us.into()));
    "retransmits" "RETRANS" Count("segments") or null, Wide(Right(7)), "Number of segments that were sent again, SYNs included, when it closed, or when a scan last found it open; null if unknown, and with --slow.",
        |c| Value::known(c.retransmits, |count| Value::Int(count.into()));
    "pid" "PID" Number or null, Wide(Right(7)), "Id of the owning process; null if unknown, or if several processes of that name hold the listener.", |c| Value::known(c.owner.as_ref().and_then(|owner| owner.pid), |pid| Value::Int(pid.into()));
    "container" "CONTAINER" Text or null, Wide(Left(12)), "The container in which the owner runs.",
        |c| Value::known(c.container(), |container| Value::Id(container.id.clone()));
    "pod" "POD" Text or null, Wide(Left(12)), "The container's Kubernetes pod: namespace/name, or its uid if the name is not known on the node.",
        |c| Value::known(c.container().and_then(|container| container.pod.clone()), Value::Text);
    "netns" "NETNS" Number, Wide(Right(10)), "Inode number of the network namespace.", |c| Value::Int(c.netns_inode.into());
    "preexisting" "OLD" Bool, Wide(Left(3)), "Whether it existed before the trace began, or a checkpoint restored it (TCP_REPAIR).", |c| Value::Bool(c.origin == Origin::Preexisting);
    "adopted" "" Bool, Data, "Whether its beginning was not observed: preexisting, or records were lost.",
        |c| Value::Bool(c.is_adopted());
    "role_assumed" "" Bool, Data, "Whether there is no evidence for a role, which is unknown then.", |c| Value::Bool(c.role == Role::Unknown);
    "mptcp" "MPTCP" Bool, Wide(Left(5)), "Whether it is a subflow of an MPTCP connection, which is a TCP connection of its own; also of one that continues as plain TCP because the server has no MPTCP.",
        |c| Value::Bool(c.is_subflow);
    "mptcp_id" "" Text or null, Data, "The MPTCP connection of a subflow, which its subflows share: `mptcp:` and its kernel address, used again once it has closed; null if unknown.",
        |c| Value::known(c.mptcp, |id| Value::Text(format!("mptcp:{id:x}")));
    "bytes_sent" "SENT" Count("bytes") or null, Wide(Right(13)), "Payload bytes that the peer acknowledged until it closed, or until a scan last found it open; null if the role is unknown, as only a client's SYN counts, and with --slow.", |c| Value::known(c.bytes_sent, Value::Int);
    "bytes_received" "RECEIVED" Count("bytes") or null, Wide(Right(13)), "Payload bytes received until then.", |c| Value::known(c.bytes_received, Value::Int);
    "sent_per_s" "SENT/s" Float("bytes per second") or null, Wide(Right(11)), "Payload bytes sent per second while it is open, between the first and the last scan that found it; null if fewer than two have (--for).", |c| Value::known(c.sent_per_s, Value::Float);
    "received_per_s" "RECV/s" Float("bytes per second") or null, Wide(Right(11)), "The same of payload bytes received.", |c| Value::known(c.received_per_s, Value::Float);
    "window_limited_us" "RWNDLIM" Micros or null, Wide(Right(7)), "Time for which the peer's receive window held up sending, with the resolution of the kernel's tick: the peer reads slowly. Null while it is open.", |c| Value::known(c.window_limited_us, Value::Micros);
    "buffer_limited_us" "SNDBLIM" Micros or null, Wide(Right(7)), "Time for which the send buffer held up sending: it is too small for the path (net.ipv4.tcp_wmem, SO_SNDBUF). Null while it is open.", |c| Value::known(c.buffer_limited_us, Value::Micros);
};
