//! Walks over all sockets of a namespace and looks at all open files, on a thread of its own:
//! entering a namespace concerns the thread, and a walk over many sockets must not keep records
//! waiting.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result};
use aya::{Btf, Ebpf, maps::Array, programs::Iter};
use bytes::{Bytes, BytesMut};

use super::{ephemeral_ports, namespaces, net_counters, refusal};
use crate::{
    clock,
    input::{Nanos, NetnsId, WalkEnd},
};

/// What the thread can be asked for.
enum Request {
    List,
    Look { all: bool },
    Walk { netns: NetnsId, path: PathBuf },
}

/// What it answers.
pub enum Answer {
    /// The namespaces there are.
    Namespaces {
        /// A way into each.
        paths: BTreeMap<NetnsId, PathBuf>,
        /// CPU time that it took.
        cost: Nanos,
    },
    /// Who holds which sockets.
    Held {
        /// As [`crate::recording::Frame::Held`] holds it.
        holders: Bytes,
        /// CPU time that it took.
        cost: Nanos,
    },
    /// A part of a walk.
    Met {
        /// The sockets met, as [`crate::recording::Frame::Walked`] holds them.
        sockets: Bytes,
        /// By when they were met.
        by: Nanos,
    },
    /// A walk is over.
    Walked {
        /// Where and when.
        end: WalkEnd,
        /// CPU time that it took.
        cost: Nanos,
    },
}

/// The way back. Few answers wait there: a walk goes on only as fast as its parts are taken.
type Answers = tokio::sync::mpsc::Sender<Answer>;

/// The main side of the thread.
pub struct Walker {
    requests: mpsc::Sender<Request>,
    answers: tokio::sync::mpsc::Receiver<Answer>,
    refusal: Option<String>,
    look_refusal: Option<String>,
}

impl Walker {
    /// Takes over the loaded object, whose other programs are attached already.
    pub(super) fn start(mut ebpf: Ebpf, btf: &Btf) -> Result<Self> {
        let (requests, incoming) = mpsc::channel();
        let (outgoing, answers) = tokio::sync::mpsc::channel(1);
        let mut load = |program, target| {
            load(&mut ebpf, btf, program, target).err().map(|error| match error.downcast_ref() {
                Some(error) => refusal::brief(error),
                None => format!("{error:#}"),
            })
        };
        let (refusal, look_refusal) = (load(WALK, SOCKETS), load(LOOK, OPEN_FILES));
        thread::Builder::new()
            .name("synfin-survey".into())
            .spawn(move || serve(&mut ebpf, &incoming, &outgoing))
            .context("cannot start the survey's thread")?;
        Ok(Self { requests, answers, refusal, look_refusal })
    }

    /// Why this kernel cannot be surveyed, if it cannot.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Why open files cannot be looked at, if they cannot.
    pub fn look_refusal(&self) -> Option<&str> {
        self.look_refusal.as_deref()
    }

    /// Asks who holds the listeners of this host, or `all` its TCP sockets.
    pub fn look(&self, all: bool) {
        self.ask(Request::Look { all });
    }

    /// Asks for the namespaces of this host.
    pub fn list(&self) {
        self.ask(Request::List);
    }

    /// Asks for a walk over `netns`, whose namespace file is `path`.
    pub fn walk(&self, netns: NetnsId, path: PathBuf) {
        self.ask(Request::Walk { netns, path });
    }

    /// The next answer. Pending for ever if nothing was asked.
    pub async fn answer(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn ask(&self, request: Request) {
        // The thread ends with this and not before, unless it panicked: then there is no survey.
        let _ = self.requests.send(request);
    }
}

/// The programs' names in the object, and what they iterate over.
const WALK: &str = "scan_sockets";
const SOCKETS: &str = "tcp";
const LOOK: &str = "scan_open_files";
const OPEN_FILES: &str = "task_file";

/// By which names aya looks for that in the kernel's types.
pub(super) fn looked_for() -> impl Iterator<Item = String> {
    [SOCKETS, OPEN_FILES].into_iter().map(|target| format!("bpf_iter_{target}"))
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
        let begun = clock::monotonic_ns();
        let spent = clock::thread_cpu_ns();
        let cost = || clock::thread_cpu_ns() - spent;
        let answer = match request {
            Request::List => {
                let paths = namespaces::list();
                Answer::Namespaces { paths, cost: cost() }
            }
            Request::Look { all } => {
                // Owners that could not be found stay unknown.
                let holders = look(ebpf, all).unwrap_or_default();
                Answer::Held { holders, cost: cost() }
            }
            Request::Walk { netns, path } => {
                let error = walk(ebpf, &path, answers).err().map(|error| format!("{error:#}"));
                // Only now is this thread there for certain.
                let is_there = error.is_none();
                let ephemeral_ports = is_there.then(ephemeral_ports::read).flatten();
                let counters = is_there.then(net_counters::read).flatten();
                let ended = clock::monotonic_ns();
                let end = WalkEnd { netns, begun, ended, error, ephemeral_ports, counters };
                Answer::Walked { end, cost: cost() }
            }
        };
        if answers.blocking_send(answer).is_err() {
            return;
        }
    }
}

/// The iterator belongs to the namespace in which it is made.
fn walk(ebpf: &mut Ebpf, path: &Path, answers: &Answers) -> Result<()> {
    namespaces::enter(path)?;
    read(ebpf, WALK, |sockets| {
        // If nobody wants it any more, that is noticed at the walk's end.
        let _ = answers.blocking_send(Answer::Met { sockets, by: clock::monotonic_ns() });
    })
    .context("cannot read the kernel's list of sockets")
}

fn look(ebpf: &mut Ebpf, all: bool) -> Result<Bytes> {
    let map =
        ebpf.map_mut("SCAN_ALL_SOCKETS").context("the eBPF object has no map SCAN_ALL_SOCKETS")?;
    Array::<_, u32>::try_from(map)?.set(0, u32::from(all), 0)?;
    let mut holders = BytesMut::new();
    read(ebpf, LOOK, |part| holders.extend_from_slice(&part))
        .context("cannot read the kernel's list of open files")?;
    Ok(holders.freeze())
}

/// Parts are so large: a millisecond or two for who takes them.
const PART: usize = 1 << 20;

/// The kernel gives whole records at a time, at most eight pages of them, if there is room for that.
const ROOM: usize = 8 << 16;

/// Gives what the program writes to `take`, in parts of whole records.
fn read(ebpf: &mut Ebpf, name: &str, mut take: impl FnMut(Bytes)) -> Result<()> {
    let program = program(ebpf, name)?;
    let link = program.attach()?;
    let mut file = program.take_link(link)?.into_file()?;
    let mut part = vec![0; PART + ROOM];
    let mut filled = 0;
    loop {
        let read = file.read(&mut part[filled..])?;
        filled += read;
        if filled >= PART || read == 0 && filled > 0 {
            take(Bytes::copy_from_slice(&part[..filled]));
            filled = 0;
        }
        if read == 0 {
            return Ok(());
        }
    }
}
