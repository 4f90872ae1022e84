//! The timeline of a connection, as in a textbook diagram: each segment that opened or closed it,
//! its direction, and how it is known.

use synfin_common::state::TcpState::{
    self, Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent,
    TimeWait,
};

use super::connection_history::{Change, ConnectionHistory};
use crate::{
    output::column::Value,
    tcp::{
        close_reason::{Class, CloseReason},
        handshake::Handshake,
        role::Role,
    },
    trace::time::Nanos,
};

/// A step of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The time of the step (CLOCK_MONOTONIC, nanoseconds); `None` if unknown.
    pub(crate) time: Option<Nanos>,
    pub(crate) what: What,
    /// The state that the local socket enters with this step; `None` if it stays the same.
    pub(crate) state: Option<TcpState>,
    pub(crate) known: Known,
    pub(crate) note: String,
}

/// The event of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The local host sent this segment.
    Sent(&'static str),
    /// The local host received this segment.
    Received(&'static str),
    /// No segment was sent or received.
    Nothing,
    /// The connection failed or closed abnormally for this reason.
    Failed(CloseReason),
}

/// How a step is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The kernel reported the step when it happened.
    Measured,
    /// The step follows from the kernel's measurements.
    Derived,
    /// The protocol requires the step, but its time is unknown.
    NotObserved,
}

use Known::{Derived, Measured, NotObserved};
use What::{Failed, Nothing, Received, Sent};

/// The steps of a connection, in order.
pub(crate) fn timeline(history: &ConnectionHistory) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    let connection = &history.connection;
    let opened_here = connection.opened.is_some();
    if !opened_here {
        steps.unknown("first seen here: earlier steps are unknown");
    }
    for &change in &history.changes {
        let at = Some(change.time);
        let left_time_wait = connection.time_wait == Some(true) && change.new == Close;
        match (change.old, change.new) {
            (Close, SynSent) => steps.segment(at, Sent("SYN"), Measured),
            (SynSent, Established) => {
                steps.segment(at, Received("SYN-ACK"), Measured);
                steps.note(handshake(connection.handshake));
                steps.segment(at, Sent("ACK"), Measured);
            }
            (SynSent, SynRecv) => {
                steps.segment(at, Received("SYN"), Measured);
                steps.note("simultaneous open".into());
                steps.segment(at, Sent("SYN-ACK"), Measured);
            }
            (_, SynRecv) => steps.server(at, connection.handshake),
            (SynRecv, Established) if connection.role == Role::Client => {
                steps.segment(at, Received("ACK"), Measured);
            }
            // The kernel creates a server's socket when the last ACK arrives.
            (SynRecv, Established) => {}
            (_, FinWait1) => {
                steps.segment(at, Sent("FIN"), Measured);
                steps.note("this host closes first".into());
            }
            (FinWait1, FinWait2) => steps.segment(at, Received("ACK"), Measured),
            (FinWait1, Closing) => {
                steps.segment(at, Received("FIN"), Measured);
                steps.note("simultaneous close".into());
                steps.segment(at, Sent("ACK"), Measured);
            }
            (Established | SynRecv, CloseWait) => {
                steps.segment(at, Received("FIN"), Measured);
                steps.note("the peer closes first".into());
                steps.segment(None, Sent("ACK"), NotObserved);
            }
            (CloseWait, LastAck) => {
                steps.segment(at, Sent("FIN"), Measured);
                steps.note(format!(
                    "{} after the peer's",
                    time_in(&history.changes, CloseWait, change.time)
                ));
            }
            (Closing, _) if left_time_wait => steps.segment(at, Received("ACK"), Measured),
            (FinWait1, _) if left_time_wait => {
                steps.segment(None, Received("ACK"), NotObserved);
                steps.last_two();
            }
            (FinWait2, _) if left_time_wait => steps.last_two(),
            (LastAck, Close) if !is_not_normal(connection.reason) => {
                steps.segment(at, Received("ACK"), Measured);
            }
            _ => {}
        }
        match connection.reason.filter(|_| change.new == Close) {
            Some(reason) if is_not_normal(Some(reason)) => steps.failed(at, reason),
            _ if left_time_wait => {
                steps.state(at, TimeWait);
                steps.note("60 s, for late segments".into());
            }
            _ => steps.state(at, change.new),
        }
    }
    if history.changes.is_empty()
        && let (Some(reason), Some(closed)) = (connection.reason, connection.closed)
    {
        steps.failed(Some(closed), reason);
    }
    steps.0
}

fn is_not_normal(reason: Option<CloseReason>) -> bool {
    reason.is_some_and(|reason| reason.class() != Class::Normal)
}

/// Formats how long the connection had been in this state at `until`.
fn time_in(changes: &[Change], state: TcpState, until: Nanos) -> String {
    let since = changes.iter().find(|change| change.new == state).map(|change| change.time);
    let us = until.saturating_sub(since.unwrap_or(until)) / 1000;
    Value::Micros(us).to_plain()
}

fn handshake(handshake: Option<Handshake>) -> String {
    let Some(handshake) = handshake else { return String::new() };
    let took = handshake.us().map(|us| Value::Micros(us.into()).to_plain());
    match (handshake, took) {
        (Handshake::Clean { .. }, Some(took)) => format!("after {took}"),
        (Handshake::Retransmitted { times, .. }, Some(took)) => {
            let times = if times == 1 { "once".into() } else { format!("{times} times") };
            format!("after {took}: retransmitted {times}")
        }
        (Handshake::Unmeasured(why), _) => format!("unmeasured: {}", why.name().replace('_', " ")),
        _ => String::new(),
    }
}

struct Steps(Vec<Step>);

impl Steps {
    fn segment(&mut self, time: Option<Nanos>, what: What, known: Known) {
        self.0.push(Step { time, what, state: None, known, note: String::new() });
    }

    /// Adds a note to the last step.
    fn note(&mut self, note: String) {
        if let Some(step) = self.0.last_mut() {
            step.note = note;
        }
    }

    fn unknown(&mut self, note: &str) {
        let note = note.to_owned();
        self.0.push(Step { time: None, what: Nothing, state: None, known: NotObserved, note });
    }

    /// Adds the handshake of a server. The socket exists only from its last segment on: the times
    /// of the first two are derived from the duration that the kernel measured.
    fn server(&mut self, ack: Option<Nanos>, measured: Option<Handshake>) {
        let us = measured.and_then(|handshake| handshake.us());
        let synack = us.zip(ack).map(|(us, ack)| ack.saturating_sub(u64::from(us) * 1000));
        let known = if synack.is_some() { Derived } else { NotObserved };
        self.segment(synack, Received("SYN"), known);
        self.segment(synack, Sent("SYN-ACK"), known);
        self.segment(ack, Received("ACK"), Measured);
        self.note(handshake(measured));
    }

    /// Adds the last two segments of an active close. The kernel does not report when they are sent
    /// or received.
    fn last_two(&mut self) {
        self.segment(None, Received("FIN"), NotObserved);
        self.segment(None, Sent("ACK"), NotObserved);
    }

    /// Sets the state that the local socket enters with the last step.
    fn state(&mut self, time: Option<Nanos>, state: TcpState) {
        if self.0.last().is_none_or(|step| step.state.is_some()) {
            self.segment(time, Nothing, Measured);
        }
        if let Some(step) = self.0.last_mut() {
            step.state = Some(state);
        }
    }

    fn failed(&mut self, time: Option<Nanos>, reason: CloseReason) {
        // The segment that ended the connection, if there was one.
        let segment = match reason {
            CloseReason::ConnectRefusedRst
            | CloseReason::ResetByPeer
            | CloseReason::ResetByPeerClosing => Some(Received("RST")),
            CloseReason::ResetByUsUnreadData
            | CloseReason::ResetByUsDataAfterClose
            | CloseReason::ResetByUsMemory
            | CloseReason::ResetByUsListenerClosed
            | CloseReason::ResetByUsLinger0
            | CloseReason::ResetByUsDisconnect
            | CloseReason::ResetByUsLinger2
            | CloseReason::ResetByUsMptcp => Some(Sent("RST")),
            CloseReason::ConnectRefusedIcmp
            | CloseReason::ConnectUnreachableHost
            | CloseReason::ConnectUnreachableNet => Some(Received("ICMP")),
            _ => None,
        };
        if let Some(segment) = segment {
            self.segment(time, segment, Measured);
        }
        let note = reason.info().title.to_owned();
        self.0.push(Step { time, what: Failed(reason), state: None, known: Measured, note });
    }
}
