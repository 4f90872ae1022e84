//! The load: a process of its own, in network namespaces of its own, bounded in count and time. It
//! prints one line of results, and keeps its sockets and namespaces until its input ends.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use serde::{Deserialize, Serialize};

use crate::{
    usage::{self, Usage},
    wire::{self, Link},
};

/// The command that runs this program as the load.
pub(crate) const COMMAND: &str = "load";

const PORT: u16 = 7000;

/// Enough addresses that no range of ports is exhausted within a TIME_WAIT.
pub(crate) const ADDRESSES: u64 = 40;

/// Sizes of the request and the reply of a short connection, in bytes.
pub(crate) const REQUEST: usize = 100;
pub(crate) const REPLY: usize = 1_000;

/// The maximum duration of a load.
const LONGEST: Duration = Duration::from_mins(30);

/// The kinds of load.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(crate) enum Load {
    /// Short connections, one after the other on each CPU; the sides take turns in closing first
    Short {
        /// Stop after this number of connections
        #[arg(long, default_value_t = u64::MAX)]
        connections: u64,
        /// Stop after this number of milliseconds
        #[arg(long, default_value_t = u64::MAX)]
        ms: u64,
        /// What they carry
        #[arg(long)]
        carrying: Carried,
    },
    /// Connections that stay open
    Hold {
        #[arg(long)]
        connections: u64,
        /// In the current namespace, to this port
        #[arg(long)]
        port: Option<u16>,
    },
    /// Short connections between two namespaces, whose packets come by interrupt
    Wire {
        #[arg(long)]
        link: Link,
        #[arg(long)]
        ms: u64,
    },
    /// Namespaces with a few connections a second in each
    Namespaces {
        #[arg(long)]
        count: usize,
        #[arg(long)]
        ms: u64,
    },
}

/// What a short connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Carried {
    /// A request and a reply.
    Reply,
    /// Nothing: the costs of a tracer are as large as they can be beside those of the load.
    Nothing,
}

impl Carried {
    fn name(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Nothing => "nothing",
        }
    }
}

/// The results of a load.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Done {
    /// Each connection has ten transitions until it is closed, five on either side.
    pub(crate) connections: u64,
    pub(crate) seconds: f64,
}

impl Done {
    pub(crate) fn transitions(&self) -> u64 {
        self.connections * 10
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.connections as f64 / self.seconds
    }
}

/// A load that runs, or whose sockets are still open.
pub(crate) struct Running(Child);

impl Load {
    pub(crate) fn start(self) -> Result<Running> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND);
        match self {
            Self::Short { connections, ms, carrying } => command.args([
                "short".to_owned(),
                format!("--connections={connections}"),
                format!("--ms={ms}"),
                format!("--carrying={}", carrying.name()),
            ]),
            Self::Hold { connections, port } => {
                command.args(["hold".to_owned(), format!("--connections={connections}")]);
                command.args(port.map(|port| format!("--port={port}")))
            }
            Self::Wire { link, ms } => {
                let link = format!("--link={}", link.name());
                command.args(["wire".to_owned(), link, format!("--ms={ms}")])
            }
            Self::Namespaces { count, ms } => command.args([
                "namespaces".to_owned(),
                format!("--count={count}"),
                format!("--ms={ms}"),
            ]),
        };
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        child.map(Running).context("cannot start the load")
    }

    /// Starts the load, waits for its results, and ends it.
    pub(crate) fn run(self) -> Result<(Done, Usage)> {
        let mut running = self.start()?;
        let done = running.done()?;
        Ok((done, running.end()?))
    }

    /// Runs as the load.
    pub(crate) fn play(self) -> Result<()> {
        let begun = Instant::now();
        let (mut held, mut holders) = (Vec::new(), Vec::new());
        let connections = match self {
            Self::Short { connections, ms, carrying } => {
                enter_new_namespace()?;
                let deadline = begun + Duration::from_millis(ms).min(LONGEST);
                short_connections(connections, deadline, carrying)?
            }
            Self::Hold { connections, port: Some(port) } => {
                held = hold(connections, port)?;
                connections
            }
            Self::Hold { connections, port: None } => {
                enter_new_namespace()?;
                holders = hold_by_many(connections)?;
                connections
            }
            Self::Wire { link, ms } => {
                wire::connections(link, begun + Duration::from_millis(ms).min(LONGEST))?
            }
            Self::Namespaces { count, ms } => {
                namespaces(count, Duration::from_millis(ms).min(LONGEST))?
            }
        };
        let done = Done { connections, seconds: begun.elapsed().as_secs_f64() };
        println!("{}", serde_json::to_string(&done)?);
        io::copy(&mut io::stdin(), &mut io::sink())?;
        drop(held);
        holders.into_iter().try_for_each(|holder| holder.end().map(drop))
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for the results; the sockets stay.
    pub(crate) fn done(&mut self) -> Result<Done> {
        let output = self.0.stdout.take().context("the results were already read")?;
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line)?;
        serde_json::from_str(&line).context("the load failed; see above")
    }

    /// Ends the load, and closes its sockets.
    pub(crate) fn end(mut self) -> Result<Usage> {
        drop(self.0.stdin.take());
        let (status, usage) = usage::of_child(&mut self.0)?;
        if !status.success() {
            bail!("the load failed ({status})");
        }
        Ok(usage)
    }
}

/// Namespaces are found through the PIDs of their processes.
fn enter_new_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .context("cannot create a network namespace: run this as root")?;
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !status.context("cannot run ip")?.success() {
        bail!("ip cannot set up the loopback device");
    }
    // Room for all TIME_WAITs.
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "2000000")?;
    Ok(())
}

fn address(index: u64, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, (index % ADDRESSES) as u8 + 1), port)
}

/// A client and a server for each CPU, which keep it busy.
fn short_connections(wanted: u64, deadline: Instant, carrying: Carried) -> Result<u64> {
    let pairs = thread::available_parallelism()?.get() as u64;
    thread::scope(|scope| {
        let pairs: Vec<_> = (0..pairs)
            .map(|pair| {
                let share = wanted / pairs + u64::from(pair < wanted % pairs);
                scope.spawn(move || pair_of_threads(PORT + pair as u16, share, deadline, carrying))
            })
            .collect();
        let counts = pairs.into_iter().map(|pair| pair.join().expect("it does not panic"));
        counts.sum()
    })
}

fn pair_of_threads(port: u16, wanted: u64, deadline: Instant, carrying: Carried) -> Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let accepted = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| -> Result<()> {
            for stream in listener.incoming() {
                if over.load(Ordering::Acquire) {
                    break;
                }
                let index = accepted.fetch_add(1, Ordering::Relaxed);
                let mut stream = stream?;
                if carrying == Carried::Reply && stream.read_exact(&mut [0; REQUEST]).is_ok() {
                    stream.write_all(&[0; REPLY])?;
                }
                end(stream, index.is_multiple_of(2))?;
            }
            Ok(())
        });
        let mut index = 0;
        // The clock is read rarely.
        while index < wanted && (!index.is_multiple_of(64) || Instant::now() < deadline) {
            let mut stream = TcpStream::connect(address(index, port))?;
            if carrying == Carried::Reply {
                stream.write_all(&[0; REQUEST])?;
                stream.read_exact(&mut [0; REPLY])?;
            }
            end(stream, !index.is_multiple_of(2))?;
            index += 1;
        }
        over.store(true, Ordering::Release);
        // One more connection wakes the server.
        drop(TcpStream::connect(address(index, port))?);
        server.join().expect("the server does not panic")?;
        Ok(index + 1)
    })
}

/// Closes at once or after the peer.
fn end(mut stream: TcpStream, after_the_peer: bool) -> io::Result<()> {
    if after_the_peer {
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// Many hosts limit the open files of a process to little more than this.
const HELD_BY_ONE: u64 = 9_000;

fn hold_by_many(connections: u64) -> Result<Vec<Running>> {
    let mut holders = Vec::new();
    let mut rest = connections;
    while rest > 0 {
        let part = rest.min(HELD_BY_ONE);
        let port = Some(PORT + holders.len() as u16);
        let mut holder = Load::Hold { connections: part, port }.start()?;
        holder.done()?;
        holders.push(holder);
        rest -= part;
    }
    Ok(holders)
}

/// Both ends are in this process, so there are twice as many sockets.
fn hold(connections: u64, port: u16) -> Result<Vec<TcpStream>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let mut held = Vec::new();
    for index in 0..connections {
        held.push(TcpStream::connect(address(index, port))?);
        held.push(listener.accept()?.0);
    }
    Ok(held)
}

/// One thread for each namespace, so that none has to change its namespace.
fn namespaces(count: usize, time: Duration) -> Result<u64> {
    const PAUSE: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + time;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|index| {
                scope.spawn(move || -> Result<u64> {
                    enter_new_namespace()?;
                    // The starts are spread evenly.
                    thread::sleep(PAUSE * index as u32 / count as u32);
                    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
                    let mut connections = 0;
                    while Instant::now() < deadline {
                        let client = TcpStream::connect(address(connections, PORT))?;
                        end(client, false)?;
                        end(listener.accept()?.0, true)?;
                        connections += 1;
                        thread::sleep(PAUSE);
                    }
                    Ok(connections)
                })
            })
            .collect();
        let counts = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        counts.sum()
    })
}
