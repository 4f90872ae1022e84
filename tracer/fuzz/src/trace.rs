//! A trace generated from random bytes. Sockets mostly follow TCP's rules, so that deep states are
//! reached, and are reported as the eBPF programs would; sometimes a record is lost, repeated or
//! nonsense, a scan reports a wrong state, or time jumps.

use std::ops::Range;

use arbitrary::Unstructured;
use synfin::{
    tcp::coverage::{Coverage, OptionalHook},
    trace::{
        counters::{Counters, KernelCounters, PortCount, Tick},
        ids::NetnsId,
        names::{CgroupName, Container, Names},
        recording::Frame,
        scan::{EphemeralPorts, NamespaceList, ScanBegin, ScanEnd, TimeWaitReuse},
        session::Session,
        time::{ClockAnchor, Nanos},
    },
};
use synfin_common::{
    event::{
        Accepted, AddressesV4, AddressesV6, Closing, Established, Flags, Kind, Opening, Reset,
        Step, TimeWaitChange, TimeWaitEntry,
    },
    holder::SocketHolder,
    port_count::PortEvent,
    scan::{KIND_SOCKET, KIND_TIME_WAIT, ScanSocket, ScanTimeWait},
    state::TcpState,
};
use synfin_testkit::{MILLISECOND, SECOND, encode, next_states, socket_id};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The start of the trace.
pub(crate) const START: Nanos = 1_000 * SECOND;

/// One socket for each bit of the number that selects some of them.
const SOCKETS: usize = 16;
const NAMESPACES: [NetnsId; 3] = [7, 8, 0];
const PROCESSES: [u32; 4] = [1, 20, 21, 0];
const CGROUPS: [u64; 3] = [0, 1, 2];
const PORTS: [u16; 5] = [80, 443, 8080, 40_000, 0];
/// Errors that distinguish close reasons: none, EPIPE, ENETUNREACH, ECONNABORTED …
const ERRORS: [u8; 12] = [0, 0, 0, 0, 32, 101, 103, 104, 104, 110, 111, 113];
const ROUND_TRIPS_US: [u32; 4] = [187, 0, 55_000, u32::MAX];

/// Gives frames until the random bytes are used up.
pub(crate) struct Trace<'a> {
    dice: Unstructured<'a>,
    now: Nanos,
    sockets: [Socket; SOCKETS],
    counters: Counters,
    scanned: NetnsId,
    scan_begun: Nanos,
    /// The last batch of records, which may be repeated.
    last: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Socket {
    state: TcpState,
    /// Whether it has left a TIME_WAIT.
    left_time_wait: bool,
    netns: NetnsId,
    ipv6: bool,
    local_port: u16,
    remote_port: u16,
}

impl<'a> Trace<'a> {
    pub(crate) fn new(dice: Unstructured<'a>) -> Self {
        let unborn = Socket {
            state: TcpState::Close,
            left_time_wait: false,
            netns: NAMESPACES[0],
            ipv6: false,
            local_port: 0,
            remote_port: 0,
        };
        Self {
            dice,
            now: START,
            sockets: [unborn; SOCKETS],
            counters: Counters::default(),
            scanned: NAMESPACES[0],
            scan_begun: START,
            last: Vec::new(),
        }
    }

    /// The session at the start of the recording.
    pub(crate) fn session(coverage: &[OptionalHook]) -> Session {
        let clock = ClockAnchor { monotonic_ns: START, realtime_ns: 1_800_000_000 * SECOND };
        let names: Vec<_> = coverage.iter().map(|hook| hook.name()).collect();
        let coverage = Coverage::from_names(&names);
        Session { clock, host: "host".to_owned(), coverage, ..Session::default() }
    }

    /// One of these, or the first one if the random bytes are used up.
    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        self.dice.choose(&from).copied().unwrap_or(from[0])
    }

    fn number(&mut self, range: Range<u64>) -> u64 {
        self.dice.int_in_range(range.start..=range.end - 1).unwrap_or(range.start)
    }

    fn rarely(&mut self) -> bool {
        self.number(0..16) == 15
    }

    /// Arbitrary bytes, also for fields that are not named here; mostly zeros, which are plausible.
    fn any<T: FromBytes + IntoBytes>(&mut self) -> T {
        let mut any = T::new_zeroed();
        if self.number(0..4) == 3 {
            // If the random bytes are used up, it stays zero.
            let _ = self.dice.fill_buffer(any.as_mut_bytes());
        }
        any
    }

    fn advance_time(&mut self) {
        self.now = match self.number(0..32) {
            31 => self.dice.arbitrary().unwrap_or(0),
            28..31 => self.now.saturating_add(self.number(1..100) * SECOND),
            24..28 => self.now.saturating_sub(self.number(1..2_000) * MILLISECOND),
            20..24 => self.now.saturating_add(self.number(1..2_000) * MILLISECOND),
            _ => self.now.saturating_add(1_000),
        };
    }

    /// A socket makes a transition by TCP's rules.
    fn transition(&mut self) -> Vec<u8> {
        use TcpState::{Close, Closing, Established, FinWait2, Listen, SynRecv, SynSent};
        let place = self.number(0..SOCKETS as u64) as usize;
        let old = self.sockets[place].state;
        let (old, new) = match old {
            Close => {
                self.sockets[place] = Socket {
                    state: Close,
                    left_time_wait: false,
                    netns: self.pick(NAMESPACES),
                    ipv6: self.rarely(),
                    local_port: self.pick(PORTS),
                    remote_port: self.pick(PORTS),
                };
                self.pick([(Close, SynSent), (Listen, SynRecv), (Close, Listen)])
            }
            // Opening is twice as likely, so that there are connections.
            SynSent | SynRecv if self.number(0..2) == 0 => (old, Established),
            _ => (old, self.dice.choose(next_states(old)).copied().unwrap_or(Close)),
        };
        let kind = match new {
            SynSent | SynRecv | Listen => Kind::Opening,
            Close => Kind::Closing,
            Established => Kind::Established,
            _ => Kind::Step,
        };
        let mut records = Vec::new();
        if matches!((old, new), (FinWait2 | Closing, Close)) && self.number(0..4) > 0 {
            self.sockets[place].left_time_wait = true;
            records = self.reported(Kind::TimeWaitEntry, place, old, new);
        }
        self.sockets[place].state = new;
        records.extend(self.reported(kind, place, old, new));
        records
    }

    /// Another event of a socket or of its TIME_WAIT.
    fn other_event(&mut self) -> Vec<u8> {
        let place = self.number(0..SOCKETS as u64) as usize;
        let Socket { state, left_time_wait, .. } = self.sockets[place];
        let kind = match left_time_wait {
            true => self.pick([Kind::FinWait2ToTimeWait, Kind::TimeWaitExit]),
            false => Kind::Accepted,
        };
        self.sockets[place].left_time_wait &= kind == Kind::FinWait2ToTimeWait;
        self.reported(kind, place, state, state)
    }

    /// A record of a hook, which may be lost.
    fn reported(&mut self, kind: Kind, place: usize, old: TcpState, new: TcpState) -> Vec<u8> {
        self.counters.seen[kind as usize] += 1;
        if self.rarely() {
            self.counters.lost[kind as usize] += 1;
            return Vec::new();
        }
        self.record(kind, place, old.number(), new.number())
    }

    /// A record of this kind with any transition of any socket.
    fn nonsense(&mut self, kind: Kind) -> Vec<u8> {
        let place = self.number(0..SOCKETS as u64) as usize;
        let [old, new] = [(); 2].map(|()| self.number(0..14) as u8);
        self.record(kind, place, old, new)
    }

    /// A record preceded by its length.
    fn record(&mut self, kind: Kind, place: usize, old: u8, new: u8) -> Vec<u8> {
        let Socket { netns, ipv6, local_port, remote_port, .. } = self.sockets[place];
        let mut step = Step {
            kind: kind as u8,
            old,
            new,
            time: self.now,
            sock: socket_id(place as u64),
            netns,
            local_port,
            remote_port,
            ..self.any()
        };
        let any = step.flags.0 & !Flags::IPV6.0;
        step.flags = Flags(any | if ipv6 { Flags::IPV6.0 } else { 0 });
        if !self.rarely() {
            step.err = self.pick(ERRORS);
            step.pid = self.pick(PROCESSES);
            step.rtt_us = self.pick(ROUND_TRIPS_US);
            step.total_retransmits = self.pick([0, 0, 1]);
        }
        let mut record = match kind {
            Kind::Step => step.as_bytes().to_vec(),
            Kind::Opening => {
                let cgroup = self.pick(CGROUPS);
                Opening { step, cgroup, ..self.any() }.as_bytes().to_vec()
            }
            Kind::Established => Established { step, ..self.any() }.as_bytes().to_vec(),
            Kind::Closing => Closing { step, ..self.any() }.as_bytes().to_vec(),
            Kind::ResetReceived | Kind::ResetSent => {
                Reset { kind: step.kind, time: step.time, sock: step.sock, ..self.any() }
                    .as_bytes()
                    .to_vec()
            }
            Kind::TimeWaitEntry => {
                let substate = self.pick([
                    TcpState::TimeWait.number(),
                    TcpState::TimeWait.number(),
                    TcpState::FinWait2.number(),
                    0,
                    old,
                ]);
                let (kind, time, sock) = (step.kind, step.time, step.sock);
                as_bytes(&TimeWaitEntry { kind, substate, time, sock, ..self.any() })
            }
            Kind::FinWait2ToTimeWait | Kind::TimeWaitExit => {
                let flags = Flags(if ipv6 { Flags::IPV6.0 } else { 0 });
                let (kind, time) = (step.kind, step.time);
                let ports = TimeWaitChange { local_port, remote_port, ..self.any() };
                as_bytes(&TimeWaitChange { kind, flags, time, netns, ..ports })
            }
            Kind::Accepted => {
                let (kind, time, sock) = (step.kind, step.time, step.sock);
                as_bytes(&Accepted { kind, time, sock, ..self.any() })
            }
        };
        let has_ends = match kind {
            Kind::Step | Kind::Opening | Kind::Established | Kind::Closing => true,
            Kind::FinWait2ToTimeWait | Kind::TimeWaitExit => true,
            Kind::ResetReceived | Kind::ResetSent | Kind::TimeWaitEntry | Kind::Accepted => false,
        };
        if has_ends {
            // Endpoints that change from record to record make a socket another connection.
            let elsewhere = self.rarely();
            if ipv6 {
                let ends = if elsewhere { self.any() } else { AddressesV6::default() };
                record.extend(ends.as_bytes());
            } else {
                let ends = if elsewhere { self.any() } else { AddressesV4::default() };
                record.extend(ends.as_bytes());
            }
        }
        encode::sized(&record)
    }

    fn begin_scan(&mut self) -> Frame {
        self.scanned = self.pick(NAMESPACES);
        self.scan_begun = self.now;
        Frame::ScanBegin(ScanBegin { netns: self.scanned, time: self.now })
    }

    /// The scan finds some of the sockets, in the right state or in a wrong one.
    fn scan_finds_sockets(&mut self) -> Vec<u8> {
        let found: u16 = self.dice.arbitrary().unwrap_or(u16::MAX);
        let mut findings = Vec::new();
        for place in (0..SOCKETS).filter(|place| found >> place & 1 == 1) {
            let Socket { state, netns, local_port, remote_port, .. } = self.sockets[place];
            let state = match self.number(0..16) {
                15 => self.number(0..14) as u8,
                14 => TcpState::NewSynRecv.number(),
                _ => state.number(),
            };
            if state == TcpState::Close.number() {
                findings.extend(as_bytes(&ScanTimeWait {
                    kind: KIND_TIME_WAIT,
                    local_port,
                    remote_port,
                    ..self.any()
                }));
            } else if netns == self.scanned || self.rarely() {
                findings.extend(as_bytes(&ScanSocket {
                    kind: KIND_SOCKET,
                    state,
                    time: self.now,
                    sock: socket_id(place as u64),
                    local_port,
                    remote_port,
                    ..self.any()
                }));
            }
        }
        findings
    }

    fn end_scan(&mut self) -> Frame {
        let netns = if self.rarely() { self.pick(NAMESPACES) } else { self.scanned };
        let error = self.rarely().then(|| "no such namespace".to_owned());
        let ephemeral_ports = Some(EphemeralPorts {
            first: self.any(),
            last: self.any(),
            reserved: self.any(),
            reuse: self.pick([
                TimeWaitReuse::Never,
                TimeWaitReuse::Loopback,
                TimeWaitReuse::Always,
            ]),
            reuse_after_ms: self.any(),
        });
        let counters =
            Some(KernelCounters { time: self.now, counts: std::array::from_fn(|_| self.any()) });
        let started = self.scan_begun;
        Frame::ScanEnd(ScanEnd {
            netns,
            started,
            ended: self.now,
            error,
            ephemeral_ports,
            counters,
        })
    }

    /// A scan of open files in which few processes hold some of the sockets.
    fn scan_of_open_files(&mut self) -> Vec<u8> {
        let held_sockets: u16 = self.dice.arbitrary().unwrap_or(u16::MAX);
        let places = (0..SOCKETS).filter(|place| held_sockets >> place & 1 == 1);
        let held_sockets = places.map(|place| {
            let (pid, parent) = (self.pick(PROCESSES), self.pick(PROCESSES));
            let mut holder =
                SocketHolder { sock: socket_id(place as u64), pid, parent, ..self.any() };
            holder.cgroup = self.pick(CGROUPS);
            if !self.rarely() {
                holder.time = self.now;
            }
            as_bytes(&holder)
        });
        held_sockets.flatten().collect()
    }

    fn names(&mut self) -> Names {
        let [path, id, pod] = [(); 3].map(|()| self.name());
        let pod = self.rarely().then_some(pod);
        let container = self.rarely().then_some(Container { id, pod });
        Names {
            cgroups: [(self.pick(CGROUPS), CgroupName { path, container })].into(),
            namespaces: [(self.pick(NAMESPACES), self.name())].into(),
            inodes: [(self.pick(NAMESPACES), self.pick(NAMESPACES))].into(),
        }
    }

    /// A name of arbitrary characters.
    fn name(&mut self) -> String {
        let bytes: [u8; 6] = self.any();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn tick(&mut self) -> Frame {
        let mut counters = self.counters.clone();
        if self.rarely() {
            let Counters { seen, lost, filtered, refused, missed, skipped, recovered } =
                &mut counters;
            let totals = [refused, missed, skipped, recovered];
            for count in seen.iter_mut().chain(lost).chain(filtered).chain(totals) {
                *count = self.dice.arbitrary().unwrap_or(0);
            }
        }
        let counted = self.rarely().then(|| PortCount {
            netns: self.pick(NAMESPACES),
            port: self.any(),
            counted: self.pick([0, 1, 3, 9, PortEvent::COUNT as u16 - 1, u16::MAX]),
            count: self.any(),
        });
        let ports = counted.into_iter().collect();
        Frame::Tick(Tick { time: self.now, counters, ports, awaits_scans: false })
    }

    fn next_frame(&mut self) -> Frame {
        match self.number(0..32) {
            31 => self.tick(),
            30 if self.number(0..2) == 1 => {
                Frame::ListenerHolders(self.scan_of_open_files().into())
            }
            30 => Frame::SocketHolders(self.scan_of_open_files().into()),
            29 if self.number(0..2) == 1 => Frame::Names(self.names()),
            28 if self.number(0..2) == 1 => Frame::Namespaces(NamespaceList {
                time: self.now,
                namespaces: vec![self.pick(NAMESPACES)],
            }),
            28..30 => self.begin_scan(),
            25..28 => Frame::Scanned(self.scan_finds_sockets().into()),
            22..25 => self.end_scan(),
            20..22 => {
                let kind = self.pick(Kind::ALL);
                Frame::Events(self.nonsense(kind).into())
            }
            19 => Frame::Events(self.nonsense(Kind::ResetSent).into()),
            18 => Frame::Events(self.last.clone().into()),
            15..18 => Frame::Events(self.other_event().into()),
            _ => {
                self.last = self.transition();
                Frame::Events(self.last.clone().into())
            }
        }
    }
}

impl Iterator for Trace<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.dice.is_empty() {
            return None;
        }
        self.advance_time();
        let frame = self.next_frame();
        // A new kind of frame has to be generated too, so that the tracker is fuzzed with it.
        match &frame {
            Frame::Session(_) | Frame::Events(_) | Frame::Tick(_) => {}
            Frame::ScanBegin(_) | Frame::Scanned(_) | Frame::ScanEnd(_) => {}
            Frame::SocketHolders(_) | Frame::ListenerHolders(_) | Frame::Names(_) => {}
            Frame::Namespaces(_) | Frame::Counters(_) => {}
        }
        Some(frame)
    }
}

fn as_bytes<T: IntoBytes + Immutable>(record: &T) -> Vec<u8> {
    record.as_bytes().to_vec()
}
