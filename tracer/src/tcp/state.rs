//! TCP states for people: how they write them, and what they mean.

use synfin_common::state::TcpState;

use crate::tcp::labels::Enumeration;

/// What some states are called elsewhere, as [`spelled`]: by RFC 9293, `ss`, `netstat`.
const ALIASES: [(&str, TcpState); 6] = [
    ("closed", TcpState::Close),
    ("unconn", TcpState::Close),
    ("estab", TcpState::Established),
    ("listening", TcpState::Listen),
    ("synrcvd", TcpState::SynRecv),
    ("synreceived", TcpState::SynRecv),
];

/// A word without what people write differently: `FIN-WAIT-1` and `fin_wait1` are `finwait1`.
pub(crate) fn spelled(word: &str) -> String {
    let letters = word.chars().filter(|letter| !matches!(letter, '-' | '_' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// The state that `word` is a name of, in whatever spelling.
pub fn named(word: &str) -> Option<TcpState> {
    let word = spelled(word);
    let state = TcpState::ALL.into_iter().find(|state| spelled(state.name()) == word);
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

/// What a socket in this state has behind it, and who waits for what.
pub const fn meaning(state: TcpState) -> &'static str {
    match state {
        TcpState::SynSent => {
            "connect() has sent a SYN: we wait for the peer's SYN-ACK, send the SYN again and \
             again, and give up after net.ipv4.tcp_syn_retries."
        }
        TcpState::SynRecv => {
            "A SYN has come and our SYN-ACK is out: we wait for the peer's ACK, the last step of \
             the handshake. Most servers' sockets pass through it in no time, as Linux makes them \
             when that ACK comes."
        }
        TcpState::NewSynRecv => {
            "A handshake at a listener, for which the kernel keeps a small request and no socket \
             yet: we wait for the peer's ACK. Only a walk over all sockets sees it; ss shows it as \
             SYN-RECV."
        }
        TcpState::Established => {
            "The handshake is through and nobody has closed: data flows both ways, and each side \
             waits for what the other's application has to say."
        }
        TcpState::FinWait1 => {
            "We closed first and our FIN is out: we wait for the peer's kernel to acknowledge it \
             and all data before it."
        }
        TcpState::FinWait2 => {
            "We closed first and the peer's kernel knows: we wait for the peer's application to \
             close too. Once no process of ours holds the socket, net.ipv4.tcp_fin_timeout limits \
             that."
        }
        TcpState::Closing => {
            "Both sides sent a FIN before they saw the other's: we wait for the peer's kernel to \
             acknowledge ours."
        }
        TcpState::TimeWait => {
            "Both sides have closed, and we not after the peer: nobody waits for anybody any more, \
             but the kernel keeps the pair of addresses and ports for a minute, so that late \
             segments are not taken for those of a new connection."
        }
        TcpState::CloseWait => {
            "The peer has closed: the peer waits for our application to close too. One that stays \
             for long was forgotten by the application."
        }
        TcpState::LastAck => {
            "The peer closed first and now we have: we wait for the peer's kernel to acknowledge \
             our FIN."
        }
        TcpState::Listen => {
            "A listener, which is no connection: it waits for SYNs, and every handshake makes a \
             socket of its own."
        }
        TcpState::Close => "No connection: none has begun, or it is over. Nobody waits.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_known_in_every_spelling() {
        for state in TcpState::ALL {
            let name = state.name();
            let spellings =
                [name.into(), name.to_uppercase(), name.replace('_', "-"), title(state)];
            for word in spellings {
                assert_eq!(named(&word), Some(state), "{word}");
            }
        }
        for word in ["FIN-WAIT-1", "fin_wait_1", "FinWait1", "FIN WAIT 1"] {
            assert_eq!(named(word), Some(TcpState::FinWait1), "{word}");
        }
        assert_eq!(named("ESTAB"), Some(TcpState::Established));
        assert_eq!(named("SYN-RECEIVED"), Some(TcpState::SynRecv));
        for word in ["", "-", "fin", "fin_wait", "fin_wait3"] {
            assert_eq!(named(word), None, "{word:?}");
        }
    }
}

/// The names of all states.
pub const STATES: Enumeration =
    Enumeration { name: "state", all: || TcpState::ALL.map(TcpState::name).into() };

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
