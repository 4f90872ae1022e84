//! TCP states: the spellings that synfin accepts, and explanations.

use synfin_common::state::TcpState;

use crate::tcp::labels::Enumeration;

/// Other names of states in RFC 9293, `ss` and `netstat`, normalized.
const ALIASES: [(&str, TcpState); 6] = [
    ("closed", TcpState::Close),
    ("unconn", TcpState::Close),
    ("estab", TcpState::Established),
    ("listening", TcpState::Listen),
    ("synrcvd", TcpState::SynRecv),
    ("synreceived", TcpState::SynRecv),
];

/// A normalized spelling: `FIN-WAIT-1` and `fin_wait1` are `finwait1`.
pub(crate) fn normalized(word: &str) -> String {
    let letters = word.chars().filter(|letter| !matches!(letter, '-' | '_' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// The state with this name, in any common spelling; `None` if there is none.
pub fn from_name(word: &str) -> Option<TcpState> {
    let word = normalized(word);
    let state = TcpState::ALL.into_iter().find(|state| normalized(state.name()) == word);
    state.or_else(|| ALIASES.iter().find(|(alias, _)| *alias == word).map(|&(_, state)| state))
}

/// The state's name as RFC 9293 and `ss` write it: `FIN-WAIT-1`.
pub fn title(state: TcpState) -> String {
    let letters = state.name().chars().flat_map(|letter| match letter {
        '_' => vec!['-'],
        '0'..='9' => vec!['-', letter],
        letter => vec![letter.to_ascii_uppercase()],
    });
    letters.collect()
}

/// An explanation for the user: how a socket enters this state, and which side waits for which event.
pub const fn meaning(state: TcpState) -> &'static str {
    match state {
        TcpState::SynSent => {
            "connect() has sent a SYN: this host waits for the peer's SYN-ACK, retransmits the SYN, and \
             gives up after net.ipv4.tcp_syn_retries."
        }
        TcpState::SynRecv => {
            "A SYN was received and answered with SYN-ACK: this host waits for the peer's ACK, the last \
             step of the handshake. Most sockets of servers leave this state at once, as Linux \
             creates them when that ACK arrives."
        }
        TcpState::NewSynRecv => {
            "A handshake at a listener, for which the kernel keeps a small request and no socket \
             yet: this host waits for the peer's ACK. Only a scan of all sockets shows it; ss lists it \
             as SYN-RECV."
        }
        TcpState::Established => {
            "The handshake is complete and neither side has closed: data can flow in both directions."
        }
        TcpState::FinWait1 => {
            "This host closed first and has sent a FIN: it waits for the peer's kernel to acknowledge \
             the FIN and all data before it."
        }
        TcpState::FinWait2 => {
            "This host closed first and the peer's kernel has acknowledged the FIN: this host waits for \
             the peer's application to close too. Once no local process holds the socket, \
             net.ipv4.tcp_fin_timeout limits the wait."
        }
        TcpState::Closing => {
            "Both sides sent a FIN before they received the other's: this host waits for the peer's \
             kernel to acknowledge its FIN."
        }
        TcpState::TimeWait => {
            "Both sides have closed, this host first or at the same time: neither waits any more, but \
             the kernel reserves the pair of addresses and ports for a minute, so that late \
             segments are not taken for those of a new connection."
        }
        TcpState::CloseWait => {
            "The peer has closed and waits for the local application to close too. If a socket \
             stays in this state for long, the application probably forgot to close it."
        }
        TcpState::LastAck => {
            "The peer closed first and this host second: it waits for the peer's kernel to acknowledge \
             its FIN."
        }
        TcpState::Listen => {
            "A listener, which is not a connection: it waits for SYNs, and every handshake creates a \
             socket of its own."
        }
        TcpState::Close => "No connection: none has begun, or it has ended.",
    }
}

/// The names of all states.
pub const STATES: Enumeration =
    Enumeration { name: "state", all: || TcpState::ALL.map(TcpState::name).into() };

/// Whether the handshake is not complete in this state.
pub(crate) const fn is_pending(state: TcpState) -> bool {
    matches!(state, TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv)
}

/// Whether this side has closed the connection, and the kernel completes the close. No process need have
/// the socket open any more.
pub(crate) const fn is_closing(state: TcpState) -> bool {
    matches!(state, TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck)
}

/// The states of an open connection, in the order of RFC 9293.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_spelling_is_accepted() {
        for state in TcpState::ALL {
            let name = state.name();
            let spellings =
                [name.into(), name.to_uppercase(), name.replace('_', "-"), title(state)];
            for word in spellings {
                assert_eq!(from_name(&word), Some(state), "{word}");
            }
        }
        for word in ["FIN-WAIT-1", "fin_wait_1", "FinWait1", "FIN WAIT 1"] {
            assert_eq!(from_name(word), Some(TcpState::FinWait1), "{word}");
        }
        assert_eq!(from_name("ESTAB"), Some(TcpState::Established));
        assert_eq!(from_name("SYN-RECEIVED"), Some(TcpState::SynRecv));
        for word in ["", "-", "fin", "fin_wait", "fin_wait3"] {
            assert_eq!(from_name(word), None, "{word:?}");
        }
    }
}
