//! The output of `trace`: one row per transition.

use std::sync::Arc;

use super::SCHEMA_HELP;
use crate::{
    output::column::{
        Column, Value,
        Visibility::{Data, Table, Wide},
        Width::{Left, Right},
        columns,
    },
    tcp::{role::Role, state::STATES},
    trace::{
        event::Transition,
        ids::NetnsInode,
        time::{ClockAnchor, date},
    },
    tracker::{Connection, Owner},
};

/// Version of the JSON object and of the CSV row.
const SCHEMA: u64 = 2;

/// A transition for output.
pub struct TransitionLine {
    clock: ClockAnchor,
    transition: Transition,
    netns_inode: NetnsInode,
    role: Option<Role>,
    owner: Option<Arc<Owner>>,
    is_preexisting: Option<bool>,
    /// The time since the connection's last transition.
    in_old_state: Value,
}

impl TransitionLine {
    /// The row of a transition in the network namespace with this inode number. `connection` is the
    /// connection before it; `None` for a listener.
    pub fn new(
        transition: &Transition,
        netns_inode: NetnsInode,
        connection: Option<&Connection>,
        clock: ClockAnchor,
    ) -> Self {
        // A connection that has just begun or been adopted has no earlier transition.
        let before = connection.filter(|connection| connection.last_transition < transition.time);
        Self {
            clock,
            role: connection.map(|connection| connection.role),
            is_preexisting: connection.map(Connection::is_preexisting),
            owner: connection
                .and_then(|connection| connection.owner.clone())
                .or_else(|| Owner::by_opening(transition).map(Arc::new)),
            in_old_state: Value::known(before, |connection| {
                let us = (transition.time - connection.last_transition) / 1000;
                Value::micros(us, connection.state_since_is_lower_bound())
            }),
            transition: transition.clone(),
            netns_inode,
        }
    }
}

/// All columns of a transition.
pub const COLUMNS: &[Column<TransitionLine>] = columns! {
    "schema" "" Version(SCHEMA), Data, SCHEMA_HELP, |_| Value::Int(SCHEMA);
    "time" "TIME" Time, Table(Left(27)), "Time of the transition.", |s| Value::Text(date(s.clock.date(s.transition.time)));
    "role" "ROLE" Word(Role::NAMES) or null, Table(Left(6)), "The side that this host is; null for a listener, unknown (? in tables) if the beginning of the connection was not observed and nothing proves a role.",
        |s| Value::known(s.role, Value::role);
    "local_addr" "LOCAL" Address, Table(Left(15)), "Local address.", |s| Value::Text(s.transition.local.ip().to_string());
    "local_port" "LPORT" Number, Table(Right(5)), "Local port; 0 before one is chosen.", |s| Value::Int(s.transition.local.port().into());
    "remote_addr" "REMOTE" Address, Table(Left(15)), "Remote address.", |s| Value::Text(s.transition.remote.ip().to_string());
    "remote_port" "RPORT" Number, Table(Right(5)), "Remote port.", |s| Value::Int(s.transition.remote.port().into());
    "old" "FROM" Word(STATES), Table(Left(11)), "The old state.", |s| Value::Word(s.transition.old.name());
    "new" "TO" Word(STATES), Table(Left(11)), "The new state.", |s| Value::Word(s.transition.new.name());
    "in_old_state_us" "AFTER" Micros or null, Table(Right(7)), "Time spent in the old state; a lower bound (≥ in tables) if its beginning was not observed. From SYN_RECV to ESTABLISHED this is time in the kernel, not on the network.",
        |s| s.in_old_state.clone();
    "owner" "OWNER" Text or null, Table(Left(15)), "Name of the owning process.",
        |s| Value::known(s.owner.as_ref(), |owner| Value::Text(owner.label.name.to_string()));
    "pid" "PID" Number or null, Wide(Right(7)), "Id of the owning process.", |s| Value::known(s.owner.as_ref().and_then(|owner| owner.pid), |pid| Value::Int(pid.into()));
    "err" "ERR" Number, Wide(Right(4)), "The socket's error (errno); 0 if none.", |s| Value::Int(s.transition.err.into());
    "rtt_us" "RTT" Micros, Wide(Right(7)), "Smoothed round-trip time; 0 if the kernel has no measurement.",
        |s| Value::Micros(s.transition.rtt_us.into());
    "retransmits" "RTX" Count("segments"), Wide(Right(4)), "Segments retransmitted so far.", |s| Value::Int(s.transition.total_retransmits.into());
    "netns" "NETNS" Number, Wide(Right(10)), "Inode number of the network namespace.", |s| Value::Int(s.netns_inode.into());
    "preexisting" "OLD" Bool or null, Wide(Left(3)), "Whether the connection existed before the trace began, or a checkpoint restored it (TCP_REPAIR); null for a listener.",
        |s| Value::known(s.is_preexisting, Value::Bool);
    "sock" "" Text, Data, "The socket's kernel address, hexadecimal.", |s| Value::Text(format!("{:x}", s.transition.sock));
};
