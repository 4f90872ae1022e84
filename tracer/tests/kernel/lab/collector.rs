//! An independent OpenTelemetry collector that prints what it receives.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::NamedTempFile;

use super::{Namespace, lacks_program};

/// Installed by `cargo xtask test`.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/python/bin/rotel");

/// Whether the collector is missing.
#[track_caller]
pub(crate) fn lacks_collector() -> bool {
    let is_there = Path::new(PROGRAM).is_file();
    lacks_program("OpenTelemetry collector", is_there, "`cargo xtask test` installs it")
}

/// A running collector, which ends on drop.
pub(crate) struct Collector {
    process: Child,
    printed: NamedTempFile,
}

/// Values by metric name and attributes (`name=value`). A histogram has its count, and its sum and
/// buckets under the additional attributes `sum` and `le`.
#[derive(Debug, Default)]
pub(crate) struct Pushed(BTreeMap<(String, BTreeSet<String>), f64>);

impl Collector {
    /// The address on which it receives metrics by HTTP.
    pub(crate) const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4318);

    /// Starts one in a namespace.
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let printed = NamedTempFile::new().expect("a file");
        let output = || File::options().append(true).open(printed.path()).expect("the file");
        let mut command = Command::new(PROGRAM);
        command.args(["start", "--exporter", "blackhole", "--disable-batching"]);
        command.args(["--debug-log", "metrics", "--debug-log-verbosity", "detailed"]);
        command.args(["--otlp-http-endpoint", &Self::ADDRESS.to_string()]);
        command.args(["--otlp-grpc-endpoint", "127.0.0.1:4317"]);
        command.stdin(Stdio::null()).stdout(output()).stderr(output());
        let process = namespace.within(|| command.spawn()).expect("the collector");
        Self { process, printed }
    }

    /// The whole output.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(self.printed.path()).expect("its output")
    }

    /// The last push.
    pub(crate) fn last(&self) -> Pushed {
        let printed = self.printed();
        let (_, last) = printed.rsplit_once("ResourceMetrics #0\n").unwrap_or_default();
        Pushed::read(last)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Pushed {
    /// Parses the text output of collectors.
    fn read(text: &str) -> Self {
        let mut pushed = Self::default();
        let (mut name, mut attributes) = ("", BTreeSet::new());
        let mut bounds = Vec::new();
        for line in text.lines() {
            let (key, value) = line.split_once(": ").unwrap_or((line, ""));
            let number = || value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            let bare = || value.split_once('(').map_or(value, |(_, bare)| &bare[..bare.len() - 1]);
            match key.trim() {
                "-> Name" => name = value,
                "Data point attributes:" => attributes.clear(),
                "ExplicitBounds #0" => bounds = vec![value],
                "Value" | "Count" => pushed.add(name, &attributes, None, number()),
                "Sum" => pushed.add(name, &attributes, Some("sum"), number()),
                key if key.starts_with("ExplicitBounds #") => bounds.push(value),
                key if key.starts_with("Buckets #") => {
                    let (index, count) = line["Buckets #".len()..]
                        .split_once(", Count: ")
                        .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)))
                        .unwrap_or_else(|| panic!("not a bucket: {line}"));
                    let bound: Option<&&str> = bounds.get::<usize>(index);
                    let bound = format!("le={}", bound.unwrap_or(&"+Inf"));
                    pushed.add(name, &attributes, Some(&bound), count);
                }
                key => {
                    if let Some(key) = key.strip_prefix("-> ") {
                        attributes.insert(format!("{key}={}", bare()));
                    }
                }
            }
        }
        pushed
    }

    fn add(&mut self, name: &str, of: &BTreeSet<String>, more: Option<&str>, value: f64) {
        let mut of = of.clone();
        of.extend(more.map(str::to_owned));
        let known = self.0.insert((name.to_owned(), of), value);
        assert_eq!(known, None, "{name} occurs twice");
    }

    /// The value with exactly these attributes; 0 if there is none.
    pub(crate) fn value(&self, name: &str, attributes: &[&str]) -> f64 {
        let attributes = attributes.iter().map(|&attribute| attribute.to_owned()).collect();
        self.0.get(&(name.to_owned(), attributes)).copied().unwrap_or(0.0)
    }
}
