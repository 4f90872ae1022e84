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
use bytes::Bytes;

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
        /// How long it took to find them.
        took: Nanos,
    },
    /// Who holds which sockets.
    Held {
        /// As [`crate::recording::Frame::Held`] holds it.
        holders: Bytes,
        /// How long it took to find out.
        took: Nanos,
    },
    /// A walk is over.
    Walked {
        /// The sockets met, as [`crate::recording::Frame::Walked`] holds them.
        sockets: Bytes,
        /// Where and when.
        end: WalkEnd,
    },
}

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
        // One thing is asked for at a time.
        let (outgoing, answers) = tokio::sync::mpsc::channel(1);
        let mut load = |program, target| {
            load(&mut ebpf, btf, program, target).err().map(|error| match error.downcast_ref() {
                Some(error) => refusal::brief(error),
                None => format!("{error:#}"),
            })
        };
        let (refusal, look_refusal) = (load(WALK, "tcp"), load(LOOK, "task_file"));
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

/// The programs' names in the object.
const WALK: &str = "survey";
const LOOK: &str = "holders";

fn load(ebpf: &mut Ebpf, btf: &Btf, name: &str, target: &str) -> Result<()> {
    Ok(program(ebpf, name)?.load(target, btf)?)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Iter> {
    let program = ebpf.program_mut(name);
    Ok(program.with_context(|| format!("the eBPF object has no program {name}"))?.try_into()?)
}

fn serve(
    ebpf: &mut Ebpf,
    requests: &mpsc::Receiver<Request>,
    answers: &tokio::sync::mpsc::Sender<Answer>,
) {
    while let Ok(request) = requests.recv() {
        let begun = clock::monotonic_ns();
        let answer = match request {
            Request::List => {
                let paths = namespaces::list();
                Answer::Namespaces { paths, took: clock::monotonic_ns() - begun }
            }
            Request::Look { all } => {
                // Owners that could not be found stay unknown.
                let holders = look(ebpf, all).unwrap_or_default();
                Answer::Held { holders, took: clock::monotonic_ns() - begun }
            }
            Request::Walk { netns, path } => {
                let (sockets, error) = match walk(ebpf, &path) {
                    Ok(sockets) => (sockets, None),
                    Err(error) => (Bytes::new(), Some(format!("{error:#}"))),
                };
                // Only now is this thread there for certain.
                let is_there = error.is_none();
                let ephemeral_ports = is_there.then(ephemeral_ports::read).flatten();
                let counters = is_there.then(net_counters::read).flatten();
                let ended = clock::monotonic_ns();
                let end = WalkEnd { netns, begun, ended, error, ephemeral_ports, counters };
                Answer::Walked { sockets, end }
            }
        };
        if answers.blocking_send(answer).is_err() {
            return;
        }
    }
}

/// The iterator belongs to the namespace in which it is made.
fn walk(ebpf: &mut Ebpf, path: &Path) -> Result<Bytes> {
    namespaces::enter(path)?;
    read(ebpf, WALK).context("cannot read the kernel's list of sockets")
}

fn look(ebpf: &mut Ebpf, all: bool) -> Result<Bytes> {
    let map = ebpf.map_mut("LOOK_AT_ALL").context("the eBPF object has no map LOOK_AT_ALL")?;
    Array::<_, u32>::try_from(map)?.set(0, u32::from(all), 0)?;
    read(ebpf, LOOK).context("cannot read the kernel's list of open files")
}

fn read(ebpf: &mut Ebpf, name: &str) -> Result<Bytes> {
    let program = program(ebpf, name)?;
    let link = program.attach()?;
    let mut file = program.take_link(link)?.into_file()?;
    let mut records = Vec::new();
    file.read_to_end(&mut records)?;
    Ok(records.into())
}
