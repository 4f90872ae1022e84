//! Takes out of a recording all that is this host's: names, numbers of processes, sockets and
//! namespaces, dates. What is left is what happened, at the pace at which it happened.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use synfin::{
    decode::decode,
    input::{ClockAnchor, Counters, Input, NetnsId, Session, Tick},
    recording::{Frame, Reader, Recorder},
};
use synfin_common::{
    event::{Accepted, Kind, Opening, Reset, Step, TimeWaitChange, TimeWaitEntry},
    holder::SocketHolder,
    scan::{self, ScanSocket, ScanTimeWait},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// When every recording begins: 2026-01-01, ten minutes after the machine was started.
const BEGIN: ClockAnchor =
    ClockAnchor { monotonic_ns: 600_000_000_000, realtime_ns: 1_767_225_600_000_000_000 };

/// The name of whoever took part and has none that a scenario gave.
const ANYBODY: &[u8] = b"test";

/// A recording of these namespaces, without what is this host's. `names` are the scenario's own.
pub(super) fn scrub(recording: &[u8], namespaces: &[NetnsId], names: &[&str]) -> Vec<u8> {
    let frames: Vec<_> = Reader::new(recording)
        .expect("a recording")
        .map(|frame| frame.expect("a whole recording"))
        .collect();
    let Some(Frame::Session(session)) = frames.first() else {
        panic!("a recording begins with its session");
    };
    let mut known = HashSet::new();
    for frame in &frames {
        decode(frame, |input| match input {
            Input::Transition(transition) => {
                known.insert(transition.sock);
            }
            Input::Socket(socket) => {
                known.insert(socket.sock);
            }
            _ => {}
        });
    }
    let mut scrubber = Scrubber {
        began: session.clock.monotonic_ns,
        namespaces: namespaces.iter().copied().zip(1..).collect(),
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
    /// The walk that goes on is over a namespace of somebody else.
    elsewhere: bool,
}

/// Numbers for things, in the order in which they are met.
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
            Frame::Events(batch) => Frame::Events(self.events(&batch).into()),
            Frame::WalkBegin(mut begin) => {
                begin.time = self.time(begin.time);
                begin.netns = self.walk_over(begin.netns)?;
                Frame::WalkBegin(begin)
            }
            Frame::Walked(_) if self.elsewhere => return None,
            Frame::Walked(found) => Frame::Walked(self.walked(&found).into()),
            Frame::WalkEnd(mut end) => {
                (end.begun, end.ended) = (self.time(end.begun), self.time(end.ended));
                if let Some(counters) = &mut end.counters {
                    counters.time = self.time(counters.time);
                }
                end.netns = self.walk_over(end.netns)?;
                Frame::WalkEnd(end)
            }
            Frame::Tick(tick) => Frame::Tick(self.tick(tick)),
            Frame::Held(held) => Frame::Held(self.held(&held).into()),
            // Cgroups and namespaces of this host.
            Frame::Names(_) => return None,
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
            shown: session.shown,
            ring_bytes: session.ring_bytes,
            filter,
            ..Session::default()
        }
    }

    /// What began before the recording did, began with it.
    fn time(&self, time: u64) -> u64 {
        time.saturating_sub(self.began) + BEGIN.monotonic_ns
    }

    fn walk_over(&mut self, netns: NetnsId) -> Option<NetnsId> {
        let known = self.namespaces.get(&netns).copied();
        self.elsewhere = known.is_none();
        known
    }

    fn socket(&mut self, socket: u64) -> u64 {
        self.sockets.of(socket).into()
    }

    /// 0 is nobody.
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

    /// Records, each after its length.
    fn events(&mut self, mut batch: &[u8]) -> Vec<u8> {
        let mut scrubbed = Vec::new();
        while let Some((length, rest)) = batch.split_first_chunk::<4>() {
            let (record, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            scrubbed.extend_from_slice(length);
            scrubbed.extend_from_slice(&self.record(record.to_vec()));
            batch = rest;
        }
        scrubbed
    }

    fn record(&mut self, mut record: Vec<u8>) -> Vec<u8> {
        let kind = record.first().and_then(|&kind| Kind::from_number(kind)).expect("a kind");
        match kind {
            Kind::ResetReceived | Kind::ResetSent => change(&mut record, |reset: &mut Reset| {
                reset.time = self.time(reset.time);
                reset.sock = self.socket(reset.sock);
            }),
            Kind::TimeWaitEntry => change(&mut record, |entry: &mut TimeWaitEntry| {
                entry.time = self.time(entry.time);
                entry.sock = self.socket(entry.sock);
            }),
            Kind::Accepted => change(&mut record, |accepted: &mut Accepted| {
                accepted.time = self.time(accepted.time);
                accepted.sock = self.socket(accepted.sock);
            }),
            Kind::FinWait2ToTimeWait | Kind::TimeWaitExit => {
                change(&mut record, |it: &mut TimeWaitChange| {
                    it.time = self.time(it.time);
                    it.netns = self.namespaces[&it.netns];
                });
            }
            Kind::Step | Kind::Opening | Kind::Closing => {
                change(&mut record, |step: &mut Step| {
                    step.time = self.time(step.time);
                    step.sock = self.socket(step.sock);
                    step.netns = self.namespaces[&step.netns];
                    step.pid = self.process(step.pid);
                });
                if kind == Kind::Opening {
                    change(&mut record, |opening: &mut Opening| {
                        opening.cgroup = 0;
                        opening.comm = self.comm(opening.comm);
                    });
                }
            }
        }
        record
    }

    fn walked(&mut self, found: &[u8]) -> Vec<u8> {
        let mut scrubbed = found.to_vec();
        let mut rest = &mut scrubbed[..];
        while let Some(&kind) = rest.first() {
            let length = match kind {
                scan::KIND_SOCKET => {
                    change(rest, |socket: &mut ScanSocket| {
                        socket.time = self.time(socket.time);
                        socket.sock = self.socket(socket.sock);
                        socket.cgroup = 0;
                    });
                    size_of::<ScanSocket>()
                }
                scan::KIND_TIME_WAIT => size_of::<ScanTimeWait>(),
                other => panic!("a walk gives nothing of kind {other}"),
            };
            rest = &mut rest[length..];
        }
        scrubbed
    }

    /// Only those that hold a socket of the recording's: the look is at all processes.
    fn held(&mut self, held: &[u8]) -> Vec<u8> {
        let mut scrubbed = held.to_vec();
        let records = scrubbed.chunks_exact_mut(size_of::<SocketHolder>());
        let mut kept = Vec::new();
        for record in records {
            let (holder, _) = SocketHolder::read_from_prefix(record).expect("a holder");
            if !self.known.contains(&holder.sock) {
                continue;
            }
            change(record, |holder: &mut SocketHolder| {
                holder.sock = self.socket(holder.sock);
                holder.time = self.time(holder.time);
                holder.start_time = self.time(holder.start_time);
                holder.cgroup = 0;
                holder.pid = self.process(holder.pid);
                holder.parent = self.process(holder.parent);
                holder.comm = self.comm(holder.comm);
            });
            kept.extend_from_slice(record);
        }
        kept
    }

    /// What was left out is other namespaces' traffic.
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

/// Changes what the bytes begin with.
fn change<T: FromBytes + IntoBytes + Immutable>(bytes: &mut [u8], how: impl FnOnce(&mut T)) {
    let (mut value, _) = T::read_from_prefix(bytes).expect("it is whole");
    how(&mut value);
    value.write_to_prefix(bytes).expect("there was room before");
}
