//! The TCP state machine, as far as the books need it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use synfin_common::state::TcpState;

use crate::figure::Words;

/// Which side of the handshake we were. Decided at birth, never guessed from port numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Born from a listener.
    Server,
    /// Born by connect().
    Client,
}

impl Role {
    /// Their names.
    pub const WORDS: Words =
        Words { name: "role", all: || [Self::Server, Self::Client].map(Self::name).into() };

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// The port that a connection is about: the listener's for a server, the remote one for a
    /// client.
    pub const fn service_port(self, local: SocketAddr, remote: SocketAddr) -> u16 {
        match self {
            Self::Server => local.port(),
            Self::Client => remote.port(),
        }
    }
}

/// What a transition is to a socket's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A life begins.
    Birth(Role),
    /// The socket becomes a listener, which is no connection.
    Listens,
    /// A listener closes.
    StopsListening,
    /// A life goes on.
    Onward,
    /// A life ends.
    End,
}

impl Step {
    pub(crate) const fn of(old: TcpState, new: TcpState) -> Self {
        match (old, new) {
            (_, TcpState::Listen) => Self::Listens,
            (TcpState::Listen, TcpState::SynRecv) => Self::Birth(Role::Server),
            (TcpState::Listen, _) => Self::StopsListening,
            (_, TcpState::SynSent) => Self::Birth(Role::Client),
            (_, TcpState::Close) => Self::End,
            _ => Self::Onward,
        }
    }
}

/// The names of all states.
pub const STATES: Words = Words { name: "state", all: || TcpState::ALL.map(TcpState::name).into() };

/// Whether the handshake is not through in this state.
pub(crate) const fn is_pending(state: TcpState) -> bool {
    matches!(state, TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv)
}

/// The states that an open connection can be in, in the order of the textbook.
pub const OPEN_STATES: [TcpState; 9] = [
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::TimeWait,
];
