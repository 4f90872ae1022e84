//! Sockets and connections for tests.

use std::{
    io::{self, IoSlice, Read, Write},
    mem,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    time::Duration,
};

use nix::libc;
use socket2::{Domain, MsgHdr, Protocol, SockAddr, SockRef, Socket, Type};
use synfin_common::state::TcpState;

use super::{Namespace, Wire, deadline, eventually, eventually_equal};

/// The two ends of a connection.
pub(crate) struct Pair {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
}

impl Pair {
    /// The client sends data, and the server receives it.
    pub(crate) fn send(&mut self, text: &[u8]) {
        self.client.write_all(text).expect("the client writes");
        read_exactly(&mut self.server, text);
    }

    /// The server sends data, and the client receives it.
    pub(crate) fn answer(&mut self, text: &[u8]) {
        self.server.write_all(text).expect("the server writes");
        read_exactly(&mut self.client, text);
    }

    /// The server sends data, which arrives at the client but is not read.
    pub(crate) fn answer_unread(&mut self, text: &[u8]) {
        self.server.write_all(text).expect("the server writes");
        eventually("the answer arrives", || {
            let mut seen = vec![0; text.len()];
            (self.client.peek(&mut seen).ok()? == text.len()).then_some(())
        });
    }

    /// The client closes first, and then the server.
    pub(crate) fn close_by_client(self) {
        let Self { client, server } = self;
        drop(client);
        wait_for_end(server);
    }

    /// The server closes first, and then the client.
    pub(crate) fn close_by_server(self) {
        let Self { client, server } = self;
        drop(server);
        wait_for_end(client);
    }

    /// The client closes, and the server does not: it stays in CLOSE_WAIT.
    pub(crate) fn leak_server(self) -> TcpStream {
        let Self { client, server } = self;
        drop(client);
        wait_for_state(&server, TcpState::CloseWait);
        server
    }

    /// The server closes, and the client does not: it stays in CLOSE_WAIT.
    pub(crate) fn leak_client(self) -> TcpStream {
        let Self { client, server } = self;
        drop(server);
        wait_for_state(&client, TcpState::CloseWait);
        client
    }
}

fn read_exactly(from: &mut TcpStream, text: &[u8]) {
    let mut read = vec![0; text.len()];
    from.read_exact(&mut read).expect("what the peer wrote");
    assert_eq!(read, text);
}

/// Waits until the peer has closed or reset the connection, then closes.
pub(crate) fn wait_for_end(mut stream: TcpStream) {
    match io::copy(&mut stream, &mut io::sink()) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the peer does not close: {error}"),
    }
}

/// Closes by RST.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// Disconnects by connect(AF_UNSPEC) and keeps the socket.
pub(crate) fn disconnect(stream: &TcpStream) {
    // SAFETY: an address of all zeros is valid and has the family AF_UNSPEC.
    let nowhere = unsafe {
        SockAddr::try_init(|_, length| {
            *length = 16;
            Ok(())
        })
    };
    let ((), nowhere) = nowhere.expect("an address");
    SockRef::from(stream).connect(&nowhere).expect("connect(AF_UNSPEC)");
}

/// Sends a socket, and the socket that receives it, into a queue that nobody can read any more, so
/// that garbage collection closes both: in a thread of the kernel, unless it is old.
pub(crate) fn close_by_garbage_collection(stream: TcpStream) {
    let (sender, receiver) = UnixDatagram::pair().expect("sockets");
    // struct cmsghdr, then the descriptors.
    let descriptors = [stream.as_raw_fd(), receiver.as_raw_fd()];
    let length = size_of::<libc::cmsghdr>() + size_of_val(&descriptors);
    let words = [[libc::SOL_SOCKET, libc::SCM_RIGHTS], descriptors];
    let words = words.as_flattened().iter().flat_map(|word| word.to_ne_bytes());
    let control: Vec<u8> = length.to_ne_bytes().into_iter().chain(words).collect();
    let (parts, message) = ([IoSlice::new(b"x")], MsgHdr::new().with_control(&control));
    SockRef::from(&sender).sendmsg(&message.with_buffers(&parts), 0).expect("it is sent");
    drop((stream, receiver));
    drop(sender);
}

impl Namespace {
    /// Listens on this address with a large backlog.
    #[track_caller]
    pub(crate) fn listen(&self, address: impl Into<SocketAddr>) -> TcpListener {
        self.listen_up_to(address, 1024)
    }

    /// Listens with this backlog. The unspecified address of IPv6 is dual-stack.
    #[track_caller]
    pub(crate) fn listen_up_to(&self, address: impl Into<SocketAddr>, backlog: i32) -> TcpListener {
        let address = address.into();
        self.within(|| listen(address, backlog))
    }

    /// A socket for this address family.
    pub(crate) fn socket(&self, family: IpAddr) -> Socket {
        self.within(|| socket(family))
    }

    /// A bound socket.
    pub(crate) fn bound_socket(&self, address: impl Into<SocketAddr>) -> Socket {
        let address = address.into();
        let socket = self.socket(address.ip());
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.bind(&address.into()).unwrap_or_else(|error| panic!("{address}: {error}"));
        socket
    }

    /// Connects, and waits for the result.
    pub(crate) fn connect(&self, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        let to = to.into();
        connect_to(self.socket(to.ip()), to)
    }

    /// Begins to connect.
    pub(crate) fn begin_connect(&self, to: impl Into<SocketAddr>) -> TcpStream {
        let to = to.into();
        let socket = self.socket(to.ip());
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => socket.into(),
            result => panic!("connect() did not wait for an answer: {result:?}"),
        }
    }

    /// Connects to a listener of this namespace or another, and accepts.
    #[track_caller]
    pub(crate) fn pair_with(&self, listener: &TcpListener, to: impl Into<SocketAddr>) -> Pair {
        let client = self.connect(to).expect("a connection");
        Pair { client, server: accept(listener) }
    }
}

impl Wire {
    /// Connects from near to a far listener this number of times, and accepts each at once.
    pub(crate) fn pairs<'a>(
        &'a self,
        listener: &'a TcpListener,
        to: impl Into<SocketAddr>,
        count: usize,
    ) -> impl Iterator<Item = Pair> + 'a {
        let to = to.into();
        (0..count).map(move |_| self.near.pair_with(listener, to))
    }
}

/// Like [`Namespace::listen_up_to`], in the current thread's namespace.
pub(super) fn listen(address: SocketAddr, backlog: i32) -> TcpListener {
    let socket = socket(address.ip());
    if address.is_ipv6() {
        socket.set_only_v6(false).expect("IPV6_V6ONLY");
    }
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("{address}: {error}"));
    socket.listen(backlog).expect("listen");
    socket.set_read_timeout(Some(deadline())).expect("SO_RCVTIMEO");
    socket.into()
}

/// Like [`Namespace::socket`], in the current thread's namespace.
pub(crate) fn socket(family: IpAddr) -> Socket {
    let domain = if family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).expect("a socket")
}

/// Accepts the next connection.
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    bound(&stream);
    stream
}

/// Connects a prepared socket.
pub(crate) fn connect_to(socket: Socket, to: SocketAddr) -> io::Result<TcpStream> {
    socket.connect(&to.into())?;
    let stream = socket.into();
    bound(&stream);
    Ok(stream)
}

/// Waits until the connection is in this state.
#[track_caller]
pub(crate) fn wait_for_state(stream: &TcpStream, state: TcpState) {
    eventually_equal("the socket's state", Some(state), || {
        TcpState::from_number(tcp_info(stream).tcpi_state)
    });
}

fn tcp_info(stream: &TcpStream) -> libc::tcp_info {
    // SAFETY: all fields are integers.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    let to = (&raw mut info).cast();
    // SAFETY: the buffer has this number of bytes.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, to, &raw mut length)
    };
    assert_eq!(result, 0, "TCP_INFO: {}", io::Error::last_os_error());
    info
}

/// Sets a TCP option.
#[track_caller]
pub(crate) fn set_option(socket: &impl AsRawFd, option: i32, value: i32) {
    let (from, length) = ((&raw const value).cast(), size_of_val(&value) as libc::socklen_t);
    // SAFETY: the value has this number of bytes.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, from, length) };
    assert_eq!(result, 0, "TCP option {option}: {}", io::Error::last_os_error());
}

/// Sets timeouts, so that no test hangs.
fn bound(stream: &TcpStream) {
    stream.set_read_timeout(Some(deadline())).expect("SO_RCVTIMEO");
    stream.set_write_timeout(Some(deadline())).expect("SO_SNDTIMEO");
}
