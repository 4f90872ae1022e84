//! The TCP state machine, as far as the books need it.

use synfin_common::state::TcpState;

use crate::tcp::role::Role;

/// What a transition is to a socket's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransitionKind {
    /// A connection begins.
    Birth(Role),
    /// The socket becomes a listener, which is no connection.
    Listens,
    /// A listener closes.
    StopsListening,
    /// A connection goes on.
    Onward,
    /// A connection ends.
    End,
}

impl TransitionKind {
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
