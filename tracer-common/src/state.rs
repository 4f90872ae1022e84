//! The kernel's TCP states, by their numbers in `include/net/tcp_states.h`.

/// A TCP state as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TcpState {
    /// The handshake is complete; neither side has closed.
    Established = 1,
    /// A SYN has been sent.
    SynSent = 2,
    /// A SYN has been received and answered. A server's child socket enters this state when the
    /// last ACK of the handshake creates it.
    SynRecv = 3,
    /// Our FIN has been sent.
    FinWait1 = 4,
    /// Our FIN has been acknowledged.
    FinWait2 = 5,
    /// Both sides have closed and we closed first: the connection's addresses and ports stay
    /// reserved for a minute.
    TimeWait = 6,
    /// No connection.
    Close = 7,
    /// The peer has closed, we have not.
    CloseWait = 8,
    /// The peer closed first and our FIN has been sent.
    LastAck = 9,
    /// A listener.
    Listen = 10,
    /// Both sides have sent a FIN and ours is not acknowledged yet.
    Closing = 11,
    /// A half-open handshake, which has no full socket yet. Only scans find this state.
    NewSynRecv = 12,
}

impl TcpState {
    /// All states in numerical order.
    pub const ALL: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// The state that the kernel gives this number; `None` if there is none.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1..=12 => Some(Self::ALL[number as usize - 1]),
            _ => None,
        }
    }

    /// The kernel's number of this state.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kernel's name in lower case, which all outputs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::TimeWait => "time_wait",
            Self::Close => "close",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
            Self::NewSynRecv => "new_syn_recv",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TcpState;

    #[test]
    fn numbers_and_states_agree() {
        for number in 0..=u8::MAX {
            match TcpState::from_number(number) {
                Some(state) => assert_eq!(state.number(), number),
                None => assert!(number == 0 || number > 12),
            }
        }
    }
}
