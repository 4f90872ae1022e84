//! Traffic of two hosts: a web server whose clients are near, or behind a network that loses
//! packets; a pool of connections; a server that resets, one that accepts too late, and a closed
//! port.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use crate::lab::{Link, Loss, Namespace, wait_for_end};

const WEB: u16 = 8443;
const PAYMENTS: u16 = 9000;
const SLOW: u16 = 9200;
const CLOSED: u16 = 9100;
/// On the host of the clients.
const POOL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6432);

const BACKLOG: usize = 16;

/// The hosts, and the links between them.
pub(super) struct Traffic {
    near: Link,
    /// Loses the first SYN-ACK to each client.
    lossy: Link,
}

impl Traffic {
    pub(super) fn new() -> Self {
        let near = Link::new(Duration::from_millis(8), &[]);
        near.near.set("ipv4/ip_local_port_range", "40000 40799");
        Self { near, lossy: Link::new(Duration::from_millis(40), &[(WEB, Loss::SynAck)]) }
    }

    pub(super) fn servers(&self) -> [&Namespace; 2] {
        [&self.near.far, &self.lossy.far]
    }

    /// The namespaces of clients on a traced host: only the nearby ones.
    pub(super) fn clients(&self) -> [&Namespace; 1] {
        [&self.near.near]
    }

    /// Makes connections for this long.
    pub(super) fn run_for(&self, duration: Duration) {
        let (near, lossy) = (&self.near, &self.lossy);
        let [web, for_lossy] = self.servers().map(|server| server.listen(at(WEB)));
        let payments = near.far.listen(at(PAYMENTS));
        let slow = near.far.listen_up_to(at(SLOW), BACKLOG as i32);
        let pool = near.near.listen(POOL);
        let mut pooled = near.near.pair_with(&pool, POOL);
        // More than fit into the accept queue, so that SYNs are dropped.
        let waiting: Vec<_> = (0..BACKLOG + 6).map(|_| near.near.begin_connect(at(SLOW))).collect();
        let end = Instant::now() + duration;
        let at_rate = |per_second: u32, act: &mut dyn FnMut()| {
            while Instant::now() < end {
                act();
                thread::sleep(Duration::from_secs(1) / per_second);
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| at_rate(12, &mut || visit(near, &web)));
            scope.spawn(|| at_rate(1, &mut || visit(lossy, &for_lossy)));
            scope.spawn(|| at_rate(5, &mut || reset(near, &payments)));
            scope.spawn(|| at_rate(4, &mut || drop(near.near.connect(at(CLOSED)))));
            scope.spawn(|| {
                at_rate(6, &mut || {
                    let next = near.near.pair_with(&pool, POOL);
                    std::mem::replace(&mut pooled, next).close_by_server();
                });
            });
        });
        drop((waiting, slow));
    }
}

fn at(port: u16) -> SocketAddr {
    (Link::FAR, port).into()
}

fn visit(link: &Link, listener: &TcpListener) {
    link.near.pair_with(listener, at(WEB)).close_by_client();
}

/// The client closes with an unread answer.
fn reset(link: &Link, listener: &TcpListener) {
    let mut pair = link.near.pair_with(listener, at(PAYMENTS));
    pair.answer_unread(b"an answer");
    drop(pair.client);
    wait_for_end(pair.server);
}
