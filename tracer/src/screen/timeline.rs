//! A connection's connection as the textbook tells it: each segment that opened or closed it, which way it
//! went, and how that is known.

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

/// A moment of a connection's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// When, if that is known.
    pub(crate) time: Option<Nanos>,
    pub(crate) what: What,
    /// The state of our socket from then on, if that is another one.
    pub(crate) state: Option<TcpState>,
    pub(crate) known: Known,
    pub(crate) note: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// We sent this segment.
    Sent(&'static str),
    /// This segment came.
    Came(&'static str),
    /// Nothing that goes over the wire.
    Nothing,
    /// It went wrong here.
    Wrong(CloseReason),
}

/// How it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The kernel told of it when it happened.
    Measured,
    /// It follows from what the kernel measured.
    Derived,
    /// It must have been so, and nothing shows when.
    NotSeen,
}

use Known::{Derived, Measured, NotSeen};
use What::{Came, Nothing, Sent, Wrong};

/// All steps that are known of a connection.
pub(crate) fn timeline(history: &ConnectionHistory) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    let connection = &history.connection;
    let opened_here = connection.opened.is_some();
    if !opened_here {
        steps.unknown("first seen here: what was before is not known");
    }
    for &change in &history.changes {
        let at = Some(change.time);
        let left_time_wait = connection.time_wait == Some(true) && change.new == Close;
        match (change.old, change.new) {
            (Close, SynSent) => steps.segment(at, Sent("SYN"), Measured),
            (SynSent, Established) => {
                steps.segment(at, Came("SYN-ACK"), Measured);
                steps.noted(handshake(connection.handshake));
                steps.segment(at, Sent("ACK"), Measured);
            }
            (SynSent, SynRecv) => {
                steps.segment(at, Came("SYN"), Measured);
                steps.noted("both sides connect at once".into());
                steps.segment(at, Sent("SYN-ACK"), Measured);
            }
            (_, SynRecv) => steps.server(at, connection.handshake),
            (SynRecv, Established) if connection.role == Role::Client => {
                steps.segment(at, Came("ACK"), Measured);
            }
            // The kernel makes a server's socket when the last ACK comes.
            (SynRecv, Established) => {}
            (_, FinWait1) => {
                steps.segment(at, Sent("FIN"), Measured);
                steps.noted("we close first".into());
            }
            (FinWait1, FinWait2) => steps.segment(at, Came("ACK"), Measured),
            (FinWait1, Closing) => {
                steps.segment(at, Came("FIN"), Measured);
                steps.noted("both sides close at once".into());
                steps.segment(at, Sent("ACK"), Measured);
            }
            (Established | SynRecv, CloseWait) => {
                steps.segment(at, Came("FIN"), Measured);
                steps.noted("the peer closes first".into());
                steps.segment(None, Sent("ACK"), NotSeen);
            }
            (CloseWait, LastAck) => {
                steps.segment(at, Sent("FIN"), Measured);
                steps.noted(format!(
                    "{} after the peer's",
                    span(&history.changes, CloseWait, change.time)
                ));
            }
            (Closing, _) if left_time_wait => steps.segment(at, Came("ACK"), Measured),
            (FinWait1, _) if left_time_wait => {
                steps.segment(None, Came("ACK"), NotSeen);
                steps.last_two();
            }
            (FinWait2, _) if left_time_wait => steps.last_two(),
            (LastAck, Close) if !goes_wrong(connection.reason) => {
                steps.segment(at, Came("ACK"), Measured);
            }
            _ => {}
        }
        match connection.reason.filter(|_| change.new == Close) {
            Some(reason) if goes_wrong(Some(reason)) => steps.wrong(at, reason),
            _ if left_time_wait => {
                steps.state(at, TimeWait);
                steps.noted("60 s, for late segments".into());
            }
            _ => steps.state(at, change.new),
        }
    }
    if history.changes.is_empty()
        && let (Some(reason), Some(closed)) = (connection.reason, connection.closed)
    {
        steps.wrong(Some(closed), reason);
    }
    steps.0
}

fn goes_wrong(reason: Option<CloseReason>) -> bool {
    reason.is_some_and(|reason| reason.class() != Class::Normal)
}

/// How long the connection was in this state by then.
fn span(changes: &[Change], state: TcpState, until: Nanos) -> String {
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
            format!("after {took}: sent again {times} times")
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

    /// More about the last step.
    fn noted(&mut self, note: String) {
        if let Some(step) = self.0.last_mut() {
            step.note = note;
        }
    }

    fn unknown(&mut self, note: &str) {
        let note = note.to_owned();
        self.0.push(Step { time: None, what: Nothing, state: None, known: NotSeen, note });
    }

    /// A server's handshake is through before there is a socket: its first two segments follow from
    /// how long the kernel says that it took.
    fn server(&mut self, ack: Option<Nanos>, measured: Option<Handshake>) {
        let us = measured.and_then(|handshake| handshake.us());
        let synack = us.zip(ack).map(|(us, ack)| ack.saturating_sub(u64::from(us) * 1000));
        let known = if synack.is_some() { Derived } else { NotSeen };
        self.segment(synack, Came("SYN"), known);
        self.segment(synack, Sent("SYN-ACK"), known);
        self.segment(ack, Came("ACK"), Measured);
        self.noted(handshake(measured));
    }

    /// What ends a close that we began: nothing in the kernel tells when these two go over the wire.
    fn last_two(&mut self) {
        self.segment(None, Came("FIN"), NotSeen);
        self.segment(None, Sent("ACK"), NotSeen);
    }

    /// Our socket is in another state, by what was last told.
    fn state(&mut self, time: Option<Nanos>, state: TcpState) {
        if self.0.last().is_none_or(|step| step.state.is_some()) {
            self.segment(time, Nothing, Measured);
        }
        if let Some(step) = self.0.last_mut() {
            step.state = Some(state);
        }
    }

    fn wrong(&mut self, time: Option<Nanos>, reason: CloseReason) {
        // What tells of the end is the segment, if there is one.
        let segment = match reason {
            CloseReason::ConnectRefusedRst
            | CloseReason::ResetByPeer
            | CloseReason::ResetByPeerClosing => Some(Came("RST")),
            CloseReason::ResetByUsUnreadData
            | CloseReason::ResetByUsDataAfterClose
            | CloseReason::ResetByUsMemory
            | CloseReason::ResetByUsListenerClosed
            | CloseReason::ResetByUsLinger0
            | CloseReason::ResetByUsDisconnect
            | CloseReason::ResetByUsLinger2 => Some(Sent("RST")),
            CloseReason::ConnectRefusedIcmp
            | CloseReason::ConnectUnreachableHost
            | CloseReason::ConnectUnreachableNet => Some(Came("ICMP")),
            _ => None,
        };
        if let Some(segment) = segment {
            self.segment(time, segment, Measured);
        }
        let note = reason.info().title.to_owned();
        self.0.push(Step { time, what: Wrong(reason), state: None, known: Measured, note });
    }
}
