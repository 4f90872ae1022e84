//! Connections of all kinds, each with its matching filters and its effect on the statistics.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process,
};

use nix::libc;
use socket2::Socket;
use synfin_common::state::TcpState;

use crate::lab::{
    self, Actor, Cgroup, Feature, Name, Namespace, Pair, RowCounts, Wire, accept, connect_to,
    eventually, reset, set_option, wait_for_end, wait_for_state,
};

/// The ephemeral port range of clients.
pub(super) const EPHEMERAL: [u16; 2] = [40000, 40999];

/// One end of a connection, or of an attempt at one.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) netns: u64,
    pub(super) role: &'static str,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Its processes, and the cgroup in which its socket was created; `None` if unknown.
    pub(super) owner: Option<Owner>,
    pub(super) counts: RowCounts,
}

/// The owners of an end.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) pids: Vec<u32>,
    pub(super) cgroup: String,
}

impl End {
    pub(super) fn service_port(&self) -> u16 {
        if self.role == "server" { self.local.port() } else { self.remote.port() }
    }

    pub(super) fn is_of(&self, pid: u32) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.pids.contains(&pid))
    }
}

/// The processes that connect and serve, on consecutive ports.
pub(super) struct Crowd {
    pub(super) wire: Wire,
    pub(super) port: u16,
    /// The name of the clients' namespace.
    pub(super) near_name: String,
    pub(super) client: Actor,
    pub(super) server: Actor,
    pub(super) prefork: Actor,
    pub(super) workers: Vec<u32>,
    /// The cgroups of the clients and of the servers, and their parent.
    pub(super) cgroups: Option<[Cgroup; 3]>,
    /// Connections older than the trace, to be closed in it.
    old: Vec<Pair>,
    ends: Vec<End>,
    open: Vec<OwnedFd>,
    _name: Name,
}

impl Crowd {
    /// Starts the processes, and makes the connections from before the trace.
    pub(super) fn gather(port: u16) -> Self {
        let wire = Wire::new();
        let [first, last] = EPHEMERAL;
        wire.near.set("ipv4/ip_local_port_range", format!("{first} {last}"));
        let cgroups = (!lab::lacks_for_a_part(Feature::Cgroup2)).then(|| {
            let outer = Cgroup::new();
            let [clients, servers] = ["clients", "servers"].map(|name| outer.below(name));
            // In the order in which they can be removed.
            [clients, servers, outer]
        });
        let of = |which: usize| cgroups.as_ref().map(|cgroups| &cgroups[which]);
        let client = Actor::start(&wire.near, of(0), "caller");
        let mut server = Actor::start(&wire.far, of(1), "callee");
        let mut prefork = Actor::start(&wire.far, None, "callees");
        server.listen((Ipv6Addr::UNSPECIFIED, port + 10));
        server.serve();
        prefork.listen((Wire::FAR4, port + 11));
        let workers = prefork.prefork(3);
        let near_name = format!("synfin-test-{}-{port}", process::id());
        let mut crowd = Self {
            _name: wire.near.name(&near_name),
            wire,
            port,
            near_name,
            client,
            server,
            prefork,
            workers,
            cgroups,
            old: Vec::new(),
            ends: Vec::new(),
            open: Vec::new(),
        };
        crowd.connect_before_the_trace();
        crowd
    }

    /// Makes all connections, and returns their ends.
    pub(super) fn play(&mut self) -> Vec<End> {
        self.plain();
        self.families();
        self.bound_clients();
        self.failures();
        self.ends_abnormally();
        self.processes();
        for pair in std::mem::take(&mut self.old) {
            pair.close_by_client();
        }
        self.wire.wait_until_quiet();
        self.ends.clone()
    }

    fn near(&self) -> &Namespace {
        &self.wire.near
    }

    #[expect(clippy::unnecessary_wraps, reason = "a connection may have no owner")]
    fn ours() -> Option<Owner> {
        Some(Owner { pids: vec![process::id()], cgroup: own_cgroup() })
    }

    #[expect(clippy::unnecessary_wraps, reason = "a connection may have no owner")]
    fn of_actor(&self, pids: Vec<u32>, cgroup: Option<usize>) -> Option<Owner> {
        let of = |which: usize| Some(self.cgroups.as_ref()?[which].path().to_owned());
        let cgroup = cgroup.and_then(of).unwrap_or_else(own_cgroup);
        Some(Owner { pids, cgroup })
    }

    fn listen(&self, address: impl Into<SocketAddr>) -> TcpListener {
        self.wire.far.listen(address)
    }

    fn pairs(&self, address: impl Into<SocketAddr>, count: usize) -> Vec<Pair> {
        let address = address.into();
        self.wire.pairs(&self.listen(address), address, count).collect()
    }

    /// Adds an attempt.
    fn client(&mut self, ends: (SocketAddr, SocketAddr), owner: Option<Owner>, counts: RowCounts) {
        let netns = self.near().id();
        let (local, remote) = (plain(ends.0), plain(ends.1));
        self.ends.push(End { netns, role: "client", local, remote, owner, counts });
    }

    fn server(&mut self, ends: (SocketAddr, SocketAddr), owner: Option<Owner>, counts: RowCounts) {
        let netns = self.wire.far.id();
        let (local, remote) = (plain(ends.0), plain(ends.1));
        self.ends.push(End { netns, role: "server", local, remote, owner, counts });
    }

    /// Adds both ends of a connection over the wire.
    fn pair(&mut self, pair: &Pair, client: RowCounts, server: RowCounts) {
        self.client(ends(&pair.client), Self::ours(), client);
        self.server(ends(&pair.server), Self::ours(), server);
    }

    fn keep(&mut self, pair: Pair) {
        self.open.extend([pair.client.into(), pair.server.into()] as [OwnedFd; 2]);
    }

    fn close_by_client(&mut self, pair: Pair) {
        self.pair(
            &pair,
            closed_by_us(RowCounts::clients(1)),
            closed_by_peer(RowCounts::servers(1)),
        );
        pair.close_by_client();
    }

    fn close_by_server(&mut self, pair: Pair) {
        self.pair(
            &pair,
            closed_by_peer(RowCounts::clients(1)),
            closed_by_us(RowCounts::servers(1)),
        );
        pair.close_by_server();
    }

    fn connect_before_the_trace(&mut self) {
        let at = SocketAddr::from((Wire::FAR4, self.port + 8));
        let listener = self.listen(at);
        let [open, to_close, closed] = [(); 3].map(|()| self.near().pair_with(&listener, at));
        self.open.push(listener.into());
        let adopted = || RowCounts::default().and("adopted", 1);
        let established = adopted().open("established", 1);
        self.pair(&open, established.clone(), established);
        self.keep(open);
        self.pair(&to_close, closed_by_us(adopted()), closed_by_peer(adopted()));
        self.old.push(to_close);
        // The owner of a TIME_WAIT is unknown.
        self.client(ends(&closed.client), None, RowCounts::default().and("time_wait.now", 1));
        closed.close_by_client();

        let prefork = SocketAddr::from((Wire::FAR4, self.port + 11));
        let caller = self.client.connect(prefork, 1)[0];
        let owner = self.of_actor(vec![self.client.pid()], Some(0));
        self.client((caller, prefork), owner, closed_by_us(adopted()));
        self.server((prefork, caller), self.owner_of_prefork(), closed_by_peer(adopted()));
    }

    fn plain(&mut self) {
        for pair in self.pairs((Wire::FAR4, self.port), 3) {
            self.close_by_client(pair);
        }
        for pair in self.pairs((Wire::FAR6, self.port + 1), 2) {
            self.close_by_server(pair);
        }
    }

    /// A dual-stack listener's clients, and an IPv6 socket that connects to an IPv4 address.
    fn families(&mut self) {
        let port = self.port + 2;
        let listener = self.listen((Ipv6Addr::UNSPECIFIED, port));
        for address in [Wire::FAR4, Wire::FAR4, Wire::FAR6] {
            let pair = self.near().pair_with(&listener, (address, port));
            self.close_by_client(pair);
        }
        let port = self.port + 9;
        let listener = self.near().listen((Ipv4Addr::LOCALHOST, port));
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (mapped, port).into()] {
            let pair = self.near().pair_with(&listener, address);
            let (client, server) = (ends(&pair.client), ends(&pair.server));
            self.client(client, Self::ours(), closed_by_us(RowCounts::clients(1)));
            self.server(server, Self::ours(), closed_by_peer(RowCounts::servers(1)));
            // Both ends are in this namespace.
            self.ends.last_mut().expect("the server").netns = self.near().id();
            pair.close_by_client();
        }
    }

    /// Clients that bind their ports.
    fn bound_clients(&mut self) {
        let to = SocketAddr::from((Wire::FAR4, self.port + 3));
        let listener = self.listen(to);
        for (port, by_client) in [(13, true), (14, false)] {
            let client = connect_to(self.bound(port), to).expect("a connection");
            let pair = Pair { client, server: accept(&listener) };
            if by_client { self.close_by_client(pair) } else { self.close_by_server(pair) }
        }
    }

    fn bound(&self, port: u16) -> Socket {
        self.near().bound_socket((Wire::NEAR4, self.port + port))
    }

    fn failures(&mut self) {
        let refused = |socket, to| {
            let error = connect_to(socket, to).expect_err("no listener");
            assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        };
        let counts = RowCounts::default().failed("connect_refused_rst", 1);
        for (far, near, count) in [(Wire::FAR4, Wire::NEAR4, 2), (Wire::FAR6, Wire::NEAR6, 1)] {
            let to = SocketAddr::from((far, self.port + 4));
            for _ in 0..count {
                refused(self.near().socket(far), to);
                self.client(((near, EPHEMERAL[0]).into(), to), Self::ours(), counts.clone());
            }
        }
        let to = SocketAddr::from((Wire::FAR4, self.port + 4));
        refused(self.bound(15), to);
        self.client(((Wire::NEAR4, self.port + 15).into(), to), Self::ours(), counts);

        let to = SocketAddr::from((Wire::FAR4, self.port + 12));
        self.wire.far.filter("drop_packets", &format!("tcp dport {} drop", to.port()));
        let attempt = self.near().begin_connect(to);
        set_option(&attempt, libc::TCP_SYNCNT, 10);
        let local = attempt.local_addr().expect("its address");
        self.client((local, to), Self::ours(), RowCounts::default().pending(1));
        self.open.push(attempt.into());
    }

    fn ends_abnormally(&mut self) {
        for pair in self.pairs((Wire::FAR4, self.port + 5), 2) {
            self.pair(
                &pair,
                RowCounts::clients(1).closed("reset_by_us_linger0", 1),
                RowCounts::servers(1).closed("reset_by_peer", 1),
            );
            reset(pair.client);
            wait_for_end(pair.server);
        }
        for pair in self.pairs((Wire::FAR4, self.port + 6), 1) {
            pair.client.shutdown(Shutdown::Write).expect("shutdown");
            wait_for_state(&pair.client, TcpState::FinWait2);
            wait_for_state(&pair.server, TcpState::CloseWait);
            let (client, server) = (RowCounts::clients(1), RowCounts::servers(1));
            self.pair(&pair, client.open("fin_wait2", 1), server.open("close_wait", 1));
            self.keep(pair);
        }
        let to = SocketAddr::from((Wire::FAR6, self.port + 7));
        for pair in self.pairs(to, 2) {
            let (client, server) = (RowCounts::clients(1), RowCounts::servers(1));
            self.pair(&pair, client.open("established", 1), server.open("established", 1));
            self.keep(pair);
        }
    }

    fn processes(&mut self) {
        self.server.listen((Wire::FAR4, self.port + 16));
        self.server.serve();
        let of_client = self.of_actor(vec![self.client.pid()], Some(0));
        let of_server = self.of_actor(vec![self.server.pid()], Some(1));
        let of_prefork = self.owner_of_prefork();
        let served = [
            (Wire::FAR4, self.port + 10, of_server.clone()),
            (Wire::FAR6, self.port + 10, of_server.clone()),
            (Wire::FAR4, self.port + 16, of_server),
            (Wire::FAR4, self.port + 11, of_prefork),
        ];
        for (address, port, server) in served {
            let to = SocketAddr::from((address, port));
            let ours = self.near().connect(to).expect("a connection");
            let our_end = ends(&ours).0;
            drop(ours);
            let theirs = self.client.connect(to, 2).into_iter();
            let clients = theirs.map(|client| (client, of_client.clone()));
            for (client, owner) in clients.chain([(our_end, Self::ours())]) {
                self.client((client, to), owner, closed_by_us(RowCounts::clients(1)));
                self.server((to, client), server.clone(), closed_by_peer(RowCounts::servers(1)));
            }
        }
        self.client.close();
        eventually("the servers close", || {
            let sockets = self.wire.far.sockets();
            let left = sockets.iter().filter(|socket| socket.state == "CLOSE-WAIT").count();
            // The one of the half-closed connection.
            (left == 1).then_some(())
        });
    }

    fn owner_of_prefork(&self) -> Option<Owner> {
        let pids = self.workers.iter().copied().chain([self.prefork.pid()]).collect();
        self.of_actor(pids, None)
    }
}

fn closed_by_us(counts: RowCounts) -> RowCounts {
    counts.closed("closed_by_us", 1).time_waits(1)
}

fn closed_by_peer(counts: RowCounts) -> RowCounts {
    counts.closed("closed_by_peer", 1)
}

fn ends(stream: &TcpStream) -> (SocketAddr, SocketAddr) {
    (stream.local_addr().expect("its address"), stream.peer_addr().expect("its peer's"))
}

/// An IPv4-mapped address is IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    (address.ip().to_canonical(), address.port()).into()
}

/// The cgroup v2 path of this process, without a leading slash.
fn own_cgroup() -> String {
    let cgroups = fs::read_to_string("/proc/self/cgroup").expect("/proc");
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    own.unwrap_or_default().to_owned()
}
