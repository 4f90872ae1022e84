//! Sockets as `ss` prints them.

/// A socket in the output of `ss`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sock {
    /// The state in the spelling of `ss`.
    pub(crate) state: String,
    /// A listener's accept queue: its length and its limit.
    pub(crate) queue: (u64, u64),
    pub(crate) local_port: u16,
    /// 0 for a listener.
    pub(crate) remote_port: u16,
    /// Whether it is a timewait socket: TIME_WAIT, or an orphan in FIN_WAIT2.
    pub(crate) is_small: bool,
}

impl Sock {
    /// Parses a line of `ss -Htano`.
    pub(super) fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[state, received, sent, local, remote, ref timer @ ..] = fields.as_slice() else {
            panic!("cannot parse this line of ss: {line}");
        };
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("no number in: {line}"));
        let port = |end: &str| {
            let (_, port) = end.rsplit_once(':').unwrap_or_else(|| panic!("no port in: {line}"));
            if port == "*" { 0 } else { number(port) as u16 }
        };
        Self {
            state: state.to_owned(),
            queue: (number(received), number(sent)),
            local_port: port(local),
            remote_port: port(remote),
            is_small: timer.iter().any(|timer| timer.starts_with("timer:(timewait,")),
        }
    }
}
