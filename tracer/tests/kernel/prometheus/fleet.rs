//! Three hosts and one Prometheus: the queries in `docs/metrics.md` return the traffic of all
//! hosts.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use super::alerts;
use crate::lab::{
    self, Host, Link, Loss, Namespace, Pair, Prometheus, Series, accept, connect_to, wait_for_end,
};

/// A server behind the link, and its number of connections.
const WEB: u16 = 7511;
const WEB_CONNECTIONS: usize = 60;
/// A server whose clients close with unread data, the only data of this test. Its first segment is lost.
const RESETTING: u16 = 7512;
const RESETS: usize = 20;
/// A server that does not accept.
const SLOW: u16 = 7513;
const WAITING: usize = 9;
const BACKLOG: i32 = 10;
/// No listener.
const CLOSED: u16 = 7514;
const REFUSED: usize = 15;
/// A server on the host of its clients, with few ephemeral ports.
const LOCAL: u16 = 7515;
const PORTS: u16 = 100;
const OPEN: usize = 85;
const ABANDONED: usize = 40;

/// A client's port outside of the ephemeral range.
const BOUND: u16 = 7516;

/// The least duration of a handshake over the link.
const ROUND_TRIP: Duration = Duration::from_millis(12);

/// The relative error of `increase()`, which extrapolates beyond the first and the last scrape.
const LEEWAY: f64 = 0.25;

#[test]
fn documented_queries_return_the_traffic_of_three_hosts() {
    let queries = queries(include_str!("../../../../docs/metrics.md"));
    if lab::lacks_prometheus("prometheus") {
        return;
    }

    let _lab = lab::enter_alone();
    let fleet = Fleet::new();
    let rules = Path::new(alerts::FOLDER).join("alerts.yml");
    let prometheus = fleet.watch(&rules);
    let _open = fleet.work();
    let closed = 6 + 2 * (WEB_CONNECTIONS + RESETS + ABANDONED);
    // Each host is scraped at times of its own, so that every count has to be complete.
    let in_use = 2 * OPEN;
    prometheus.wait_for(&format!(
        "sum(synfin_connections_closed_total) == {closed} \
         and sum(synfin_accept_queue_length) == {WAITING} \
         and sum(synfin_connection_failures_total) == {REFUSED} \
         and sum(synfin_tracked_connections{{instance=\"batch-1\"}}) == {in_use}"
    ));
    // Findings are checked every few seconds.
    prometheus.wait_for("synfin_findings{finding=\"nobody_accepts\"}");
    for (title, query) in &queries {
        let found = prometheus.query(query);
        let found = Found { title, series: &found };
        check(&found);
    }

    // The alerts are pending: their conditions hold, but not for long enough yet.
    let about = |alert: &str, host: &str| {
        format!("ALERTS{{alertname=\"{alert}\",instance=\"{host}\",alertstate=\"pending\"}}")
    };
    prometheus.wait_for(&about("TcpEphemeralPortsRunOut", "batch-1"));
    prometheus.wait_for(&about("TcpAcceptQueueFills", "web-1"));
    prometheus.wait_for(&about("TcpConnectFailures", "app-1"));
    prometheus.wait_for(&about("TcpManyResets", "batch-1"));
    let unexpected = prometheus.query("ALERTS{alertname=~\"Synfin.*\"}");
    assert!(unexpected.is_empty(), "{unexpected:?}");
    prometheus.finish();
}

/// The host of a server, the host of its clients, and a host with both.
struct Fleet {
    link: Link,
    batch: Namespace,
    web: TcpListener,
    resetting: TcpListener,
    _slow: TcpListener,
    local: TcpListener,
}

impl Fleet {
    fn new() -> Self {
        let link = Link::new(ROUND_TRIP, &[(RESETTING, Loss::Data)]);
        let batch = Namespace::new();
        batch.set("ipv4/ip_local_port_range", format!("40000 {}", 40000 + PORTS - 1));
        let [web, resetting] = [WEB, RESETTING].map(|port| link.far.listen(far(port)));
        let slow = link.far.listen_up_to(far(SLOW), BACKLOG);
        let local = batch.listen(LOCAL_ADDRESS);
        Self { link, batch, web, resetting, _slow: slow, local }
    }

    /// Starts Prometheus, and makes a connection to every port, so that later ones count as an
    /// increase.
    fn watch(&self, rules: &Path) -> Prometheus {
        let hosts = [
            Host("web-1", &[&self.link.far]),
            Host("app-1", &[&self.link.near]),
            Host("batch-1", &[&self.batch]),
        ];
        let prometheus = Prometheus::watch(&hosts, Some(rules));
        for (listener, port) in [(&self.web, WEB), (&self.resetting, RESETTING)] {
            // From a port that no later connection is given: its SYN would end the TIME_WAIT.
            let socket = self.link.near.bound_socket((Link::NEAR, BOUND));
            let client = connect_to(socket, far(port)).expect("a connection");
            Pair { client, server: accept(listener) }.close_by_server();
        }
        self.abandon();
        prometheus.wait_for("sum(synfin_connections_closed_total) == 6");
        prometheus
    }

    /// Makes the connections. Returns those that stay open.
    fn work(&self) -> (Vec<Pair>, Vec<TcpStream>) {
        let near = &self.link.near;
        for _ in 0..WEB_CONNECTIONS {
            near.pair_with(&self.web, far(WEB)).close_by_client();
        }
        for _ in 0..RESETS {
            let mut pair = near.pair_with(&self.resetting, far(RESETTING));
            pair.answer_unread(b"an answer");
            drop(pair.client);
            wait_for_end(pair.server);
        }
        for _ in 0..REFUSED {
            assert!(near.connect(far(CLOSED)).is_err());
        }
        let waiting =
            (0..WAITING).map(|_| near.connect(far(SLOW)).expect("a connection")).collect();
        for _ in 0..ABANDONED {
            self.abandon();
        }
        let open = (0..OPEN).map(|_| self.batch.pair_with(&self.local, LOCAL_ADDRESS)).collect();
        (open, waiting)
    }

    /// Makes a connection that ends by a RST and leaves no TIME_WAIT.
    fn abandon(&self) {
        let Pair { client, server } = self.batch.pair_with(&self.local, LOCAL_ADDRESS);
        lab::reset(client);
        wait_for_end(server);
    }
}

const LOCAL_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), LOCAL);

fn far(port: u16) -> SocketAddr {
    (Link::FAR, port).into()
}

/// The result of a query.
struct Found<'a> {
    title: &'a str,
    series: &'a [Series],
}

/// Compares a result with the traffic.
#[track_caller]
fn check(found: &Found<'_>) {
    match found.title {
        "How long handshakes take, per service port" => {
            let p99 = found.by(&["port"]);
            let [far, local] = [WEB, LOCAL].map(|port| p99[&port.to_string()]);
            let round_trip = ROUND_TRIP.as_secs_f64();
            // Its bucket begins at 10 ms; a busy machine may be slower.
            assert!((0.8 * round_trip..0.25).contains(&far), "{p99:?}");
            assert!(local < 0.8 * round_trip, "{p99:?}");
        }
        "Why connections are reset" => {
            let abandoned = (RESETS + ABANDONED) as f64;
            found.check_near(
                &["reason"],
                &[
                    // The servers of both ports report it.
                    ("reset_by_peer", abandoned),
                    ("reset_by_us_linger0", ABANDONED as f64),
                    ("reset_by_us_unread_data", RESETS as f64),
                ],
            );
        }
        "Which hosts run out of ports" => {
            let port = format!("batch-1 {LOCAL}");
            assert_eq!(
                found.by(&["instance", "port"]),
                [(port, OPEN as f64 / f64::from(PORTS))].into()
            );
        }
        "Who cannot connect, and why" => {
            found.check_near(
                &["instance", "reason"],
                &[("app-1 connect_refused_rst", REFUSED as f64)],
            );
        }
        "Which services' paths lose segments" => {
            let shares = found.by(&["role", "port"]);
            assert_eq!(shares.keys().collect::<Vec<_>>(), [&format!("server {RESETTING}")]);
            // Each is sent twice; a slow machine may send more.
            assert!(shares.values().all(|share| (0.49..0.7).contains(share)), "{shares:?}");
        }
        "Where TIME_WAITs are" => {
            // On the side that closes first; the servers closed one connection of each port.
            let expected = [("app-1", WEB_CONNECTIONS as f64), ("web-1", 2.0)];
            let expected = expected.map(|(host, count)| (host.to_owned(), count));
            assert_eq!(found.by(&["instance"]), expected.into());
        }
        "What is wrong, and whose port it is" => {
            let hangs = |series: &&Series| series.label("finding") == "nobody_accepts";
            let hanging: Vec<_> = found.series.iter().filter(hangs).collect();
            let [server] = hanging[..] else { panic!("{:?}", found.series) };
            assert_eq!(server.label("port"), SLOW.to_string());
            assert_ne!(server.label("owner"), "", "{server:?}");
        }
        "Which servers do not keep up" => {
            let port = format!("web-1 {SLOW}");
            let share = WAITING as f64 / f64::from(BACKLOG);
            assert_eq!(found.by(&["instance", "port"]), [(port, share)].into());
        }
        "Whether figures are complete" => {
            let shares = found.by(&["instance"]);
            assert_eq!(shares.len(), 3, "{shares:?}");
            // The kernel may have skipped the hook.
            assert!(shares.values().all(|share| (0.99..=1.0).contains(share)), "{shares:?}");
        }
        title => panic!("no expectation for `{title}`: {:?}", found.series),
    }
}

impl Found<'_> {
    /// The values by these labels, which have to be all labels.
    fn by(&self, labels: &[&str]) -> BTreeMap<String, f64> {
        let by = |series: &Series| {
            assert_eq!(series.labels.len(), labels.len(), "{}: {series:?}", self.title);
            let values: Vec<_> = labels.iter().map(|label| series.label(label)).collect();
            (values.join(" "), series.value())
        };
        self.series.iter().map(by).collect()
    }

    #[track_caller]
    fn check_near(&self, labels: &[&str], expected: &[(&str, f64)]) {
        let found = self.by(labels);
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            expected.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            "{}",
            self.title
        );
        for (name, expected) in expected {
            let error = (found[*name] / expected - 1.0).abs();
            assert!(error < LEEWAY, "{}: {name} is {}, not {expected}", self.title, found[*name]);
        }
    }
}

/// The queries in a page by title, which is the comment in their first line.
fn queries(page: &str) -> BTreeMap<String, String> {
    let query = |block: &str| {
        let (query, _) = block.split_once("```").expect("its end");
        let (title, query) = query.split_once('\n').expect("a title");
        let title = title.strip_prefix("# ").unwrap_or_else(|| panic!("{title} is not a title"));
        (title.to_owned(), query.to_owned())
    };
    page.split("```promql\n").skip(1).map(query).collect()
}
