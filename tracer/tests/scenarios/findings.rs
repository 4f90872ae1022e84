//! Findings that follow from several rows: of services that listen on some of the addresses that clients
//! try, and of connections of which both ends are on this host.

use synfin::{
    findings::{Finding, Severity, diagnose},
    tcp::role::Role,
    trace::session::Session,
};
use synfin_common::{event::Flags, state::TcpState::*};
use synfin_testkit::{HERE, SHUT, Socket, TracedKernel, address, closing};

const ECONNRESET: u8 = 104;
const ECONNREFUSED: u8 = 111;

/// The flags of a socket that a process closes with SO_LINGER 0.
const LINGER0: Flags = Flags::HAS_SOCKET.with(SHUT).with(Flags::LINGER0);

/// A host with clients, whose sockets have consecutive ids and ports.
struct Host {
    kernel: TracedKernel,
    sockets: u64,
}

impl Host {
    fn new() -> Self {
        let mut kernel = TracedKernel::scanned();
        kernel.shows_children = true;
        Self { kernel, sockets: 0 }
    }

    fn socket(&mut self, role: Role, local: &str, remote: &str) -> Socket {
        self.sockets += 1;
        let (local, remote) = (address(local), address(remote));
        Socket { id: self.sockets, netns: HERE, role, local, remote }
    }

    fn listens(&mut self, on: &str) {
        let any = if address(on).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let listener = self.socket(Role::Server, on, any);
        self.kernel.listens(listener, "web");
    }

    /// Three attempts of a client succeed; at both ends if the server is on this host too.
    fn is_accepted(&mut self, from: &str, at: &str, is_here: bool) {
        for _ in 0..3 {
            let client = self.connected(from, at);
            if is_here {
                self.accepted(client);
            }
        }
    }

    /// A client's end of an established connection.
    fn connected(&mut self, from: &str, at: &str) -> Socket {
        let client = self.client(from, at);
        self.kernel.establishes(client, SynSent, 100, 0, Flags(0));
        client
    }

    /// The server's end of it.
    fn accepted(&mut self, client: Socket) -> Socket {
        let (at, from) = (client.remote.to_string(), client.local.to_string());
        let child = self.socket(Role::Server, &at, &from);
        self.kernel.connection(child, &[SynRecv, Established]);
        child
    }

    /// A peer resets a connection on which it has sent data.
    fn is_reset(&mut self, socket: Socket) {
        self.kernel.closes_with(socket, Established, |end| {
            (end.flags, end.err) = (Flags::HAS_SOCKET, ECONNRESET);
            end.closing = Some(closing(100, 40));
        });
    }

    fn is_refused(&mut self, from: &str, at: &str) {
        for _ in 0..3 {
            let client = self.client(from, at);
            self.kernel.receives_reset(client);
            self.kernel.closes(client, SynSent, Flags::HAS_SOCKET, ECONNREFUSED);
        }
    }

    fn client(&mut self, from: &str, at: &str) -> Socket {
        let local = format!("{from}:{}", 40_000 + self.sockets);
        let client = self.socket(Role::Client, &local, at);
        self.kernel.opens(client, (Close, SynSent), Some((802, b"curl")));
        client
    }

    #[track_caller]
    fn only_finding(mut self) -> Finding {
        let snapshot = self.kernel.tracker.take_snapshot();
        let mut found = diagnose(&Session::default(), &snapshot);
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }
}

#[test]
fn a_service_on_one_address_of_localhost_is_named() {
    let mut host = Host::new();
    host.listens("127.0.0.1:8080");
    host.is_accepted("127.0.0.1", "127.0.0.1:8080", true);
    host.is_refused("[::1]", "[::1]:8080");
    let found = host.only_finding();
    let about = (found.rule.id, found.role, found.port, found.severity);
    assert_eq!(about, ("nobody_listens", Role::Server, Some(8080), Severity::Warning));
    assert_eq!(
        found.seen,
        "3 attempts of clients on this host were refused: nothing listens on [::1]:8080; \
         listeners are on 127.0.0.1:8080"
    );
    assert!(found.advice.contains("localhost has ::1 and 127.0.0.1"), "{}", found.advice);
    let [effect] = &found.affects[..] else { panic!("{found:#?}") };
    assert!(effect.starts_with("clients of [::1]:8080 (curl"), "{effect}");
    assert!(effect.ends_with("; at 127.0.0.1:8080 the same clients are accepted"), "{effect}");
}

#[test]
fn a_listener_for_ipv6_only_is_named() {
    let mut host = Host::new();
    host.listens("[::]:8080");
    host.is_accepted("[::1]", "[::1]:8080", true);
    host.is_refused("127.0.0.1", "127.0.0.1:8080");
    let found = host.only_finding();
    assert_eq!((found.rule.id, found.severity), ("nobody_listens", Severity::Warning));
    let part = "nothing listens on 127.0.0.1:8080; listeners are on [::]:8080, for IPv6 only";
    assert!(found.seen.contains(part), "{}", found.seen);
}

#[test]
fn clients_that_try_no_other_address_fail() {
    let mut host = Host::new();
    host.listens("192.0.2.1:8080");
    host.is_refused("127.0.0.1", "127.0.0.1:8080");
    let found = host.only_finding();
    assert_eq!((found.rule.id, found.severity), ("nobody_listens", Severity::Critical));
    let part =
        "something listens on the port (192.0.2.1:8080); clients on this host try 127.0.0.1:8080";
    assert!(found.seen.contains(part), "{}", found.seen);
    assert_eq!(found.affects.len(), 1, "{found:#?}");
}

#[test]
fn one_address_family_of_another_host_is_named() {
    let mut host = Host::new();
    host.is_accepted("192.0.2.1", "198.51.100.80:443", false);
    host.is_refused("[2001:db8::1]", "[2001:db8::80]:443");
    let found = host.only_finding();
    let about = (found.rule.id, found.role, found.severity);
    assert_eq!(about, ("connect_refused", Role::Client, Severity::Warning));
    assert_eq!(found.title, "one of two addresses refuses connections");
    let part = "at 198.51.100.80:443 the same clients are accepted";
    assert!(found.seen.contains(part), "{}", found.seen);
}

#[test]
fn destinations_of_one_family_are_different_services() {
    let mut host = Host::new();
    host.is_accepted("192.0.2.1", "198.51.100.80:443", false);
    host.is_accepted("192.0.2.1", "198.51.100.81:443", false);
    host.is_refused("[2001:db8::1]", "[2001:db8::80]:443");
    let found = host.only_finding();
    assert_eq!((found.rule.id, found.severity), ("connect_refused", Severity::Critical));
    assert!(!found.seen.contains("accepted"), "{}", found.seen);
}

#[test]
fn a_client_that_closes_by_a_reset_is_named_at_the_server() {
    let mut host = Host::new();
    host.listens("127.0.0.1:8080");
    for _ in 0..8 {
        let client = host.connected("127.0.0.1", "127.0.0.1:8080");
        let server = host.accepted(client);
        host.kernel.closes(client, Established, LINGER0, 0);
        host.is_reset(server);
    }
    let found = host.only_finding();
    let about = (found.rule.id, found.role, found.severity);
    assert_eq!(about, ("reset_by_peer", Role::Server, Severity::Notice));
    assert_eq!(found.title, "clients on this host close by a reset (SO_LINGER 0)");
    let part = "8 of 8 connections were reset by the peer (100 %); at the other end, on this host, \
                curl (process 802) closed 8 connections with SO_LINGER 0";
    assert_eq!(found.seen, part);
    assert!(found.advice.contains("curl"), "{}", found.advice);
}

#[test]
fn a_server_that_closes_by_a_reset_is_named_at_its_clients() {
    let mut host = Host::new();
    host.listens("127.0.0.1:8080");
    for _ in 0..8 {
        let client = host.connected("127.0.0.1", "127.0.0.1:8080");
        let server = host.accepted(client);
        host.kernel.closes(server, Established, LINGER0, 0);
        host.is_reset(client);
    }
    let found = host.only_finding();
    let about = (found.rule.id, found.role, found.severity);
    assert_eq!(about, ("reset_by_peer", Role::Client, Severity::Notice));
    assert_eq!(found.title, "a server on this host closes by a reset (SO_LINGER 0)");
    assert!(found.seen.contains("web (process 700) closed 8 connections"), "{}", found.seen);
}

#[test]
fn resets_by_others_are_not_those_of_a_client_on_this_host() {
    let mut host = Host::new();
    host.listens("127.0.0.1:8080");
    for number in 0..8 {
        let client = host.connected("127.0.0.1", "127.0.0.1:8080");
        let server = host.accepted(client);
        // Less than half of them.
        if number < 3 {
            host.kernel.closes(client, Established, LINGER0, 0);
        }
        host.is_reset(server);
    }
    let found = host.only_finding();
    assert_eq!((found.rule.id, found.severity), ("reset_by_peer", Severity::Warning));
    assert!(!found.seen.contains("LINGER"), "{}", found.seen);
}
