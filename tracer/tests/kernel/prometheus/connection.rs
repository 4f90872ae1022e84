//! Some time of two hosts' connection: a web server with clients near, far, and behind a network that loses
//! packets; a pool of connections; a server that resets, one that does not keep up, and one that is
//! gone.

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
/// On the clients' own host.
const POOL: u16 = 6432;

const BACKLOG: usize = 16;

/// The hosts, and what is between them.
pub(super) struct Life {
    near: Link,
    far: Link,
    /// On which an answer to each client is lost.
    lossy: Link,
}

impl Life {
    /// In which this many ports are left to our clients.
    pub(super) fn new(ports: usize) -> Self {
        let link = |millis, losses: &[_]| Link::new(Duration::from_millis(millis), losses);
        let near = link(8, &[]);
        near.near.set("ipv4/ip_local_port_range", format!("40000 {}", 40000 + ports - 1));
        Self { near, far: link(80, &[]), lossy: link(40, &[(WEB, Loss::SynAck)]) }
    }

    /// The server is behind all links; of its clients, only those nearby are ours.
    pub(super) fn servers(&self) -> [&Namespace; 3] {
        [&self.near.far, &self.far.far, &self.lossy.far]
    }

    pub(super) fn clients(&self) -> [&Namespace; 1] {
        [&self.near.near]
    }

    /// Goes on for this long.
    pub(super) fn go_on(&self, duration: Duration) {
        let during = During { begun: Instant::now(), duration };
        let [near, far, lossy] = [&self.near, &self.far, &self.lossy];
        let [web, for_far, for_lossy] = self.servers().map(|server| server.listen(at(WEB)));
        let payments = near.far.listen(at(PAYMENTS));
        let slow = near.far.listen_up_to(at(SLOW), BACKLOG as i32);
        let pool = near.near.listen(POOL_ADDRESS);
        let mut open: Vec<_> = (0..12).map(|_| near.near.pair_with(&pool, POOL_ADDRESS)).collect();
        thread::scope(|scope| {
            // A wave of visitors, of whom for some time many are far away.
            scope.spawn(|| {
                during.at_rate(|now| 12.0 + 6.0 * (now * 9.0).sin(), || visit(near, &web));
            });
            scope.spawn(|| {
                let rate = |now| if (0.3..0.75).contains(&now) { 7.0 } else { 1.2 };
                during.at_rate(rate, || visit(far, &for_far));
            });
            scope.spawn(|| {
                during.at_rate(
                    |now| if (0.35..0.65).contains(&now) { 7.0 } else { 0.4 },
                    || reset(near, &payments),
                );
            });
            scope.spawn(|| {
                let refused = || drop(near.near.connect(at(CLOSED)));
                during.at_rate(|now| if (0.55..0.8).contains(&now) { 4.0 } else { 0.0 }, refused);
            });
            scope.spawn(|| {
                let rate = |now| if (0.15..0.9).contains(&now) { 0.7 } else { 0.0 };
                during.at_rate(rate, || visit(lossy, &for_lossy));
            });
            scope.spawn(|| queue(&during, near, &slow));
            scope.spawn(|| {
                during.at_rate(
                    |now| 6.0 + 3.0 * (now * 14.0).cos(),
                    || {
                        let new = near.near.pair_with(&pool, POOL_ADDRESS);
                        open.push(new);
                        open.swap_remove(0).close_by_server();
                    },
                );
            });
        });
    }
}

const POOL_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), POOL);

fn at(port: u16) -> SocketAddr {
    (Link::FAR, port).into()
}

fn visit(link: &Link, listener: &TcpListener) {
    link.near.pair_with(listener, at(WEB)).close_by_client();
}

/// The client closes on an answer that it has not read.
fn reset(link: &Link, listener: &TcpListener) {
    let mut pair = link.near.pair_with(listener, at(PAYMENTS));
    pair.answer_unread(b"an answer");
    drop(pair.client);
    wait_for_end(pair.server);
}

/// More and more wait to be accepted, until there is no room and SYNs are dropped; then all are
/// accepted at once, and so are those who still hope.
fn queue(during: &During, link: &Link, listener: &TcpListener) {
    const MORE: std::ops::Range<f64> = 0.2..0.6;
    const AWAKE: f64 = 0.75;
    let seconds = (MORE.end - MORE.start) * during.duration.as_secs_f64();
    let more = (BACKLOG + 6) as f64 / seconds;
    let rate = |now| match now {
        _ if MORE.contains(&now) => more,
        _ if now > AWAKE => 5.0,
        _ => 0.0,
    };
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    let mut waiting = Vec::new();
    during.at_rate(rate, || {
        if during.now() < AWAKE {
            waiting.push(link.near.begin_connect(at(SLOW)));
        } else {
            waiting.clear();
            while listener.accept().is_ok() {}
        }
    });
}

/// How far it has come.
struct During {
    begun: Instant,
    duration: Duration,
}

impl During {
    /// As a share of it all.
    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64() / self.duration.as_secs_f64()
    }

    /// Acts so many times a second, as it is told of each moment.
    fn at_rate(&self, rate: impl Fn(f64) -> f64, mut act: impl FnMut()) {
        /// Nobody notices that it is not exact.
        const LOOK: Duration = Duration::from_millis(20);
        let (mut due, mut last) = (0.0, Instant::now());
        while self.now() < 1.0 {
            thread::sleep(LOOK);
            due += rate(self.now()) * last.elapsed().as_secs_f64();
            last = Instant::now();
            while due >= 1.0 && self.now() < 1.0 {
                act();
                due -= 1.0;
            }
        }
    }
}
