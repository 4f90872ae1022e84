//! Compares the traced connections with those that the self-test made. Pure.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use crate::{
    tcp::{
        close_reason::CloseReason,
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    tracker::{Closed, Origin},
};

/// How one end of a connection that was made must be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// Name of the scenario that made it.
    pub(super) scenario: &'static str,
    pub(super) role: Role,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) reason: CloseReason,
    /// Whether its handshake completed.
    pub(super) established: bool,
    pub(super) time_wait: bool,
    /// Payload bytes sent and acknowledged, and received; `None`: the scenario does not determine
    /// them.
    pub(super) bytes: Option<(u64, u64)>,
}

/// One end of a closed connection as it was traced.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Observed {
    role: Role,
    local: SocketAddr,
    remote: SocketAddr,
    reason: CloseReason,
    handshake: Option<Handshake>,
    /// Whether it entered TIME_WAIT; `None`: unknown, because the kernel's TIME_WAIT table was
    /// full.
    time_wait: Option<bool>,
    bytes: Option<(u64, u64)>,
    pid: Option<u32>,
    from_start: bool,
}

impl From<&Closed> for Observed {
    fn from(closed: &Closed) -> Self {
        Self {
            role: closed.role,
            local: closed.local,
            remote: closed.remote,
            reason: closed.reason,
            handshake: closed.handshake,
            time_wait: closed.time_wait,
            bytes: closed.bytes_sent.zip(closed.bytes_received),
            pid: closed.owner.as_ref().and_then(|owner| owner.pid),
            from_start: closed.origin == Origin::Observed,
        }
    }
}

/// Properties of the host that affect the results, besides the scenarios.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Circumstances {
    /// Our process id in the initial PID namespace; `None`: unknown.
    pub(super) pid: Option<u32>,
    /// Whether the kernel answers every SYN with a SYN cookie (`tcp_syncookies` is 2), so that no
    /// handshake of a server can be measured.
    pub(super) cookies: bool,
}

/// Maximum number of servers' handshakes that may be unmeasured. The tracker takes a handshake of
/// whole milliseconds, about one in a thousand, for one with a SYN cookie and does not measure it.
const MAX_UNMEASURED: usize = 2;

/// Upper limit of a handshake on loopback in microseconds, even on a busy host.
const LONGEST_HANDSHAKE_US: u32 = 1_000_000;

/// Lists the deviations of `seen` from `expected`, one line each.
pub(super) fn deviations(
    expected: &[Expected],
    seen: &[Observed],
    circumstances: Circumstances,
) -> Vec<String> {
    let mut by_addresses: HashMap<_, VecDeque<&Observed>> = HashMap::new();
    for seen in seen {
        by_addresses.entry((seen.role, seen.local, seen.remote)).or_default().push_back(seen);
    }
    let mut unmeasured = 0;
    let mut deviations = Vec::new();
    for expected in expected {
        let Expected { scenario, role, local, remote, .. } = expected;
        let mut differs = |what: String| {
            deviations.push(format!("{scenario}: {} {local} {remote}: {what}", role.name()));
        };
        // Ports may be reused, so endpoints with the same addresses are in the order of creation.
        let seen = by_addresses.get_mut(&(*role, *local, *remote)).and_then(VecDeque::pop_front);
        match seen {
            None => differs("its close was not traced".to_owned()),
            Some(seen) => {
                let measured = seen.handshake.is_none_or(|handshake| handshake.us().is_some());
                let may_be_unmeasured = expected.may_be_unmeasured(seen, circumstances, unmeasured);
                unmeasured += usize::from(!measured && !circumstances.cookies);
                expected.compare(seen, circumstances.pid, may_be_unmeasured, &mut differs);
            }
        }
    }
    for expected in expected {
        let Expected { scenario, role, local, remote, .. } = expected;
        let rest = by_addresses.remove(&(*role, *local, *remote)).unwrap_or_default();
        for seen in rest {
            let (role, reason) = (role.name(), seen.reason.id());
            deviations
                .push(format!("{scenario}: {role} {local} {remote}: was traced again ({reason})"));
        }
    }
    deviations
}

impl Expected {
    fn may_be_unmeasured(
        &self,
        seen: &Observed,
        circumstances: Circumstances,
        unmeasured: usize,
    ) -> bool {
        self.role == Role::Server
            && seen.handshake == Some(Handshake::Unmeasured(Unmeasured::SynCookie))
            && (circumstances.cookies || unmeasured < MAX_UNMEASURED)
    }

    fn compare(
        &self,
        seen: &Observed,
        pid: Option<u32>,
        may_be_unmeasured: bool,
        differs: &mut impl FnMut(String),
    ) {
        let was_not = |what: &str, was: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
            format!("{what} is {was:?}, not {expected:?}")
        };
        if !seen.from_start {
            differs("was not traced from its first transition".to_owned());
        }
        if seen.reason != self.reason {
            differs(format!("the reason is {}, not {}", seen.reason.id(), self.reason.id()));
        }
        if let Some(time_wait) = seen.time_wait
            && time_wait != self.time_wait
        {
            differs(was_not("time_wait", &time_wait, &self.time_wait));
        }
        if self.bytes.is_some() && seen.bytes != self.bytes {
            differs(was_not("(sent, received)", &seen.bytes, &self.bytes));
        }
        if pid.is_some() && seen.pid != pid {
            differs(was_not("the owner", &seen.pid, &pid));
        }
        match (self.established, seen.handshake) {
            (false, None) => {}
            (true, Some(Handshake::Clean { us: 1..=LONGEST_HANDSHAKE_US })) => {}
            (true, Some(Handshake::Unmeasured(_))) if may_be_unmeasured => {}
            (true, handshake) => {
                differs(format!("the handshake is {handshake:?}, not a clean one"));
            }
            (false, handshake) => {
                differs(format!("the handshake is {handshake:?}, although none completed"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 77;
    const OURS: Circumstances = Circumstances { pid: Some(PID), cookies: false };

    fn end(port: u16) -> Expected {
        Expected {
            scenario: "closed by the client",
            role: Role::Server,
            local: "127.0.0.1:5432".parse().unwrap(),
            remote: SocketAddr::from(([127, 0, 0, 1], port)),
            reason: CloseReason::ClosedByPeer,
            established: true,
            time_wait: false,
            bytes: Some((1000, 100)),
        }
    }

    fn as_expected(expected: Expected) -> Observed {
        let Expected { role, local, remote, reason, time_wait, bytes, .. } = expected;
        let handshake = expected.established.then_some(Handshake::Clean { us: 23 });
        Observed {
            role,
            local,
            remote,
            reason,
            handshake,
            time_wait: Some(time_wait),
            bytes,
            pid: Some(PID),
            from_start: true,
        }
    }

    #[test]
    fn expected_connections_do_not_differ() {
        let expected = [end(1), end(2)];
        let mut seen = expected.map(as_expected).to_vec();
        seen.push(as_expected(end(3)));
        assert_eq!(deviations(&expected, &seen, OURS), [""; 0], "other connections are ignored");
    }

    #[test]
    fn every_deviation_is_named() {
        let right = as_expected(end(1));
        let tampered = |seen: Observed, named: &str| {
            let found = deviations(&[end(1)], &[seen], OURS);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].starts_with("closed by the client: server 127.0.0.1:5432 127.0.0.1:1: ")
            );
            assert!(found[0].contains(named), "{found:?}");
        };
        tampered(
            Observed { reason: CloseReason::ResetByPeer, ..right.clone() },
            "the reason is reset_by_peer, not closed_by_peer",
        );
        tampered(
            Observed { time_wait: Some(true), ..right.clone() },
            "time_wait is true, not false",
        );
        tampered(
            Observed { bytes: Some((1000, 101)), ..right.clone() },
            "is Some((1000, 101)), not Some((1000, 100))",
        );
        tampered(Observed { bytes: None, ..right.clone() }, "is None, not Some((1000, 100))");
        tampered(Observed { pid: Some(1), ..right.clone() }, "the owner is Some(1), not Some(77)");
        tampered(Observed { pid: None, ..right.clone() }, "the owner is None");
        tampered(
            Observed { from_start: false, ..right.clone() },
            "was not traced from its first transition",
        );
        tampered(Observed { handshake: None, ..right.clone() }, "the handshake is None");
        tampered(
            Observed { handshake: Some(Handshake::Clean { us: 5_000_000 }), ..right.clone() },
            "5000000",
        );
        let retransmitted = Handshake::Retransmitted { us: 1_000_000, times: 1 };
        tampered(Observed { handshake: Some(retransmitted), ..right.clone() }, "Retransmitted");
        tampered(Observed { role: Role::Client, ..right }, "its close was not traced");
    }

    #[test]
    fn a_connection_traced_twice_differs() {
        let seen = [as_expected(end(1)), as_expected(end(1))];
        assert_eq!(deviations(&[end(1), end(1)], &seen, OURS), [""; 0]);
        let found = deviations(&[end(1)], &seen, OURS);
        assert!(found.len() == 1 && found[0].contains("again (closed_by_peer)"), "{found:?}");
    }

    #[test]
    fn a_failed_connection_has_no_handshake() {
        let refused = Expected { established: false, bytes: None, ..end(1) };
        let seen = Observed { handshake: Some(Handshake::Clean { us: 1 }), ..as_expected(refused) };
        let found = deviations(&[refused], &[seen], OURS);
        assert!(found.len() == 1 && found[0].contains("none completed"), "{found:?}");
    }

    #[test]
    fn handshakes_with_syn_cookies_may_be_unmeasured() {
        let cookie = Some(Handshake::Unmeasured(Unmeasured::SynCookie));
        let expected: Vec<_> = (1..=10).map(end).collect();
        let seen: Vec<_> = expected
            .iter()
            .map(|&end| Observed { handshake: cookie, ..as_expected(end) })
            .collect();
        assert_eq!(deviations(&expected, &seen, OURS).len(), 10 - MAX_UNMEASURED);
        assert_eq!(deviations(&expected, &seen, Circumstances { cookies: true, ..OURS }), [""; 0]);
    }
}
