//! Recordings made by hand: what happened, millisecond by millisecond.

use std::{fs, io::Write, net::SocketAddr, path::Path};

use synfin::trace::{
    counters::{Counters, Tick},
    event::{Closing, Input, Opening, Reset, ResetDirection, Transition},
    ids::{Comm, SockId},
    recording::{Frame, Recorder},
    scan::{ScanBegin, ScanEnd, ScannedSocket, ScannedTimeWait},
    session::Session,
    time::ClockAnchor,
};
use synfin_common::{
    event::{Flags, Kind},
    state::TcpState::{self, *},
};
use tempfile::TempDir;

use crate::wire;

pub(crate) fn recorded(frames: &[Frame]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut recorder = Recorder::new(&mut file).unwrap();
    frames.iter().for_each(|frame| recorder.write(frame).unwrap());
    file
}

pub(crate) fn recording(dir: &TempDir, frames: &[Frame]) -> String {
    let path: &Path = &dir.path().join("recording");
    fs::File::create(path).unwrap().write_all(&recorded(frames)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Three seconds of a web server's connection.
pub(crate) fn story() -> Vec<Frame> {
    let mut tape = Tape::begin();
    let nginx = Sock::new(1, "0.0.0.0:443", "0.0.0.0:0");
    let ssh = Sock::new(2, "192.0.2.10:22", "198.51.100.5:50022");
    let gone = Sock::new(3, "192.0.2.10:443", "198.51.100.6:50443");
    tape.scan(&[
        Input::ScannedSocket(nginx.met_in(Listen, Some((2, 511)))),
        Input::ScannedSocket(ssh.met_in(Established, None)),
        Input::ScannedTimeWait(ScannedTimeWait {
            fin_wait2: false,
            port_by_connect: Some(false),
            local: gone.local,
            remote: gone.remote,
            remaining_ms: 41_500,
        }),
    ]);
    tape.tick_at(20);

    // A server starts, gets a clean connection, and one over IPv6 whose SYN-ACK was lost once.
    let api = Sock::new(4, "[::]:8080", "[::]:0");
    tape.at(100).birth(api, (Close, Listen), Some((700, b"api")));
    let clean = Sock::new(5, "192.0.2.10:8080", "198.51.100.7:40001");
    tape.at(200).birth(clean, (Listen, SynRecv), None);
    tape.at(200).established(clean, SynRecv, 1_234, 0, Flags(0));
    tape.at(350).step(clean, (Established, CloseWait));
    tape.at(351).step(clean, (CloseWait, LastAck));
    tape.at(360).end(clean, LastAck, |end| {
        end.flags = ORPHAN.with(Flags::FIN_RECEIVED);
        end.closing = Some(Closing { idle_ms: Some(9), ..closing(4_097, 301) });
    });
    let resent = Sock::new(6, "[2001:db8::10]:8080", "[2001:db8::7]:40002");
    tape.at(400).birth(resent, (Listen, SynRecv), None);
    tape.at(400).established(resent, SynRecv, 1_056_113, 1, Flags::SINCE_FIRST_SYNACK);
    tape.tick_at(500);

    // Clients: one that all goes well with, refused ones, one that waits in vain.
    let curl = Sock::new(7, "192.0.2.10:33001", "203.0.113.80:443");
    tape.at(600).birth(curl, (Close, SynSent), Some((801, b"curl")));
    tape.at(631).established(curl, SynSent, 30_338, 0, Flags(0));
    tape.at(900).step(curl, (Established, FinWait1));
    tape.at(930).step(curl, (FinWait1, FinWait2));
    tape.at(931).end(curl, FinWait2, |end| {
        end.flags = ORPHAN.with(Flags::FIN_RECEIVED);
        end.closing = Some(Closing { idle_ms: Some(1), ..closing(518, 15_001) });
    });
    for (number, local, ms) in [(8, "192.0.2.10:33002", 940), (9, "192.0.2.10:33003", 950)] {
        let refused = Sock::new(number, local, "203.0.113.54:5432");
        tape.at(ms).birth(refused, (Close, SynSent), Some((802, b"worker")));
        tape.at(ms + 2).reset(refused);
        tape.at(ms + 2).end(refused, SynSent, |end| end.err = ECONNREFUSED);
    }
    let waiting = Sock::new(10, "192.0.2.10:33004", "203.0.113.99:25");
    tape.at(960).birth(waiting, (Close, SynSent), Some((803, b"mailer")));
    tape.tick_at(1_000);

    // What can be in a process name, and a connection that it resets.
    let hostile = Sock::new(11, "192.0.2.10:33005", "203.0.113.80:8443");
    tape.at(1_100).birth(hostile, (Close, SynSent), Some((666, b"\x1b[2J\nroot \x7f\xff")));
    tape.tick_at(1_500);
    tape.tick_at(2_000);
    tape.at(2_151).established(hostile, SynSent, 30_000, 1, Flags(0));
    tape.at(2_200).end(hostile, Established, |end| {
        end.flags = Flags::HAS_SOCKET.with(SHUT).with(Flags::LINGER0);
        end.closing = Some(Closing { idle_ms: Some(49), ..closing(1, 0) });
    });
    tape.at(2_300).end(resent, Established, |end| {
        end.flags = Flags::HAS_SOCKET;
        end.err = ECONNRESET;
        end.closing = Some(Closing { idle_ms: Some(1_200), ..closing(100, 40) });
    });
    tape.at(2_400).end(waiting, SynSent, |end| end.err = ETIMEDOUT);
    tape.tick_at(2_500);

    // One that stays, one that was there before, and the server's end.
    let idle = Sock::new(12, "[2001:db8::10]:33006", "[2001:db8::80]:443");
    tape.at(2_600).birth(idle, (Close, SynSent), Some((801, b"curl")));
    tape.at(2_612).established(idle, SynSent, 11_900, 0, Flags(0));
    tape.at(2_700).step(ssh, (Established, CloseWait));
    tape.at(2_900).end(api, Listen, |_| {});
    tape.tick_at(3_000);
    tape.frames
}

/// A second of a trace whose ring was too small.
pub(crate) fn story_with_losses() -> Vec<Frame> {
    let mut tape = Tape::begin();
    tape.scan(&[]);
    let seen = Sock::new(1, "192.0.2.10:33001", "203.0.113.80:443");
    tape.at(100).birth(seen, (Close, SynSent), Some((801, b"curl")));
    tape.at(130).established(seen, SynSent, 30_338, 0, Flags(0));
    // Of this one, only the middle came through.
    let half_seen = Sock::new(2, "192.0.2.10:33002", "203.0.113.80:443");
    tape.lost(Kind::Opening);
    tape.at(200).step(half_seen, (Established, CloseWait));
    tape.lost(Kind::Step);
    tape.lost(Kind::Closing);
    tape.counters.missed = 1;
    tape.tick_at(1_000);
    tape.frames
}

pub(crate) const SHUT: Flags = Flags::SHUT_READ.with(Flags::SHUT_WRITE);
pub(crate) const ORPHAN: Flags = SHUT.with(Flags::DEAD);

const ECONNRESET: u8 = 104;
const ETIMEDOUT: u8 = 110;
const ECONNREFUSED: u8 = 111;

const NETNS: u32 = 4_026_531_840;

/// A recording in the making.
pub(crate) struct Tape {
    pub(crate) frames: Vec<Frame>,
    /// Records since the last tick.
    records: Vec<Input>,
    counters: Counters,
    now: u64,
}

impl Tape {
    pub(crate) const BEGIN: u64 = 1_000_000_000_000;

    pub(crate) fn begin() -> Self {
        let session = Session {
            synfin: "0.1.0".into(),
            host: "web-1".into(),
            kernel: "6.12.0-test".into(),
            // 2026-01-02T03:04:05Z
            clock: ClockAnchor {
                monotonic_ns: Self::BEGIN,
                realtime_ns: 1_767_323_045_000_000_000,
            },
            hooks: vec!["inet_sock_set_state".into(), "tcp_send_reset".into()],
            shown: vec!["resets".into()],
            limitations: Vec::new(),
            ring_bytes: 1 << 24,
            sysctls: [("net.ipv4.tcp_tw_reuse".into(), "2".into())].into(),
            ..Session::default()
        };
        let frames = vec![Frame::Session(Box::new(session))];
        let counters = Counters::default();
        Self { frames, records: Vec::new(), counters, now: Self::BEGIN }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn at(&mut self, ms: u64) -> &mut Self {
        self.now = Self::BEGIN + ms * 1_000_000;
        self
    }

    pub(crate) fn tick_at(&mut self, ms: u64) {
        self.at(ms).hand_over();
        self.frames.push(Frame::Tick(Tick {
            time: self.now,
            counters: self.counters.clone(),
            ports: Vec::new(),
        }));
    }

    pub(crate) fn hand_over(&mut self) {
        if !self.records.is_empty() {
            self.frames.push(Frame::Events(wire::batch(&self.records).into()));
            self.records.clear();
        }
    }

    pub(crate) fn scan(&mut self, findings: &[Input]) {
        self.hand_over();
        let (netns, begun) = (NETNS, self.now);
        self.frames.extend([
            Frame::ScanBegin(ScanBegin { netns, time: begun }),
            Frame::Scanned(wire::findings(findings).into()),
            Frame::ScanEnd(ScanEnd {
                netns,
                begun,
                ended: begun + 2_000_000,
                error: None,
                ephemeral_ports: None,
                counters: None,
            }),
        ]);
    }

    pub(crate) fn write(&mut self, kind: Kind, record: Input) {
        self.counters.seen[kind as usize] += 1;
        self.records.push(record);
    }

    pub(crate) fn lost(&mut self, kind: Kind) {
        self.counters.seen[kind as usize] += 1;
        self.counters.lost[kind as usize] += 1;
    }

    pub(crate) fn birth(
        &mut self,
        sock: Sock,
        states: (TcpState, TcpState),
        owner: Option<(u32, &[u8])>,
    ) {
        let mut birth = sock.goes(self.now, states);
        if birth.new == SynSent {
            birth.local.set_port(0);
        }
        birth.pid = owner.map(|(pid, _)| pid);
        birth.flags = if owner.is_some() { birth.flags.with(Flags::BY_OWNER) } else { birth.flags };
        let accept_queue = if birth.old == Listen { (3, 128) } else { (0, 0) };
        let comm = owner.map_or(Comm::default(), |(_, name)| name.into());
        birth.opening = Some(Opening { cgroup: 1, accept_queue, comm });
        self.write(Kind::Opening, Input::Transition(birth));
    }

    pub(crate) fn step(&mut self, sock: Sock, states: (TcpState, TcpState)) {
        self.write(Kind::Step, Input::Transition(sock.goes(self.now, states)));
    }

    pub(crate) fn established(
        &mut self,
        sock: Sock,
        old: TcpState,
        rtt_us: u32,
        resent: u32,
        flags: Flags,
    ) {
        let step = sock.goes(self.now, (old, Established));
        let flags = step.flags.with(flags);
        let step = Transition { rtt_us, total_retransmits: resent, flags, ..step };
        self.write(Kind::Step, Input::Transition(step));
    }

    pub(crate) fn reset(&mut self, sock: Sock) {
        let reset = Reset { time: self.now, sock: sock.id, direction: ResetDirection::Received };
        self.write(Kind::ResetReceived, Input::Reset(reset));
    }

    pub(crate) fn end(
        &mut self,
        sock: Sock,
        old: TcpState,
        evidence: impl FnOnce(&mut Transition),
    ) {
        let mut end = sock.goes(self.now, (old, Close));
        end.closing = Some(closing(0, 0));
        evidence(&mut end);
        end.flags = end.flags.with(sock.family());
        self.write(Kind::Closing, Input::Transition(end));
    }
}

pub(crate) fn closing(bytes_acked: u64, bytes_received: u64) -> Closing {
    Closing { bytes_acked, bytes_received, unread: 0, idle_ms: None }
}

#[derive(Clone, Copy)]
pub(crate) struct Sock {
    id: SockId,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Sock {
    pub(crate) fn new(number: u64, local: &str, remote: &str) -> Self {
        let id = 0xffff_8880_0000_0000 + number * 0x1000;
        Self { id, local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    pub(crate) fn family(self) -> Flags {
        if self.local.is_ipv6() { Flags::IPV6 } else { Flags(0) }
    }

    pub(crate) fn goes(self, time: u64, (old, new): (TcpState, TcpState)) -> Transition {
        Transition {
            time,
            sock: self.id,
            netns: NETNS,
            old,
            new,
            local: self.local,
            remote: self.remote,
            flags: self.family(),
            err: 0,
            err_soft: 0,
            pid: None,
            rtt_us: 0,
            retransmits: 0,
            probes: 0,
            total_retransmits: 0,
            opening: None,
            closing: None,
        }
    }

    pub(crate) fn met_in(self, state: TcpState, accept_queue: Option<(u32, u32)>) -> ScannedSocket {
        ScannedSocket {
            time: Tape::BEGIN + 1_000_000,
            sock: self.id,
            state,
            local: self.local,
            remote: self.remote,
            flags: self.family(),
            port_by_connect: Some(false),
            retransmits: 0,
            rtt_us: 0,
            accept_queue: accept_queue.unwrap_or_default(),
            drops: 0,
            idle_ms: None,
            cgroup: 1,
        }
    }
}
