//! A real Prometheus that scrapes several `synfin serve`, as in a fleet.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Namespace, PROGRAM, Synfin, eventually, ids, lacks_program};

/// The scrape interval in seconds.
const SCRAPE_INTERVAL: u32 = 1;

const PORT: u16 = 9090;

/// The port of the first synfin; the others follow.
const FIRST_TARGET: u16 = 9764;

/// Whether a program of Prometheus is missing.
#[track_caller]
pub(crate) fn lacks_prometheus(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let remedy = "install Debian's package prometheus (`apt-get install prometheus`), \
                  as `cargo xtask test` does";
    lacks_program(program, is_there, remedy)
}

/// A host of the fleet: a name, and the namespaces that its synfin traces.
pub(crate) struct Host<'a>(pub(crate) &'a str, pub(crate) &'a [&'a Namespace]);

/// Prometheus, and one `synfin serve` for each host. All run in a namespace of their own, where
/// every port is free and their own traffic is not traced. They end on drop.
pub(crate) struct Prometheus {
    process: Child,
    namespace: Namespace,
    synfins: Vec<Synfin>,
    folder: TempDir,
}

/// A series in a query's result, with points (Unix time, value).
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Series {
    /// A label; empty if there is none, as in Prometheus.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Its last value.
    pub(crate) fn value(&self) -> f64 {
        self.points.last().expect("a value").1
    }
}

impl Prometheus {
    /// Starts everything, and waits until each host has been scraped.
    #[track_caller]
    pub(crate) fn watch(hosts: &[Host<'_>], rules: Option<&Path>) -> Self {
        Self::start(hosts, rules, &[])
    }

    /// The same, with native histograms.
    #[track_caller]
    pub(crate) fn watch_native(hosts: &[Host<'_>]) -> Self {
        Self::start(hosts, None, &["--enable-feature=native-histograms"])
    }

    #[track_caller]
    fn start(hosts: &[Host<'_>], rules: Option<&Path>, options: &[&str]) -> Self {
        let namespace = Namespace::new();
        let (mut synfins, mut targets) = (Vec::new(), Vec::new());
        for (port, Host(name, watched)) in (FIRST_TARGET..).zip(hosts) {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
            let ids = ids(watched.iter().copied());
            let mut serve = Command::new(PROGRAM);
            serve.args(["serve", "-N", &ids, "--listen", &address]);
            synfins.push(namespace.within(|| Synfin::watch_command(&mut serve)));
            targets.push(json!({"targets": [address], "labels": {"instance": name}}));
        }

        let folder = tempfile::tempdir().expect("a directory");
        let interval = format!("{SCRAPE_INTERVAL}s");
        let config = json!({
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": rules.as_slice(),
            "scrape_configs": [{"job_name": "synfin", "static_configs": targets}],
        });
        let file = folder.path().join("prometheus.yml");
        // JSON is YAML.
        std::fs::write(&file, config.to_string()).expect("its configuration");
        let log = std::fs::File::create(folder.path().join("log")).expect("its log");
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(&file);
        command.arg("--storage.tsdb.path").arg(folder.path().join("data"));
        command.arg(format!("--web.listen-address=127.0.0.1:{PORT}")).arg("--log.level=warn");
        command.args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = namespace.within(|| command.spawn()).expect("Prometheus");

        let mut prometheus = Self { process, namespace, synfins, folder };
        eventually("Prometheus starts", || {
            prometheus.check_alive();
            prometheus.get("/-/ready").ok().filter(|answer| answer.contains(" 200 "))
        });
        for Host(name, _) in hosts {
            prometheus.wait_for(&format!("synfin_info{{instance=\"{name}\"}} == 1"));
        }
        prometheus
    }

    #[track_caller]
    fn check_alive(&mut self) {
        if let Some(status) = self.process.try_wait().expect("its status") {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            panic!("Prometheus ended, {status}: {}", log.unwrap_or_default());
        }
    }

    /// The current result of a query.
    #[track_caller]
    pub(crate) fn query(&self, query: &str) -> Vec<Series> {
        self.fetch(query, &format!("/api/v1/query?query={}", encoded(query)))
    }

    /// The results of a query every `step` seconds between two Unix times.
    #[track_caller]
    pub(crate) fn query_range(
        &self,
        query: &str,
        (begin, end): (f64, f64),
        step: f64,
    ) -> Vec<Series> {
        let encoded = encoded(query);
        let range = format!("start={begin:.3}&end={end:.3}&step={step}");
        self.fetch(query, &format!("/api/v1/query_range?query={encoded}&{range}"))
    }

    /// The value of a query with a single result.
    #[track_caller]
    pub(crate) fn value(&self, query: &str) -> Option<f64> {
        let found = self.query(query);
        assert!(found.len() <= 1, "{query} has several results: {found:?}");
        found.first().map(Series::value)
    }

    /// Waits until a query has a result.
    #[track_caller]
    pub(crate) fn wait_for(&self, query: &str) -> Vec<Series> {
        eventually(query, || Some(self.query(query)).filter(|found| !found.is_empty()))
    }

    #[track_caller]
    fn fetch(&self, query: &str, path: &str) -> Vec<Series> {
        let answer = self.get(path).unwrap_or_else(|error| panic!("{query}: {error}"));
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let body: Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{query}: {error}: {answer}"));
        assert_eq!(body["status"], "success", "{query}: {}", body["error"]);
        assert!(body["warnings"].is_null(), "{query}: {}", body["warnings"]);
        let result = &body["data"]["result"];
        if body["data"]["resultType"] == "scalar" {
            return vec![Series { labels: BTreeMap::new(), points: vec![point(result)] }];
        }
        result.as_array().expect("series").iter().map(series).collect()
    }

    /// Uses HTTP 1.0, so that the response is not chunked and ends with the connection.
    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream =
            self.namespace.within(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)))?;
        stream.set_read_timeout(Some(super::deadline()))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Ends everything, and checks that no synfin failed.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.check_alive();
        for synfin in self.synfins.drain(..) {
            synfin.finish();
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64()
}

fn series(series: &Value) -> Series {
    let labels = series["metric"].as_object().expect("labels").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let one = series.get("value").map(point);
    let many = series["values"].as_array().into_iter().flatten().map(point);
    Series {
        labels: labels.map(|(name, value)| (name.clone(), text(value))).collect(),
        points: one.into_iter().chain(many).collect(),
    }
}

/// A time, and a value as text, because JSON has no NaN.
fn point(pair: &Value) -> (f64, f64) {
    let value = pair[1].as_str().and_then(|value| value.parse().ok());
    (pair[0].as_f64().expect("a time"), value.unwrap_or_else(|| panic!("{pair} is not a value")))
}

fn encoded(query: &str) -> String {
    let encode = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    query.bytes().map(encode).collect()
}
