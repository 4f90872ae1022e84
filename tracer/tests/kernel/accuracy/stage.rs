//! The stage of a scenario: a namespace with its own network, and common steps of scenarios.

use std::{
    any::Any,
    cell::{OnceCell, RefCell},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
};

use nix::libc;
use socket2::SockRef;

use crate::{
    burst::starts_of_scans,
    lab::{
        self, Conn, Counters, Namespace, Pair, Peer, Synfin, accept, eventually, eventually_equal,
        now,
    },
};

/// The port on which the peer listens.
pub(super) const CLIENT: u16 = 80;
/// The port on which the host listens.
pub(super) const SERVER: u16 = 8080;
/// The port of listeners that only make a scan worthwhile.
const OTHER: u16 = 8081;

/// A namespace, whose network is 10.78.`number`.0/24.
pub(super) struct Stage {
    pub(super) namespace: Namespace,
    /// A second namespace with the same network.
    pub(super) twin: Namespace,
    number: u8,
    /// What synfin records meanwhile.
    recording: PathBuf,
    /// The trace, and the kernel's counters of both namespaces when it began.
    trace: RefCell<Option<(Synfin, [Counters; 2])>>,
    peer: OnceCell<Peer>,
    kept: RefCell<Vec<Box<dyn Any>>>,
}

impl Stage {
    pub(super) fn new(number: u8, recording: PathBuf) -> Self {
        Self {
            namespace: Namespace::new(),
            twin: Namespace::new(),
            number,
            recording,
            trace: RefCell::default(),
            peer: OnceCell::new(),
            kept: RefCell::default(),
        }
    }

    pub(super) fn namespaces(&self) -> [&Namespace; 2] {
        [&self.namespace, &self.twin]
    }

    /// Starts the trace.
    pub(super) fn trace(&self) {
        let counters = self.namespaces().map(Namespace::counters);
        let list = lab::ids(self.namespaces());
        let file = self.recording.to_str().expect("a path");
        let synfin = Synfin::watch(["record", "--force", "-N", &list, file]);
        assert!(self.trace.replace(Some((synfin, counters))).is_none(), "it starts once");
    }

    /// Ends the trace. Returns how much a counter of the kernel grew meanwhile.
    pub(super) fn finish(&self) -> impl Fn(&str) -> u64 {
        let (synfin, before) = self.trace.take().expect("a trace");
        let after = self.namespaces().map(Namespace::counters);
        synfin.finish();
        move |name| {
            let sum = |of: &[Counters]| of.iter().map(|it| it.get(name)).sum::<u64>();
            sum(&after) - sum(&before)
        }
    }

    /// Links both namespaces, with the address of the host and that of its twin.
    pub(super) fn link_twin(&self) {
        let [mine, others] = [self.host(), self.twin_host()].map(|host| [format!("{host}/24")]);
        self.namespace.link_to(&self.twin, [&mine, &others]);
    }

    /// Prefixes of its addresses, IPv4 and IPv6.
    pub(super) fn networks(&self) -> [String; 2] {
        let number = self.number;
        [format!("10.78.{number}."), format!("fd78:{number:x}::")]
    }

    /// An address for the second namespace, in the same network.
    pub(super) fn twin_host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.number, 2)
    }

    /// The host's address.
    pub(super) fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.number, 1)
    }

    /// The peer behind a TUN device.
    pub(super) fn peer(&self) -> &Peer {
        self.peer.get_or_init(|| Peer::new(&self.namespace, self.number))
    }

    /// Lets the host have both ends, and returns its address.
    pub(super) fn without_peer(&self) -> Ipv4Addr {
        for namespace in self.namespaces() {
            namespace.run(&format!("ip address add {}/24 dev lo", self.host()));
        }
        self.host()
    }

    /// The same for IPv6.
    pub(super) fn without_peer_by_ipv6(&self) -> Ipv6Addr {
        let host = Ipv6Addr::new(0xfd78, self.number.into(), 0, 0, 0, 0, 0, 1);
        self.namespace.run(&format!("ip address add {host}/64 dev lo nodad"));
        // The kernel adds the routes of an address asynchronously.
        eventually("a route to the host itself", || {
            let routes = self.namespace.run("ip -6 route show table local");
            routes.contains(&host.to_string()).then_some(())
        });
        host
    }

    /// Waits until synfin has scanned the namespace as it is now.
    pub(super) fn wait_for_scan(&self) {
        let now = now();
        drop(self.namespace.listen((Ipv4Addr::UNSPECIFIED, OTHER)));
        eventually("a scan", || {
            let starts = starts_of_scans(&self.recording, self.namespace.id());
            starts.into_iter().any(|start| start > now).then_some(())
        });
    }

    /// Writes `/proc/sys/net/ipv4/NAME`.
    pub(super) fn set(&self, name: &str, value: impl ToString + Sync) {
        self.namespace.set(&format!("ipv4/{name}"), value);
    }

    /// Keeps a value alive until the scenario is over.
    pub(super) fn keep(&self, thing: impl Any) {
        self.kept.borrow_mut().push(Box::new(thing));
    }

    /// A non-blocking socket.
    pub(super) fn socket(&self) -> TcpStream {
        let socket = self.namespace.socket(self.host().into());
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        socket.into()
    }

    /// Begins to connect to the peer.
    pub(super) fn begin_connect(&self) -> TcpStream {
        let socket = self.socket();
        self.begin(&socket);
        socket
    }

    /// Begins to connect to the peer with a prepared socket.
    pub(super) fn begin(&self, socket: &TcpStream) {
        assert_eq!(self.connect(socket).raw_os_error(), Some(libc::EINPROGRESS));
    }

    /// Checks that connect() is in progress.
    pub(super) fn connect(&self, socket: &TcpStream) -> io::Error {
        let to = SocketAddr::from((self.peer().address(), CLIENT));
        SockRef::from(socket).connect(&to.into()).expect_err("no answer yet")
    }

    /// A connection from the host to the peer.
    pub(super) fn client(&self) -> (TcpStream, Conn<'_>) {
        let client = self.begin_connect();
        (client, self.peer().accept())
    }

    /// An accepted connection from the peer to the host.
    pub(super) fn server(&self) -> (TcpStream, Conn<'_>) {
        let listener = self.listen();
        let conn = self.peer().connect(SERVER);
        let server = accept(&listener);
        server.set_nonblocking(true).expect("O_NONBLOCK");
        self.keep(listener);
        (server, conn)
    }

    /// The host listens.
    pub(super) fn listen(&self) -> TcpListener {
        self.listen_up_to(1024)
    }

    /// The host listens with this backlog.
    pub(super) fn listen_up_to(&self, backlog: i32) -> TcpListener {
        // Its address may belong to the device that the peer creates.
        self.namespace.listen_up_to((Ipv4Addr::UNSPECIFIED, SERVER), backlog)
    }

    /// A connection of which both ends are on the host.
    pub(super) fn pair(&self, listener: &TcpListener) -> Pair {
        self.namespace.pair_with(listener, (self.host(), SERVER))
    }

    /// Waits until this many sockets are in a state, in the spelling of `ss`.
    #[track_caller]
    pub(super) fn wait_for(&self, state: &str, count: usize) {
        eventually_equal(&format!("the number of sockets in {state}"), count, || {
            self.namespace.sockets().iter().filter(|socket| socket.state == state).count()
        });
    }

    /// Waits until all sockets in a state wait for this timer, in the spelling of `ss -o`.
    #[track_caller]
    pub(super) fn wait_for_timer(&self, state: &str, timer: &str) {
        eventually(&format!("all in {state} wait for {timer}"), || {
            let sockets = self.namespace.run("ss -Htano");
            let mut sockets = sockets.lines().filter(|line| line.starts_with(state));
            sockets.all(|line| line.contains(&format!("timer:({timer},"))).then_some(())
        });
    }
}
