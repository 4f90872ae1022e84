//! The commands that show more of a place.

use std::{ffi::OsString, net::IpAddr, path::Path};

use super::case::{Capture, Look};
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::ids::{HOST_NETNS, NetnsInode},
};

/// Where a finding is, as far as commands can select it.
pub(super) struct Place<'a> {
    pub(super) role: Role,
    pub(super) port: Option<u16>,
    pub(super) remote: Option<IpAddr>,
    pub(super) netns: Option<NetnsInode>,
    pub(super) netns_name: Option<&'a str>,
    pub(super) pid: Option<u32>,
    /// Close reasons of the connections, if they have ended.
    pub(super) reasons: &'a [CloseReason],
}

/// The traffic of a finding, as far as commands can see it again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Traffic<'a> {
    /// It goes on.
    Live,
    /// It is in this recording.
    Recording(&'a Path),
    /// This command, a program and its arguments, made it.
    OfCommand(&'a [OsString]),
}

/// The commands that show more of a finding, ready to be run.
#[derive(Clone, Debug, Default)]
pub struct NextStep {
    /// Shows the connections or sockets.
    pub command: String,
    /// Captures the segments; `None` if these would not tell more.
    pub capture: Option<String>,
}

impl NextStep {
    pub(super) fn of(place: &Place<'_>, look: Look, capture: Capture) -> Self {
        let filter = filter(place);
        let reasons: Vec<_> = place.reasons.iter().map(|reason| reason.id()).collect();
        let command = match look {
            _ if !reasons.is_empty() => {
                format!("synfin connections{filter} --reason {}", reasons.join(","))
            }
            Look::Open(Some(state)) => {
                format!("synfin connections --open{filter} --state {}", state.name())
            }
            Look::Open(None) => format!("synfin connections --open{filter}"),
            Look::Listeners => format!("synfin report --once --wide{filter}"),
            Look::Row => format!("synfin report 1 --wide{filter}"),
            Look::Ending => format!("synfin connections{filter}"),
        };
        let flags = match (capture, place.remote) {
            (Capture::Nothing, _) => return Self { command, capture: None },
            (Capture::All, _) => "",
            // tcpdump finds the flags of IPv4 only.
            (Capture::Handshakes, Some(IpAddr::V6(_))) => "",
            (Capture::Handshakes, _) => " and (ip6 or tcp[tcpflags] & (tcp-syn|tcp-rst) != 0)",
        };
        let port = place.port.map_or_else(|| "tcp".to_owned(), |port| format!("tcp port {port}"));
        let host = place.remote.map_or_else(String::new, |host| format!(" and host {host}"));
        let tcpdump = format!("tcpdump -ni any '{port}{host}{flags}'");
        let capture = match place.netns_name {
            Some(HOST_NETNS) => Some(tcpdump),
            Some(name) => Some(format!("ip netns exec {} {tcpdump}", quoted(name))),
            // Nothing else enters a namespace without a name but by a process in it.
            None => place.pid.map(|pid| format!("nsenter -t {pid} -n {tcpdump}")),
        };
        Self { command, capture }
    }

    /// The same for traffic that is over: its segments are gone.
    pub(super) fn of_traffic(self, traffic: &Traffic<'_>) -> Self {
        let command = self.command.replace(" --once", "");
        let more = match traffic {
            Traffic::Live => return self,
            Traffic::Recording(path) => format!("--from {}", quoted(&path.to_string_lossy())),
            Traffic::OfCommand(words) => {
                let words = words.iter().map(|word| quoted(&word.to_string_lossy()));
                format!("-- {}", words.collect::<Vec<_>>().join(" "))
            }
        };
        Self { command: format!("{command} {more}"), capture: None }
    }

    pub(crate) fn commands(&self) -> impl Iterator<Item = &str> {
        [Some(&self.command), self.capture.as_ref()].into_iter().flatten().map(String::as_str)
    }
}

/// The options that select the row of a place.
fn filter(place: &Place<'_>) -> String {
    let mut filter = String::new();
    if let Some(port) = place.port {
        filter += &format!(" -P {port}");
    }
    if place.role != Role::Unknown {
        filter += &format!(" --role {}", place.role.name());
    }
    if let Some(remote) = place.remote {
        let bits = if remote.is_ipv4() { 32 } else { 128 };
        filter += &format!(" --remote {remote}/{bits}");
    }
    match (place.netns_name, place.netns) {
        (Some(HOST_NETNS), _) => {}
        (Some(name), _) => filter += &format!(" -N {}", quoted(name)),
        (None, Some(inode)) => filter += &format!(" -N {inode}"),
        (None, None) => {}
    }
    filter
}

/// A word for a shell: names come from other users, and from recordings.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/:".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_that_is_over_is_looked_at_where_it_can_be_seen_again() {
        let place = Place {
            role: Role::Server,
            port: Some(80),
            remote: None,
            netns: None,
            netns_name: Some(HOST_NETNS),
            pid: None,
            reasons: &[],
        };
        let next = |traffic: Traffic<'_>| {
            NextStep::of(&place, Look::Listeners, Capture::All).of_traffic(&traffic)
        };
        let live = next(Traffic::Live);
        assert_eq!(live.command, "synfin report --once --wide -P 80 --role server");
        assert!(live.capture.is_some());
        let recorded = next(Traffic::Recording(Path::new("a file.rec")));
        assert_eq!(
            (&*recorded.command, recorded.capture),
            ("synfin report --wide -P 80 --role server --from 'a file.rec'", None)
        );
        let words = ["sh", "-c", "it's"].map(OsString::from);
        let again = next(Traffic::OfCommand(&words));
        assert_eq!(
            (&*again.command, again.capture),
            (r"synfin report --wide -P 80 --role server -- sh -c 'it'\''s'", None)
        );
    }
}
