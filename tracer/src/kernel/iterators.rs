//! Scans the sockets of a namespace and all open files on a separate thread: a thread enters a
//! namespace for itself only, and a scan of many sockets must not delay the records.

use std::{
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, bail};
use aya::{Btf, Ebpf, maps::Array, programs::Iter};
use bytes::{Bytes, BytesMut};
use synfin_common::holder::NamespaceHolder;
use zerocopy::FromBytes;

use super::refusal;
use crate::{
    host::{
        clock,
        namespaces::{self, Listing},
        netstat, port_range,
    },
    message::failure::Failure,
    trace::{counters::NetnsCounters, ids::NetnsId, scan::ScanEnd, time::Nanos},
};

/// A request to the scanner thread.
enum Request {
    List,
    ReadCounters(Vec<(NetnsId, PathBuf)>),
    ScanOpenFiles { all: bool },
    ScanSockets { netns: NetnsId, path: PathBuf },
}

/// An answer of the scanner thread.
pub enum Answer {
    /// The namespaces of this host.
    Namespaces {
        /// The namespaces.
        listing: Listing,
        /// When the listing began.
        started: Nanos,
        /// CPU time of the request.
        cost: Nanos,
    },
    /// The kernel's counters of the requested namespaces, except those that are gone.
    Counters {
        /// The counters.
        counters: Vec<NetnsCounters>,
        /// CPU time of the request.
        cost: Nanos,
    },
    /// The processes that hold sockets.
    SocketHolders {
        /// The holders in the format of [`crate::trace::recording::Frame::SocketHolders`].
        holders: Result<Bytes>,
        /// Whether the scan was for all sockets, not only for listeners and CLOSE_WAIT.
        all: bool,
        /// CPU time of the request.
        cost: Nanos,
    },
    /// A part of a scan, in the format of [`crate::trace::recording::Frame::Scanned`].
    Sockets(Bytes),
    /// A scan has ended.
    ScanDone {
        /// The namespace and the time of the end.
        end: ScanEnd,
        /// CPU time of the scan.
        cost: Nanos,
    },
}

/// The channel for answers. Its capacity is small, so a scan proceeds only as fast as its parts are
/// consumed.
type Answers = tokio::sync::mpsc::Sender<Answer>;

/// The main thread's handle of the scanner thread.
pub struct SocketScanner {
    requests: mpsc::Sender<Request>,
    answers: tokio::sync::mpsc::Receiver<Answer>,
    /// `None` after the thread has panicked and has been joined.
    thread: Option<JoinHandle<()>>,
    refusal: Option<String>,
    open_files_refusal: Option<String>,
}

impl SocketScanner {
    /// Takes ownership of the loaded object, whose other programs are already attached.
    pub(super) fn start(mut ebpf: Ebpf, btf: &Btf) -> Result<Self> {
        let mut load = |program, target| {
            load(&mut ebpf, btf, program, target).err().map(|error| match error.downcast_ref() {
                Some(error) => refusal::brief(error),
                None => format!("{error:#}"),
            })
        };
        let (refusal, open_files_refusal) =
            (load(SCAN_SOCKETS, SOCKETS), load(SCAN_OPEN_FILES, OPEN_FILES));
        // Without it, namespaces are listed by /proc.
        let _ = load(SCAN_NAMESPACES, TASKS);
        let serve = move |requests, answers| serve(&mut ebpf, &requests, &answers);
        Ok(Self { refusal, open_files_refusal, ..Self::spawn(serve)? })
    }

    fn spawn(
        serve: impl FnOnce(mpsc::Receiver<Request>, Answers) + Send + 'static,
    ) -> Result<Self> {
        let (requests, incoming) = mpsc::channel();
        let (outgoing, answers) = tokio::sync::mpsc::channel(1);
        let thread = thread::Builder::new()
            .name("synfin-scan".into())
            .spawn(move || serve(incoming, outgoing))
            .context("cannot start the scan thread")?;
        Ok(Self {
            requests,
            answers,
            thread: Some(thread),
            refusal: None,
            open_files_refusal: None,
        })
    }

    /// A scanner whose thread panics at the first request.
    #[cfg(test)]
    pub(crate) fn that_panics() -> Self {
        Self::spawn(|requests, _answers| {
            let _ = requests.recv();
            panic!("on purpose");
        })
        .expect("a thread")
    }

    /// Why sockets cannot be scanned on this kernel, or `None` if they can.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Why open files cannot be scanned, or `None` if they can.
    pub fn open_files_refusal(&self) -> Option<&str> {
        self.open_files_refusal.as_deref()
    }

    /// Requests the holders of this host's listeners and connections in CLOSE_WAIT or, with `all`, of all
    /// TCP sockets.
    pub fn scan_open_files(&self, all: bool) {
        self.ask(Request::ScanOpenFiles { all });
    }

    /// Requests the namespaces of this host.
    pub fn list(&self) {
        self.ask(Request::List);
    }

    /// Requests the kernel's counters of these namespaces, whose files are at these paths.
    pub fn read_counters(&self, namespaces: Vec<(NetnsId, PathBuf)>) {
        self.ask(Request::ReadCounters(namespaces));
    }

    /// Requests a scan of the sockets in `netns`, whose namespace file is `path`.
    pub fn scan_sockets(&self, netns: NetnsId, path: PathBuf) {
        self.ask(Request::ScanSockets { netns, path });
    }

    /// Waits for the next answer. Without an open request it waits for ever.
    ///
    /// # Errors
    ///
    /// The thread has panicked, so no request will be answered any more.
    pub async fn answer(&mut self) -> Result<Answer> {
        match self.answers.recv().await {
            Some(answer) => Ok(answer),
            None => Err(self.panicked().into()),
        }
    }

    fn ask(&self, request: Request) {
        // The thread ends early only if it panics, which `answer` reports.
        let _ = self.requests.send(request);
    }

    /// The cause of the thread's panic. Joins the thread, which ends as soon as the channel has
    /// closed.
    fn panicked(&mut self) -> Failure {
        let panic = self.thread.take().and_then(|thread| thread.join().err());
        let message = panic.as_ref().and_then(|panic| {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            message.or_else(|| panic.downcast_ref::<&str>().copied())
        });
        Failure::cannot_run(
            "the trace ended early",
            format!("the scan thread panicked: {}", message.unwrap_or("without a message")),
            "this is a bug in synfin: please report it with the lines above, and restart the trace",
        )
    }
}

/// Names of the programs in the object and of their iterator targets.
const SCAN_SOCKETS: &str = "scan_sockets";
const SOCKETS: &str = "tcp";
const SCAN_OPEN_FILES: &str = "scan_open_files";
const OPEN_FILES: &str = "task_file";
const SCAN_NAMESPACES: &str = "scan_namespaces";
const TASKS: &str = "task";

/// The names that aya looks up in the kernel's types for the iterators.
pub(super) fn looked_for() -> impl Iterator<Item = String> {
    [SOCKETS, OPEN_FILES, TASKS].into_iter().map(|target| format!("bpf_iter_{target}"))
}

fn load(ebpf: &mut Ebpf, btf: &Btf, name: &str, target: &str) -> Result<()> {
    Ok(program(ebpf, name)?.load(target, btf)?)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Iter> {
    let program = ebpf.program_mut(name);
    Ok(program.with_context(|| format!("the eBPF object has no program {name}"))?.try_into()?)
}

fn serve(ebpf: &mut Ebpf, requests: &mpsc::Receiver<Request>, answers: &Answers) {
    while let Ok(request) = requests.recv() {
        let started = clock::monotonic_ns();
        let spent = clock::thread_cpu_ns();
        let cost = || clock::thread_cpu_ns() - spent;
        let answer = match request {
            Request::List => {
                let holders = scan_namespaces(ebpf).unwrap_or_default();
                let listing = namespaces::list(&holders);
                Answer::Namespaces { listing, started, cost: cost() }
            }
            Request::ReadCounters(namespaces) => {
                let counters = namespaces.into_iter().filter_map(read_counters).collect();
                Answer::Counters { counters, cost: cost() }
            }
            Request::ScanOpenFiles { all } => {
                let holders = scan_open_files(ebpf, all);
                Answer::SocketHolders { holders, all, cost: cost() }
            }
            Request::ScanSockets { netns, path } => {
                let begun = ScanEnd::started(netns, started);
                let end = scan_namespace(ebpf, &path, begun, answers);
                Answer::ScanDone { end, cost: cost() }
            }
        };
        if answers.blocking_send(answer).is_err() {
            return;
        }
    }
}

/// Calls `visit` within a namespace, and returns to the own one.
fn within<T>(netns: NetnsId, path: &Path, visit: impl FnOnce() -> Result<T>) -> Result<T> {
    namespaces::within(path, || {
        // The path may lead to another namespace by now.
        if namespaces::id().is_some_and(|id| id != netns) {
            bail!("the network namespace is gone");
        }
        visit()
    })
    .flatten()
}

/// Scans one namespace.
fn scan_namespace(ebpf: &mut Ebpf, path: &Path, begun: ScanEnd, answers: &Answers) -> ScanEnd {
    let result = within(begun.netns, path, || {
        scan_sockets(ebpf, answers)?;
        Ok((port_range::read(), netstat::read()))
    });
    let ended = clock::monotonic_ns();
    match result {
        Ok((ephemeral_ports, counters)) => ScanEnd { ended, ephemeral_ports, counters, ..begun },
        Err(error) => ScanEnd { ended, error: Some(format!("{error:#}")), ..begun },
    }
}

/// Scans the namespace of this thread: an iterator belongs to the one in which it is created.
fn scan_sockets(ebpf: &mut Ebpf, answers: &Answers) -> Result<()> {
    read(ebpf, SCAN_SOCKETS, |sockets| {
        // If the receiver is gone, the end of the scan will report it.
        let _ = answers.blocking_send(Answer::Sockets(sockets));
    })
    .context("cannot read the kernel's list of sockets")
}

/// Reads the kernel's counters of a namespace; `None` if it is gone.
fn read_counters((netns, path): (NetnsId, PathBuf)) -> Option<NetnsCounters> {
    let counters = within(netns, &path, || Ok(netstat::read())).ok().flatten()?;
    Some(NetnsCounters { netns, counters })
}

/// The namespaces of all threads; an error if the kernel has no iterator for them.
fn scan_namespaces(ebpf: &mut Ebpf) -> Result<Vec<NamespaceHolder>> {
    let bytes = read_all(ebpf, SCAN_NAMESPACES)?;
    let holders = bytes.chunks_exact(size_of::<NamespaceHolder>());
    Ok(holders.filter_map(|bytes| NamespaceHolder::read_from_bytes(bytes).ok()).collect())
}

fn scan_open_files(ebpf: &mut Ebpf, all: bool) -> Result<Bytes> {
    let map =
        ebpf.map_mut("SCAN_ALL_SOCKETS").context("the eBPF object has no map SCAN_ALL_SOCKETS")?;
    Array::<_, u32>::try_from(map)?.set(0, u32::from(all), 0)?;
    read_all(ebpf, SCAN_OPEN_FILES).context("cannot read the kernel's list of open files")
}

/// Maximum size of a part in bytes, which takes its consumer one or two milliseconds.
const CHUNK_BYTES: usize = 1 << 20;

/// Read buffer size in bytes. The kernel returns whole records, at most eight pages of them, if the
/// buffer has room.
const ROOM: usize = 8 << 16;

/// Reads the program's whole output.
fn read_all(ebpf: &mut Ebpf, name: &str) -> Result<Bytes> {
    let mut all = BytesMut::new();
    read(ebpf, name, |part| all.extend_from_slice(&part))?;
    Ok(all.freeze())
}

/// Reads the program's output and passes it to `take` in parts of whole records.
fn read(ebpf: &mut Ebpf, name: &str, mut take: impl FnMut(Bytes)) -> Result<()> {
    let program = program(ebpf, name)?;
    let link = program.attach()?;
    let mut file = program.take_link(link)?.into_file()?;
    let mut part = vec![0; CHUNK_BYTES + ROOM];
    let mut filled = 0;
    loop {
        let read = match file.read(&mut part[filled..]) {
            // The kernel has visited a million objects without output (`MAX_ITER_OBJECTS`).
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            result => result?,
        };
        filled += read;
        if filled >= CHUNK_BYTES || read == 0 && filled > 0 {
            take(Bytes::copy_from_slice(&part[..filled]));
            filled = 0;
        }
        if read == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_the_thread_is_an_error() {
        let mut scanner = SocketScanner::that_panics();
        scanner.list();
        for why in ["panicked: on purpose", "panicked: without a message"] {
            let Err(error) = scanner.answer().await else { panic!("there is an answer") };
            assert!(error.to_string().ends_with(why), "{error}");
            // The receiver is gone, which must not cause a panic here.
            scanner.list();
        }
    }
}
