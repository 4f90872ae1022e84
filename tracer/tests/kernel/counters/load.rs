//! A random load of servers and clients of every kind. The outcome of a connection depends on
//! timing, so only the kernel knows it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use fastrand::Rng;
use socket2::SockRef;

use crate::lab::{Namespace, Wire, connect_to, deadline, disconnect, reset, slowed, socket};

/// The namespaces of clients and servers, which may be the same.
pub(super) struct Site<'a> {
    pub(super) clients: &'a Namespace,
    pub(super) servers: &'a Namespace,
}

/// The behavior of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    /// Reads to the end, and closes.
    Follows,
    /// Closes at once.
    Leads,
    /// Reads a request, answers, and closes.
    Answers,
    /// Answers, shuts down its side, and reads to the end.
    HalfCloses,
    /// Reads to the end, and then answers.
    SpeaksLast,
    /// Waits for a request and does not read it.
    LeavesUnread,
    /// Closes by RST.
    Resets,
    /// Keeps it open for a while or until the end.
    Keeps,
    /// Leaves it in the queue, and sometimes stops listening.
    NeverAccepts,
    /// No server.
    Closed,
    /// No server, behind a firewall that rejects.
    Rejects,
    /// No server, behind a firewall that drops.
    Swallows,
}

const SERVERS: [Server; 12] = [
    Server::Follows,
    Server::Leads,
    Server::Answers,
    Server::HalfCloses,
    Server::SpeaksLast,
    Server::LeavesUnread,
    Server::Resets,
    Server::Keeps,
    Server::NeverAccepts,
    Server::Closed,
    Server::Rejects,
    Server::Swallows,
];

/// The first port; each kind of server has a port for IPv4 and a dual-stack port.
const FIRST_PORT: u16 = 7401;

/// The service ports.
pub(super) const PORTS: std::ops::Range<u16> = FIRST_PORT..FIRST_PORT + 2 * SERVERS.len() as u16;

impl Server {
    /// Its ports: for IPv4 only, and dual-stack.
    fn ports(self) -> [u16; 2] {
        let number = SERVERS.iter().position(|&server| server == self).unwrap_or_default();
        let first = FIRST_PORT + 2 * number as u16;
        [first, first + 1]
    }

    fn addresses(self) -> [SocketAddr; 2] {
        let [ipv4, both] = self.ports();
        [(Ipv4Addr::UNSPECIFIED, ipv4).into(), (Ipv6Addr::UNSPECIFIED, both).into()]
    }

    /// Serves a connection as this kind does. Errors are caused by the client.
    fn serve(self, mut stream: TcpStream, rng: &mut Rng, kept: &mut Vec<TcpStream>) {
        const ANSWER: [u8; 1000] = [b'a'; 1000];
        match self {
            Self::Follows => read_to_the_end(&mut stream),
            Self::Leads => {}
            Self::Answers => {
                let _ = stream.read(&mut [0; REQUEST.len()]);
                let _ = stream.write_all(&ANSWER);
            }
            Self::HalfCloses => {
                let _ = stream.write_all(&ANSWER);
                let _ = stream.shutdown(Shutdown::Write);
                read_to_the_end(&mut stream);
            }
            Self::SpeaksLast => {
                read_to_the_end(&mut stream);
                let _ = stream.write_all(&ANSWER);
            }
            Self::LeavesUnread => wait_for_data(&stream),
            Self::Resets => reset(stream),
            Self::Keeps => keep(stream, rng, kept),
            Self::NeverAccepts | Self::Closed | Self::Rejects | Self::Swallows => {}
        }
    }
}

/// The behavior of a client.
#[derive(Clone, Copy)]
enum Client {
    Closes,
    /// Sends a request and does not wait for the answer.
    Asks,
    /// Sends a request, shuts down its side, and reads to the end.
    AsksAndReads,
    /// Sends a request, waits for the answer, and does not read it.
    LeavesUnread,
    /// Closes by RST.
    Resets,
    /// Shuts down its side, and then closes by RST.
    HalfClosesAndResets,
    /// Disconnects by connect(AF_UNSPEC).
    Disconnects,
}

const CLIENTS: [Client; 7] = [
    Client::Closes,
    Client::Asks,
    Client::AsksAndReads,
    Client::LeavesUnread,
    Client::Resets,
    Client::HalfClosesAndResets,
    Client::Disconnects,
];

const REQUEST: [u8; 200] = [b'r'; 200];

impl Client {
    /// Uses a connection as this kind does. Errors are caused by the server.
    fn use_up(self, mut stream: TcpStream) {
        match self {
            Self::Closes => {}
            Self::Asks => drop(stream.write_all(&REQUEST)),
            Self::AsksAndReads => {
                let _ = stream.write_all(&REQUEST);
                let _ = stream.shutdown(Shutdown::Write);
                read_to_the_end(&mut stream);
            }
            Self::LeavesUnread => {
                let _ = stream.write_all(&REQUEST);
                wait_for_data(&stream);
            }
            Self::Resets => reset(stream),
            Self::HalfClosesAndResets => {
                let _ = stream.shutdown(Shutdown::Write);
                reset(stream);
            }
            Self::Disconnects => disconnect(&stream),
        }
    }
}

/// The timeout for actions that the other side may never take.
fn patience() -> Duration {
    slowed(Duration::from_millis(3))
}

fn read_to_the_end(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(patience())).expect("SO_RCVTIMEO");
    while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
}

fn wait_for_data(stream: &TcpStream) {
    stream.set_read_timeout(Some(patience())).expect("SO_RCVTIMEO");
    // Data, the end of the stream, or nothing.
    let _ = stream.peek(&mut [0]);
}

/// Keeps a connection, and drops another one if there are many.
fn keep(stream: TcpStream, rng: &mut Rng, kept: &mut Vec<TcpStream>) {
    const ENOUGH: usize = 20;
    if kept.len() == ENOUGH {
        kept.swap_remove(rng.usize(..ENOUGH));
    }
    kept.push(stream);
}

/// The amount of load.
#[derive(Clone, Copy)]
pub(super) struct Load {
    /// The approximate number of attempts.
    pub(super) connections: usize,
    /// The number of client threads.
    pub(super) threads: usize,
    /// The size of the clients' ephemeral port range.
    pub(super) ports: u16,
    /// One client in this number binds its port.
    pub(super) choosers: Option<u16>,
}

/// The connections that stay open after the load at one site.
pub(super) struct Left {
    _listeners: Vec<TcpListener>,
    _open: Vec<TcpStream>,
}

/// Makes connections.
pub(super) fn run(site: &Site<'_>, load: Load, mut rng: Rng) -> Left {
    prepare(site, load.ports);
    let listeners = SERVERS.map(|server| (server, listen(site, server)));
    let over = AtomicBool::new(false);
    let open = thread::scope(|scope| {
        let mut players = Vec::new();
        for (server, listeners) in &listeners {
            for listener in listeners {
                let (rng, over) = (rng.fork(), &over);
                players.push(scope.spawn(move || serve(*server, listener, rng, over)));
            }
        }
        let rngs = [(); 2].map(|()| rng.fork());
        for (address, rng) in Server::NeverAccepts.addresses().into_iter().zip(rngs) {
            let over = &over;
            players.push(scope.spawn(move || listen_now_and_then(site, address, rng, over)));
        }
        let clients: Vec<_> = (0..load.threads)
            .map(|_| {
                let rng = rng.fork();
                scope.spawn(move || site.clients.within(|| connect_at_random(load, rng)))
            })
            .collect();
        let mut open: Vec<_> = clients.into_iter().flat_map(|client| join(client)).collect();
        over.store(true, Ordering::Relaxed);
        open.extend(players.into_iter().flat_map(join));
        open
    });
    let listeners = listeners.into_iter().flat_map(|(_, listeners)| listeners);
    Left { _listeners: listeners.collect(), _open: open }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure))
}

/// Sets few ephemeral ports, so that they are reused; firewalls; short timeouts.
fn prepare(site: &Site<'_>, ports: u16) {
    let range = format!("20000 {}", 20_000 + ports - 1);
    site.clients.set("ipv4/ip_local_port_range", range);
    site.clients.set("ipv4/tcp_syn_retries", 1);
    let (rejects, swallows) = (Server::Rejects.ports(), Server::Swallows.ports());
    for (name, [first, second], verdict) in [
        ("rejects", rejects, "reject with icmpx type port-unreachable"),
        ("swallows", swallows, "drop"),
    ] {
        site.servers.filter(name, &format!("tcp dport {{ {first}, {second} }} {verdict}"));
    }
}

/// The permanent listeners of this kind.
fn listen(site: &Site<'_>, server: Server) -> Vec<TcpListener> {
    match server {
        Server::NeverAccepts | Server::Closed | Server::Rejects | Server::Swallows => Vec::new(),
        _ => server.addresses().map(|address| site.servers.listen(address)).into(),
    }
}

/// Accepts until the load is over. Returns the connections that are open then.
fn serve(server: Server, from: &TcpListener, mut rng: Rng, over: &AtomicBool) -> Vec<TcpStream> {
    const POLL_INTERVAL: Duration = Duration::from_millis(50);
    SockRef::from(from).set_read_timeout(Some(POLL_INTERVAL)).expect("SO_RCVTIMEO");
    let mut kept = Vec::new();
    loop {
        match from.accept() {
            Ok((stream, _)) => server.serve(stream, &mut rng, &mut kept),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if over.load(Ordering::Relaxed) {
                    return kept;
                }
            }
            // It was reset before it was accepted.
            Err(_) => {}
        }
    }
}

fn listen_now_and_then(
    site: &Site<'_>,
    address: SocketAddr,
    mut rng: Rng,
    over: &AtomicBool,
) -> Vec<TcpStream> {
    while !over.load(Ordering::Relaxed) {
        let _listener = site.servers.listen_up_to(address, 128);
        thread::sleep(Duration::from_millis(rng.u64(5..20)));
    }
    Vec::new()
}

/// Makes a thread's share of the connections in its namespace. Returns those that are open at the
/// end.
fn connect_at_random(load: Load, mut rng: Rng) -> Vec<TcpStream> {
    let (mut kept, mut attempts) = (Vec::new(), Vec::new());
    for _ in 0..load.connections / load.threads {
        let server = SERVERS[rng.usize(..SERVERS.len())];
        if matches!(server, Server::Rejects | Server::Swallows) {
            // The kernel ignores the ICMP error of a firewall on the same host while connect()
            // holds the socket, and retries after a second. Most clients time out before.
            keep(begin_connect(server), &mut rng, &mut attempts);
        } else if let Some(stream) = connect(server, load.choosers, &mut rng) {
            match server {
                Server::Keeps => keep(stream, &mut rng, &mut kept),
                _ => CLIENTS[rng.usize(..CLIENTS.len())].use_up(stream),
            }
        }
    }
    for mut attempt in attempts {
        attempt.set_nonblocking(false).expect("O_NONBLOCK");
        attempt.set_read_timeout(Some(deadline())).expect("SO_RCVTIMEO");
        attempt.read(&mut [0]).expect_err("no connection");
    }
    kept
}

/// Begins to connect to a port that does not answer at once.
fn begin_connect(server: Server) -> TcpStream {
    let [port, _] = server.ports();
    let stream = socket(Wire::FAR4);
    stream.set_nonblocking(true).expect("O_NONBLOCK");
    stream.connect(&SocketAddr::from((Wire::FAR4, port)).into()).expect_err("no answer yet");
    stream.into()
}

/// Connects to a server, if there is one.
fn connect(server: Server, choosers: Option<u16>, rng: &mut Rng) -> Option<TcpStream> {
    let [ipv4, both] = server.ports();
    let to: SocketAddr = match rng.u8(..3) {
        0 => (Wire::FAR4, ipv4).into(),
        1 => (Wire::FAR4, both).into(),
        _ => (Wire::FAR6, both).into(),
    };
    let client = socket(to.ip());
    if choosers.is_some_and(|choosers| rng.u16(..choosers) == 0) {
        bind_to_one_of_few(&client, to.ip(), rng);
    }
    connect_to(client, to).ok()
}

/// Binds one of a few ports, the same ones everywhere, so that several namespaces have connections
/// with equal addresses, and one follows another closely.
fn bind_to_one_of_few(socket: &socket2::Socket, family: IpAddr, rng: &mut Rng) {
    let address = if family.is_ipv4() { Wire::NEAR4 } else { Wire::NEAR6 };
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    let address = SocketAddr::from((address, rng.u16(15_000..15_100)));
    socket.bind(&address.into()).expect("a port that can be shared");
}
