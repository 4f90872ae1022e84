//! Connections on loopback of every common fate, made to be seen. They stay within this network
//! namespace, on ports that nobody else uses; what remains of them is TIME_WAIT.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use nix::libc;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::compare::Expected;
use crate::tcp::{
    close_reason::CloseReason::{self, *},
    role::Role,
};

/// Connections of each fate, per address.
const EACH: usize = 20;

/// What clients ask, and servers answer.
const QUESTION: [u8; 100] = [b'q'; 100];
const ANSWER: [u8; 1000] = [b'a'; 1000];

/// Nobody waits longer.
const DEADLINE: Duration = Duration::from_secs(5);

type Scenario = fn(IpAddr, &mut Made) -> io::Result<()>;

const SCENARIOS: [(&str, Scenario); 8] = [
    ("closed by the client", closed_by_client),
    ("closed by the server", closed_by_server),
    ("half-closed by the client", half_closed),
    ("refused", refused),
    ("closed with unread data", unread_data),
    ("closed with SO_LINGER 0", linger0),
    ("never accepted", never_accepted),
    ("cancelled while connecting", cancelled),
];

/// What was made.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) ends: Vec<Expected>,
    /// Whether there is an IPv6 loopback.
    pub(super) ipv6: bool,
    scenario: &'static str,
}

/// Makes all of them.
pub(super) fn make_all() -> anyhow::Result<Made> {
    let mut made = Made { ipv6: has_ipv6(), ..Made::default() };
    let mut addresses = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    addresses.extend(made.ipv6.then_some(IpAddr::from(Ipv6Addr::LOCALHOST)));
    for address in addresses {
        for (name, scenario) in SCENARIOS {
            made.scenario = name;
            scenario(address, &mut made)
                .map_err(|error| anyhow::anyhow!("{name} on {address}: {error}"))?;
        }
    }
    Ok(made)
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// What one end must come to.
struct End {
    reason: CloseReason,
    time_wait: bool,
    bytes: Option<(u64, u64)>,
}

impl End {
    fn new(reason: CloseReason) -> Self {
        Self { reason, time_wait: false, bytes: None }
    }

    fn leaving_time_wait(self) -> Self {
        Self { time_wait: true, ..self }
    }

    fn with_bytes(self, sent: &[u8], received: &[u8]) -> Self {
        Self { bytes: Some((sent.len() as u64, received.len() as u64)), ..self }
    }
}

impl Made {
    fn established(&mut self, (client, server): (SocketAddr, SocketAddr), ends: (End, End)) {
        self.end(Role::Client, client, server, true, ends.0);
        self.end(Role::Server, server, client, true, ends.1);
    }

    fn failed(&mut self, client: SocketAddr, server: SocketAddr, reason: CloseReason) {
        self.end(Role::Client, client, server, false, End::new(reason));
    }

    fn end(
        &mut self,
        role: Role,
        local: SocketAddr,
        remote: SocketAddr,
        established: bool,
        end: End,
    ) {
        let End { reason, time_wait, bytes } = end;
        let scenario = self.scenario;
        self.ends.push(Expected {
            scenario,
            role,
            local,
            remote,
            reason,
            established,
            time_wait,
            bytes,
        });
    }
}

fn listen(address: IpAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.bind(&SocketAddr::new(address, 0).into())?;
    socket.listen(backlog)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(socket.into())
}

fn socket(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
}

/// Where loopback is down, nothing answers.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, DEADLINE)
}

fn bounded(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))
}

/// Both ends of a connection, and their addresses.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    ends: (SocketAddr, SocketAddr),
}

/// So many connections to a listener, each accepted.
fn pairs(address: IpAddr, mut each: impl FnMut(Pair) -> io::Result<()>) -> io::Result<()> {
    let listener = listen(address, 16)?;
    for _ in 0..EACH {
        let client = connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        bounded(&client)?;
        bounded(&server)?;
        let ends = (client.local_addr()?, client.peer_addr()?);
        each(Pair { client, server, ends })?;
    }
    Ok(())
}

impl Pair {
    /// Data goes both ways, and is read.
    fn talk(&mut self) -> io::Result<()> {
        self.client.write_all(&QUESTION)?;
        self.server.read_exact(&mut [0; QUESTION.len()])?;
        self.server.write_all(&ANSWER)?;
        self.client.read_exact(&mut [0; ANSWER.len()])
    }
}

/// Waits until the peer has ended it, in order or by a reset.
fn wait_for_end(mut stream: impl Read) -> io::Result<()> {
    match io::copy(&mut stream, &mut io::sink()) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}

fn closed_by_client(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |mut pair| {
        pair.talk()?;
        drop(pair.client);
        wait_for_end(pair.server)?;
        made.established(
            pair.ends,
            (
                End::new(ClosedByUs).leaving_time_wait().with_bytes(&QUESTION, &ANSWER),
                End::new(ClosedByPeer).with_bytes(&ANSWER, &QUESTION),
            ),
        );
        Ok(())
    })
}

fn closed_by_server(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |mut pair| {
        pair.talk()?;
        drop(pair.server);
        wait_for_end(pair.client)?;
        made.established(
            pair.ends,
            (
                End::new(ClosedByPeer).with_bytes(&QUESTION, &ANSWER),
                End::new(ClosedByUs).leaving_time_wait().with_bytes(&ANSWER, &QUESTION),
            ),
        );
        Ok(())
    })
}

/// The client has said all that it wants to, and still gets its answer.
fn half_closed(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |mut pair| {
        pair.client.write_all(&QUESTION)?;
        pair.client.shutdown(Shutdown::Write)?;
        wait_for_end(&pair.server)?;
        pair.server.write_all(&ANSWER)?;
        drop(pair.server);
        wait_for_end(pair.client)?;
        made.established(
            pair.ends,
            (
                End::new(ClosedByUs).leaving_time_wait().with_bytes(&QUESTION, &ANSWER),
                End::new(ClosedByPeer).with_bytes(&ANSWER, &QUESTION),
            ),
        );
        Ok(())
    })
}

fn refused(address: IpAddr, made: &mut Made) -> io::Result<()> {
    // Bound and deaf, so that nobody else can come to listen there.
    let deaf = socket(address)?;
    deaf.bind(&SocketAddr::new(address, 0).into())?;
    let server = ip_end(&deaf)?;
    for _ in 0..EACH {
        let client = socket(address)?;
        // A failure takes the port away that connect() chose.
        client.bind(&SocketAddr::new(address, 0).into())?;
        let local = ip_end(&client)?;
        match client.connect(&server.into()) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(io::Error::other("somebody answered where nobody listens")),
        }
        made.failed(local, server, ConnectRefusedRst);
    }
    Ok(())
}

fn ip_end(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("a socket without an address"))
}

fn unread_data(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |mut pair| {
        pair.server.write_all(&ANSWER)?;
        // It has come, all of it.
        let mut arrived = [0; ANSWER.len()];
        until(|| Ok(pair.client.peek(&mut arrived)? == arrived.len()))?;
        drop(pair.client);
        wait_for_end(pair.server)?;
        made.established(pair.ends, (End::new(ResetByUsUnreadData), End::new(ResetByPeer)));
        Ok(())
    })
}

fn linger0(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |pair| {
        SockRef::from(&pair.client).set_linger(Some(Duration::ZERO))?;
        drop(pair.client);
        wait_for_end(pair.server)?;
        made.established(pair.ends, (End::new(ResetByUsLinger0), End::new(ResetByPeer)));
        Ok(())
    })
}

fn never_accepted(address: IpAddr, made: &mut Made) -> io::Result<()> {
    let listener = listen(address, EACH as i32)?;
    let server = listener.local_addr()?;
    let clients: Vec<_> = (0..EACH).map(|_| connect(server)).collect::<io::Result<_>>()?;
    until(|| Ok(waiting(&listener)? == EACH as u32))?;
    drop(listener);
    for client in clients {
        not_accepted(client, server, made)?;
    }
    Ok(())
}

/// The listener has gone before it accepted this.
fn not_accepted(client: TcpStream, server: SocketAddr, made: &mut Made) -> io::Result<()> {
    bounded(&client)?;
    let local = client.local_addr()?;
    wait_for_end(client)?;
    made.established((local, server), (End::new(ResetByPeer), End::new(ResetByUsListenerClosed)));
    Ok(())
}

/// A listener whose queue is full answers no SYN.
fn cancelled(address: IpAddr, made: &mut Made) -> io::Result<()> {
    let listener = listen(address, 0)?;
    let server = listener.local_addr()?;
    let filling = connect(server)?;
    until(|| Ok(waiting(&listener)? == 1))?;
    for _ in 0..EACH {
        let client = socket(address)?;
        client.set_nonblocking(true)?;
        match client.connect(&server.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(io::Error::other("a full queue took a connection")),
        }
        made.failed(ip_end(&client)?, server, ConnectCancelled);
    }
    drop(listener);
    not_accepted(filling, server, made)
}

/// How many connections wait for accept().
fn waiting(listener: &TcpListener) -> io::Result<u32> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which are there, and a tcp_info is whole
    // with any bytes.
    let (result, info) = unsafe {
        let result = libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        (result, info.assume_init())
    };
    // Of a listener, this is its queue.
    if result == 0 { Ok(info.tcpi_unacked) } else { Err(io::Error::last_os_error()) }
}

fn until(mut reached: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    while !reached()? {
        if waited >= DEADLINE {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::sleep(PAUSE);
        waited += PAUSE;
    }
    Ok(())
}
