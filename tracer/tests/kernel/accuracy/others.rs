//! The output of other tools for the same connections: `tcpstates` and `tcplife` of libbpf-tools.
//! They do not know namespaces, so their lines are distinguished by address.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde::Serialize;

use crate::lab::{Namespace, eventually, pause};

/// The tools print events within this time.
const DELAY_MS: u64 = 500;

/// Prefixes of the names of the scenarios' own threads.
const OWN: [&str; 5] = ["accuracy::", "kernel", "just-a-thread", "victim", "parent"];

/// The running tools.
pub(super) struct Others {
    states: Tool,
    connections: Tool,
}

/// A summary of their output for a scenario.
#[derive(Serialize)]
pub(super) struct ToolOutput {
    tcpstates: Vec<String>,
    tcplife: Vec<String>,
}

/// A position in their output.
pub(super) struct Mark {
    states: usize,
    connections: usize,
}

struct Tool {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Others {
    /// Starts the tools, and waits until both report a connection.
    pub(super) fn start() -> Self {
        let others = Self { states: Tool::start("tcpstates"), connections: Tool::start("tcplife") };
        let namespace = Namespace::new();
        let address = Ipv4Addr::new(10, 78, 0, 1);
        namespace.run(&format!("ip address add {address}/24 dev lo"));
        let listener = namespace.listen(SocketAddr::from((address, 1)));
        eventually("tcpstates and tcplife see a connection", || {
            namespace.pair_with(&listener, (address, 1)).close_by_client();
            pause(DELAY_MS);
            let see = |tool: &Tool| tool.lines.lock().expect("its lines").len() > 1;
            (see(&others.states) && see(&others.connections)).then_some(())
        });
        others
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { states: self.states.count(), connections: self.connections.count() }
    }

    /// Their output about a network since that position.
    pub(super) fn output_since(&self, mark: &Mark, network: &[String]) -> ToolOutput {
        pause(DELAY_MS);
        let states = self.states.lines_since(mark.states, network);
        let connections = self.connections.lines_since(mark.connections, network);
        ToolOutput {
            tcpstates: paths(&states),
            tcplife: connections.iter().map(|line| connection(line)).collect(),
        }
    }
}

impl Tool {
    fn start(name: &str) -> Self {
        // A tool buffers its lines if it writes to a pipe.
        let mut child = Command::new("stdbuf")
            .args(["-oL", name, "-w"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {name}, of libbpf-tools: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                kept.lock().expect("its lines").push(line);
            }
        });
        Self { child, lines }
    }

    fn count(&self) -> usize {
        self.lines.lock().expect("its lines").len()
    }

    /// The fields of each line with an address that has this prefix.
    fn lines_since(&self, mark: usize, network: &[String]) -> Vec<Vec<String>> {
        let lines = self.lines.lock().expect("its lines");
        let fields = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let is_ours = |fields: &Vec<String>| {
            fields.iter().any(|field| network.iter().any(|start| field.starts_with(start)))
        };
        lines[mark..].iter().map(fields).filter(is_ours).collect()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `SKADDR PID COMM LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS`: the states of each socket.
fn paths(lines: &[Vec<String>]) -> Vec<String> {
    let mut sockets: Vec<&str> = Vec::new();
    let mut paths: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in lines {
        let [socket, .., old, _arrow, new, ms] = line.as_slice() else {
            panic!("cannot parse this line of tcpstates: {line:?}");
        };
        if !paths.contains_key(socket.as_str()) {
            sockets.push(socket);
        }
        let path = paths.entry(socket).or_default();
        if path.is_empty() {
            path.push(old.clone());
        }
        let time = if new == "ESTABLISHED" { format!(" ({ms} ms)") } else { String::new() };
        path.push(format!("{new}{time}"));
    }
    // Transitions to and from LISTEN belong to listeners.
    let is_listener = |path: &&Vec<String>| {
        path.iter().any(|state| state == "LISTEN") && !path.iter().any(|state| state == "SYN_RECV")
    };
    let paths = sockets.iter().map(|socket| &paths[socket]).filter(|path| !is_listener(path));
    paths.map(|path| path.join("→")).collect()
}

/// `PID COMM LADDR LPORT RADDR RPORT TX_KB RX_KB MS`: the process, and the duration.
fn connection(line: &[String]) -> String {
    let [_pid, comm @ .., _laddr, _lport, _raddr, _rport, _sent, _received, ms] = line else {
        panic!("cannot parse this line of tcplife: {line:?}");
    };
    let comm = comm.join(" ");
    let whose = if OWN.iter().any(|own| comm.starts_with(own)) { "the test" } else { "another" };
    let ms: f64 = ms.parse().expect("a number");
    let time = if ms < 1.0 { "< 1".to_owned() } else { format!("{ms:.0}") };
    format!("{whose}, {time} ms")
}
