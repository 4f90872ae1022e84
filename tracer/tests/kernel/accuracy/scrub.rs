//! Removes everything specific to this host from a recording: names, ids of processes, sockets and
//! namespaces, dates. The events and the times between them stay.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
};

use synfin::trace::{
    counters::{Counters, Tick},
    decode::decode,
    event::Input,
    ids::{NetnsId, NetnsInode},
    recording::{Frame, Reader, Recorder},
    session::Session,
    time::ClockAnchor,
    wire::{self, Record, ScanRecord},
};
use zerocopy::IntoBytes;

/// The start of every recording: 2026-01-01, ten minutes after boot.
const BEGIN: ClockAnchor =
    ClockAnchor { monotonic_ns: 600_000_000_000, realtime_ns: 1_767_225_600_000_000_000 };

/// The name of every process that is not named by a scenario.
const ANYBODY: &[u8] = b"test";

/// Scrubs a recording of the namespaces with these inode numbers. `names` are the scenario's own and stay.
pub(super) fn scrub(recording: &[u8], namespaces: &[NetnsInode], names: &[&str]) -> Vec<u8> {
    let frames: Vec<_> = Reader::new(recording)
        .expect("a recording")
        .map(|frame| frame.expect("a whole recording"))
        .collect();
    let Some(Frame::Session(session)) = frames.first() else {
        panic!("a recording begins with its session");
    };
    let numbers: HashMap<_, _> = namespaces.iter().copied().zip(1..).collect();
    let mut namespaces = numbers.clone();
    let mut known = HashSet::new();
    for frame in &frames {
        let inodes = match frame {
            Frame::Session(session) => &session.inodes,
            Frame::Names(names) => &names.inodes,
            _ => &BTreeMap::new(),
        };
        for (&id, inode) in inodes {
            namespaces.extend(numbers.get(inode).map(|&number| (id, number)));
        }
        decode(frame, |input| match input {
            Input::Transition(transition) => {
                known.insert(transition.sock);
            }
            Input::ScannedSocket(socket) => {
                known.insert(socket.sock);
            }
            _ => {}
        });
    }
    let mut scrubber = Scrubber {
        began: session.clock.monotonic_ns,
        namespaces,
        known,
        sockets: Numbers::default(),
        processes: Numbers::default(),
        names: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        elsewhere: false,
    };
    let mut scrubbed = Vec::new();
    let mut recorder = Recorder::new(&mut scrubbed).expect("memory");
    for frame in frames.into_iter().filter_map(|frame| scrubber.frame(frame)) {
        recorder.write(&frame).expect("memory");
    }
    scrubbed
}

struct Scrubber {
    began: u64,
    namespaces: HashMap<NetnsId, NetnsId>,
    /// The recording's sockets.
    known: HashSet<u64>,
    sockets: Numbers<u64>,
    processes: Numbers<u32>,
    names: Vec<Vec<u8>>,
    /// Whether the current scan is of another namespace.
    elsewhere: bool,
}

/// Consecutive numbers in order of first appearance.
#[derive(Default)]
struct Numbers<T>(HashMap<T, u32>);

impl<T: Eq + Hash> Numbers<T> {
    fn of(&mut self, thing: T) -> u32 {
        let next = self.0.len() as u32 + 1;
        *self.0.entry(thing).or_insert(next)
    }
}

impl Scrubber {
    fn frame(&mut self, frame: Frame) -> Option<Frame> {
        Some(match frame {
            Frame::Session(session) => Frame::Session(Box::new(self.session(*session))),
            Frame::Events(batch) => {
                Frame::Events(change_records(&batch, |record| self.record(record)).into())
            }
            Frame::ScanBegin(mut begin) => {
                begin.time = self.time(begin.time);
                begin.netns = self.scanned_netns(begin.netns)?;
                Frame::ScanBegin(begin)
            }
            Frame::Scanned(_) if self.elsewhere => return None,
            Frame::Scanned(found) => Frame::Scanned(self.scanned(&found).into()),
            Frame::ScanEnd(mut end) => {
                (end.started, end.ended) = (self.time(end.started), self.time(end.ended));
                if let Some(counters) = &mut end.counters {
                    counters.time = self.time(counters.time);
                }
                end.netns = self.scanned_netns(end.netns)?;
                Frame::ScanEnd(end)
            }
            Frame::Tick(tick) => Frame::Tick(self.tick(tick)),
            Frame::ListenerHolders(holders) => {
                Frame::ListenerHolders(self.socket_holders(&holders).into())
            }
            Frame::SocketHolders(holders) => {
                Frame::SocketHolders(self.socket_holders(&holders).into())
            }
            Frame::Counters(mut read) => {
                read.netns = *self.namespaces.get(&read.netns)?;
                read.counters.time = self.time(read.counters.time);
                Frame::Counters(read)
            }
            // Cgroups and namespaces of this host.
            Frame::Names(_) | Frame::Namespaces(_) => return None,
        })
    }

    fn session(&self, session: Session) -> Session {
        let mut filter = session.filter;
        filter.namespaces = filter.namespaces.iter().map(|id| self.namespaces[id]).collect();
        let release: Vec<_> = session.kernel.split('.').take(2).collect();
        Session {
            synfin: session.synfin,
            host: "host".to_owned(),
            kernel: release.join("."),
            clock: BEGIN,
            hooks: session.hooks,
            coverage: session.coverage,
            ring_bytes: session.ring_bytes,
            filter,
            ..Session::default()
        }
    }

    /// Times before the start of the recording become its start.
    fn time(&self, time: u64) -> u64 {
        time.saturating_sub(self.began) + BEGIN.monotonic_ns
    }

    fn scanned_netns(&mut self, netns: NetnsId) -> Option<NetnsId> {
        let known = self.namespaces.get(&netns).copied();
        self.elsewhere = known.is_none();
        known
    }

    fn socket(&mut self, socket: u64) -> u64 {
        self.sockets.of(socket).into()
    }

    /// The address of an MPTCP socket, if there is one.
    fn mptcp(&mut self, socket: u64) -> u64 {
        if socket == 0 { 0 } else { self.socket(socket) }
    }

    /// A PID of 0 means no process and stays.
    fn process(&mut self, pid: u32) -> u32 {
        if pid == 0 { 0 } else { 1000 + self.processes.of(pid) }
    }

    fn comm(&self, comm: [u8; 16]) -> [u8; 16] {
        let name = comm.split(|&byte| byte == 0).next().unwrap_or_default();
        let is_known = name.is_empty() || self.names.iter().any(|known| known == name);
        let name = if is_known { name } else { ANYBODY };
        let mut comm = [0; 16];
        comm[..name.len()].copy_from_slice(name);
        comm
    }

    fn record(&mut self, record: &mut Record) {
        match record {
            Record::ResetReceived(reset) | Record::ResetSent(reset) => {
                self.event(&mut reset.time, &mut reset.sock);
            }
            Record::TimeWaitEntry(entry) => self.event(&mut entry.time, &mut entry.sock),
            Record::Accepted(accepted) => self.event(&mut accepted.time, &mut accepted.sock),
            Record::FinWait2ToTimeWait(change, _) | Record::TimeWaitExit(change, _) => {
                change.time = self.time(change.time);
                change.netns = self.namespaces[&change.netns];
            }
            Record::Step(step, _) => self.step(step),
            Record::Opening(opening, _) => {
                self.step(&mut opening.step);
                opening.cgroup = 0;
                opening.netns_inode = opening.step.netns;
                opening.parent = self.mptcp(opening.parent);
                opening.comm = self.comm(opening.comm);
            }
            Record::Established(established, _) => {
                self.step(&mut established.step);
                established.mptcp = self.mptcp(established.mptcp);
            }
            Record::Closing(closing, _) => self.step(&mut closing.step),
        }
    }

    fn event(&mut self, time: &mut u64, sock: &mut u64) {
        *time = self.time(*time);
        *sock = self.socket(*sock);
    }

    fn step(&mut self, step: &mut wire::Step) {
        self.event(&mut step.time, &mut step.sock);
        step.netns = self.namespaces[&step.netns];
        step.pid = self.process(step.pid);
    }

    fn scanned(&mut self, found: &[u8]) -> Vec<u8> {
        let mut scrubbed = Vec::new();
        for record in wire::scan_records(found) {
            let mut record = record.expect("a whole record");
            if let ScanRecord::Socket(socket) = &mut record {
                self.event(&mut socket.time, &mut socket.sock);
                socket.cgroup = 0;
                socket.mptcp = self.mptcp(socket.mptcp);
            }
            scrubbed.extend_from_slice(record.as_bytes());
        }
        scrubbed
    }

    /// Keeps only holders of the recording's sockets; all processes were scanned.
    fn socket_holders(&mut self, holders: &[u8]) -> Vec<u8> {
        let mut kept = Vec::new();
        for mut holder in wire::socket_holders(holders) {
            if !self.known.contains(&holder.sock) {
                continue;
            }
            holder.sock = self.socket(holder.sock);
            holder.time = self.time(holder.time);
            holder.start_time = self.time(holder.start_time);
            holder.cgroup = 0;
            holder.pid = self.process(holder.pid);
            holder.parent = self.process(holder.parent);
            holder.comm = self.comm(holder.comm);
            kept.extend_from_slice(holder.as_bytes());
        }
        kept
    }

    /// The filtered records are other namespaces' traffic.
    fn tick(&self, mut tick: Tick) -> Tick {
        tick.time = self.time(tick.time);
        let Counters { seen, filtered, .. } = &mut tick.counters;
        seen.iter_mut().zip(&*filtered).for_each(|(seen, filtered)| *seen -= filtered);
        filtered.fill(0);
        tick.ports.retain(|count| self.namespaces.contains_key(&count.netns));
        for count in &mut tick.ports {
            count.netns = self.namespaces[&count.netns];
        }
        tick
    }
}

/// Changes the records of a batch.
pub(crate) fn change_records(batch: &[u8], mut how: impl FnMut(&mut Record)) -> Vec<u8> {
    let mut changed = Vec::new();
    for record in wire::records(batch) {
        let mut record = record.ok().and_then(Record::parse).expect("a whole record");
        how(&mut record);
        record.append_to(&mut changed);
    }
    changed
}
