//! The kernel's own counters per namespace, an independent oracle.

use std::{collections::HashMap, fs};

/// The counters of `/proc/net/snmp` and `netstat` for TCP, and the gauges of `sockstat`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(HashMap<String, i64>);

impl Counters {
    /// Reads the counters of the current thread's namespace.
    pub(super) fn read() -> Self {
        let mut counters = HashMap::new();
        for file in ["snmp", "netstat"] {
            let text = read(file);
            // A line of names and a line of values, each prefixed by the group's name.
            let mut lines = text.lines();
            while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
                if names.starts_with("Tcp: ") || names.starts_with("TcpExt: ") {
                    let pairs = names.split(' ').zip(values.split(' ')).skip(1);
                    counters.extend(pairs.map(|(name, value)| (name.to_owned(), number(value))));
                }
            }
        }
        let sockstat = read("sockstat");
        let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP: ")).unwrap_or("");
        let words: Vec<_> = tcp.split(' ').collect();
        let pairs = words.chunks_exact(2);
        counters.extend(pairs.map(|pair| (format!("sockstat.{}", pair[0]), number(pair[1]))));
        Self(counters)
    }

    /// A counter by the kernel's name; gauges of `sockstat` have that prefix.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> u64 {
        let value = self.0.get(name).unwrap_or_else(|| panic!("the kernel has no counter {name}"));
        u64::try_from(*value).expect("a counter")
    }
}

fn read(file: &str) -> String {
    // /proc/net belongs to the process, not to the thread.
    let path = format!("/proc/thread-self/net/{file}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}
