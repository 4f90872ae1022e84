//! Classification of state transitions.

use synfin_common::state::TcpState;

use crate::tcp::role::Role;

/// The effect of a transition on the connection of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransitionKind {
    /// A connection begins.
    Open(Role),
    /// The socket becomes a listener, which is not a connection.
    Listen,
    /// A listener closes.
    CloseListener,
    /// A connection changes its state.
    Change,
    /// A connection ends.
    Close,
}

impl TransitionKind {
    /// Whether it is the first of a connection, or one of a listener.
    pub(crate) const fn is_beginning(self) -> bool {
        match self {
            Self::Listen | Self::CloseListener | Self::Open(_) => true,
            Self::Change | Self::Close => false,
        }
    }

    pub(crate) const fn of(old: TcpState, new: TcpState) -> Self {
        match (old, new) {
            (_, TcpState::Listen) => Self::Listen,
            (TcpState::Listen, TcpState::SynRecv) => Self::Open(Role::Server),
            (TcpState::Listen, _) => Self::CloseListener,
            (_, TcpState::SynSent) => Self::Open(Role::Client),
            (_, TcpState::Close) => Self::Close,
            _ => Self::Change,
        }
    }
}
