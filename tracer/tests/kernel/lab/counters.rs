//! What the kernel itself counts, per namespace: the oracle that nobody here wrote.

use std::{collections::HashMap, fs};

/// The counters of `/proc/net/snmp` and `netstat` for TCP, and the gauges of `sockstat`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(HashMap<String, i64>);

impl Counters {
    /// Of the namespace that this thread is in.
    pub(super) fn read() -> Self {
        let mut counters = HashMap::new();
        for file in ["snmp", "netstat"] {
            let text = read(file);
            // A line of names, then a line of values, each after the name of its group.
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

    /// A counter, by the kernel's name; a gauge of `sockstat` has that before its name.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> u64 {
        let value = self.0.get(name).unwrap_or_else(|| panic!("the kernel counts no {name}"));
        u64::try_from(*value).expect("a counter")
    }
}

fn read(file: &str) -> String {
    // /proc/net is the process's, not the thread's.
    let path = format!("/proc/thread-self/net/{file}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}
