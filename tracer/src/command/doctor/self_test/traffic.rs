//! Makes connections on loopback for every common scenario. They stay within this network
//! namespace, use ports that no other program uses, and leave nothing behind but TIME_WAIT sockets.

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
    close_reason::{CloseReason, CloseReason::*},
    role::Role,
};

/// Number of connections per scenario and address.
const EACH: usize = 20;
/// The same number as a listener's backlog.
const BACKLOG: i32 = 20;

/// Payload of clients, and below that of servers.
const REQUEST: [u8; 100] = [b'q'; 100];
const RESPONSE: [u8; 1000] = [b'a'; 1000];

/// Timeout of every wait.
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

/// The connections that were made.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) endpoints: Vec<Expected>,
    /// Whether there is an IPv6 loopback address.
    pub(super) ipv6: bool,
    scenario: &'static str,
}

/// Makes the connections of all scenarios, over IPv4 and, if possible, IPv6.
///
/// # Errors
///
/// A scenario failed on an address, both of which the error names.
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

/// The expected outcome on one side of a connection.
struct Side {
    reason: CloseReason,
    time_wait: bool,
    bytes: Option<(u64, u64)>,
}

impl Side {
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
    fn established(&mut self, (client, server): (SocketAddr, SocketAddr), sides: (Side, Side)) {
        self.expect(Role::Client, client, server, true, sides.0);
        self.expect(Role::Server, server, client, true, sides.1);
    }

    fn failed(&mut self, client: SocketAddr, server: SocketAddr, reason: CloseReason) {
        self.expect(Role::Client, client, server, false, Side::new(reason));
    }

    fn expect(
        &mut self,
        role: Role,
        local: SocketAddr,
        remote: SocketAddr,
        established: bool,
        side: Side,
    ) {
        let Side { reason, time_wait, bytes } = side;
        let scenario = self.scenario;
        self.endpoints.push(Expected {
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

/// Connects with a timeout, because nothing answers if loopback is down.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, DEADLINE)
}

fn bounded(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))
}

/// Both endpoints of a connection, and their addresses: first that of the client.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    addresses: (SocketAddr, SocketAddr),
}

/// Makes connections to a listener, accepts each, and passes them to `each`.
fn pairs(address: IpAddr, mut each: impl FnMut(Pair) -> io::Result<()>) -> io::Result<()> {
    let listener = listen(address, 16)?;
    for _ in 0..EACH {
        let client = connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        bounded(&client)?;
        bounded(&server)?;
        let addresses = (client.local_addr()?, client.peer_addr()?);
        each(Pair { client, server, addresses })?;
    }
    Ok(())
}

impl Pair {
    /// Sends data in both directions, and reads all of it.
    fn exchange(&mut self) -> io::Result<()> {
        self.client.write_all(&REQUEST)?;
        self.server.read_exact(&mut [0; REQUEST.len()])?;
        self.server.write_all(&RESPONSE)?;
        self.client.read_exact(&mut [0; RESPONSE.len()])
    }
}

/// Waits until the peer has closed or reset the connection.
fn wait_for_end(mut stream: impl Read) -> io::Result<()> {
    match io::copy(&mut stream, &mut io::sink()) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}

fn closed_by_client(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |mut pair| {
        pair.exchange()?;
        drop(pair.client);
        wait_for_end(pair.server)?;
        made.established(
            pair.addresses,
            (
                Side::new(ClosedByUs).leaving_time_wait().with_bytes(&REQUEST, &RESPONSE),
                Side::new(ClosedByPeer).with_bytes(&RESPONSE, &REQUEST),
            ),
        );
        Ok(())
    })
}

fn closed_by_server(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |mut pair| {
        pair.exchange()?;
        drop(pair.server);
        wait_for_end(pair.client)?;
        made.established(
            pair.addresses,
            (
                Side::new(ClosedByPeer).with_bytes(&REQUEST, &RESPONSE),
                Side::new(ClosedByUs).leaving_time_wait().with_bytes(&RESPONSE, &REQUEST),
            ),
        );
        Ok(())
    })
}

/// The client shuts down its sending side and still receives the response.
fn half_closed(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |mut pair| {
        pair.client.write_all(&REQUEST)?;
        pair.client.shutdown(Shutdown::Write)?;
        wait_for_end(&pair.server)?;
        pair.server.write_all(&RESPONSE)?;
        drop(pair.server);
        wait_for_end(pair.client)?;
        made.established(
            pair.addresses,
            (
                Side::new(ClosedByUs).leaving_time_wait().with_bytes(&REQUEST, &RESPONSE),
                Side::new(ClosedByPeer).with_bytes(&RESPONSE, &REQUEST),
            ),
        );
        Ok(())
    })
}

fn refused(address: IpAddr, made: &mut Made) -> io::Result<()> {
    // Bound but not listening, so that no other program can listen on the port.
    let bound = socket(address)?;
    bound.bind(&SocketAddr::new(address, 0).into())?;
    let server = local_address(&bound)?;
    for _ in 0..EACH {
        let client = socket(address)?;
        // Bound explicitly, because a failed connect() releases the port that it chose.
        client.bind(&SocketAddr::new(address, 0).into())?;
        let local = local_address(&client)?;
        match client.connect(&server.into()) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
            Ok(()) => {
                return Err(io::Error::other("a port without a listener answered"));
            }
        }
        made.failed(local, server, ConnectRefusedRst);
    }
    Ok(())
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("a socket has no IP address"))
}

fn unread_data(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |mut pair| {
        pair.server.write_all(&RESPONSE)?;
        // Waits until all data has arrived.
        let mut arrived = [0; RESPONSE.len()];
        wait_until(|| Ok(pair.client.peek(&mut arrived)? == arrived.len()))?;
        drop(pair.client);
        wait_for_end(pair.server)?;
        made.established(pair.addresses, (Side::new(ResetByUsUnreadData), Side::new(ResetByPeer)));
        Ok(())
    })
}

fn linger0(address: IpAddr, made: &mut Made) -> io::Result<()> {
    pairs(address, |pair| {
        SockRef::from(&pair.client).set_linger(Some(Duration::ZERO))?;
        drop(pair.client);
        wait_for_end(pair.server)?;
        made.established(pair.addresses, (Side::new(ResetByUsLinger0), Side::new(ResetByPeer)));
        Ok(())
    })
}

fn never_accepted(address: IpAddr, made: &mut Made) -> io::Result<()> {
    let listener = listen(address, BACKLOG)?;
    let server = listener.local_addr()?;
    let clients: Vec<_> = (0..EACH).map(|_| connect(server)).collect::<io::Result<_>>()?;
    wait_until(|| Ok(accept_queue_len(&listener)? == BACKLOG.unsigned_abs()))?;
    drop(listener);
    for client in clients {
        not_accepted(client, server, made)?;
    }
    Ok(())
}

/// Expects a reset, because the listener was closed before it accepted the connection.
fn not_accepted(client: TcpStream, server: SocketAddr, made: &mut Made) -> io::Result<()> {
    bounded(&client)?;
    let local = client.local_addr()?;
    wait_for_end(client)?;
    made.established((local, server), (Side::new(ResetByPeer), Side::new(ResetByUsListenerClosed)));
    Ok(())
}

/// Cancels connection attempts to a listener with a full accept queue, which drops each SYN.
fn cancelled(address: IpAddr, made: &mut Made) -> io::Result<()> {
    let listener = listen(address, 0)?;
    let server = listener.local_addr()?;
    let queued = connect(server)?;
    wait_until(|| Ok(accept_queue_len(&listener)? == 1))?;
    for _ in 0..EACH {
        let client = socket(address)?;
        client.set_nonblocking(true)?;
        match client.connect(&server.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
            Ok(()) => {
                return Err(io::Error::other("a full accept queue took a connection"));
            }
        }
        made.failed(local_address(&client)?, server, ConnectCancelled);
    }
    drop(listener);
    not_accepted(queued, server, made)
}

/// Number of connections in the accept queue.
fn accept_queue_len(listener: &TcpListener) -> io::Result<u32> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length =
        libc::socklen_t::try_from(size_of::<libc::tcp_info>()).map_err(io::Error::other)?;
    // SAFETY: `info` has room for the `length` bytes that the kernel writes at most, and any bytes
    // are a valid tcp_info.
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
    // For a listener, this field is the length of its accept queue.
    if result == 0 { Ok(info.tcpi_unacked) } else { Err(io::Error::last_os_error()) }
}

fn wait_until(mut reached: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
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
