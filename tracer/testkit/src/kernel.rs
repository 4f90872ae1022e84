//! The fake kernel: turns socket events into the reports of synfin's hooks and scans.

use std::ops::{Deref, DerefMut};

use synfin::{
    tcp::role::Role,
    trace::{
        accept_queue::AcceptQueue,
        counters::{Counters, PortCount, Tick},
        event::{
            Accepted, Input, Opening, Reset, ResetDirection, TimeWaitChange, TimeWaitEntry,
            TimeWaitKind, Transition,
        },
        ids::{Comm, NetnsId},
        scan::{EphemeralPorts, ScanBegin, ScanEnd, ScannedSocket, ScannedTimeWait},
        time::Nanos,
    },
};
use synfin_common::{
    event::{Flags, Kind},
    reset::ResetReason,
    state::TcpState::{self, Close, Established, FinWait1, FinWait2, Listen, SynRecv, SynSent},
};

use crate::{MILLISECOND, ORPHAN, SECOND, Socket, socket::CGROUP};

/// Receives the reports of a [`FakeKernel`].
pub trait Receiver {
    /// Takes the next report.
    fn receive(&mut self, input: Input);
}

impl Receiver for Vec<Input> {
    fn receive(&mut self, input: Input) {
        self.push(input);
    }
}

/// A kernel in which events happen one after another. It derefs to its [`Receiver`].
pub struct FakeKernel<R> {
    /// The time of the next report.
    pub now: Nanos,
    /// The time between two reports.
    pub step: Nanos,
    /// The counters of the hooks.
    pub counters: Counters,
    /// The settings for ephemeral ports that scans find in each namespace.
    pub ephemeral_ports: Option<EphemeralPorts>,
    /// Length and limit of the accept queue when a child is established.
    pub accept_queue: AcceptQueue,
    /// Whether the first record of a child has the child's own endpoints, as from Linux 6.15 on.
    pub shows_children: bool,
    /// Duration of a scan, in addition to one step per report.
    pub scan_length: Nanos,
    /// Hook runs that were skipped without being counted.
    pub uncounted: u64,
    start: Nanos,
    scan_begun: Nanos,
    losing: u64,
    skipping: Option<bool>,
    /// Whether the next transition is recorded by the second program.
    recovering: bool,
    pub(crate) receiver: R,
}

impl<R> Deref for FakeKernel<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.receiver
    }
}

impl<R> DerefMut for FakeKernel<R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.receiver
    }
}

impl<R: Receiver> FakeKernel<R> {
    /// Creates a kernel in which nothing has happened yet.
    pub fn new(start: Nanos, receiver: R) -> Self {
        Self {
            now: start,
            step: 1_000,
            counters: Counters::default(),
            ephemeral_ports: None,
            accept_queue: AcceptQueue::default(),
            shows_children: false,
            scan_length: 0,
            uncounted: 0,
            start,
            scan_begun: start,
            losing: 0,
            skipping: None,
            recovering: false,
            receiver,
        }
    }

    /// Returns the receiver of all reports.
    pub fn into_receiver(self) -> R {
        self.receiver
    }

    /// Reports this and returns whether the receiver got it.
    pub fn report(&mut self, mut input: Input) -> bool {
        if let Input::Transition(transition) = &mut input
            && std::mem::take(&mut self.recovering)
        {
            transition.flags = transition.flags.with(Flags::RECOVERED);
            self.counters.skipped += 1;
            self.counters.recovered += 1;
        }
        let is_received = kind(&input).is_none_or(|kind| self.counts(kind));
        if is_received {
            self.receiver.receive(input);
            self.now = self.now.saturating_add(self.step);
        }
        is_received
    }

    /// Counts a record and returns whether the ring has room for it.
    fn counts(&mut self, kind: Kind) -> bool {
        if let Some(is_counted) = self.skipping.take() {
            *(if is_counted { &mut self.counters.missed } else { &mut self.uncounted }) += 1;
            return false;
        }
        self.counters.seen[kind as usize] += 1;
        let is_lost = self.losing > 0;
        if is_lost {
            self.losing -= 1;
            self.counters.lost[kind as usize] += 1;
        }
        !is_lost
    }

    // Time and counters

    /// Sets the clock, in milliseconds since the start.
    pub fn at(&mut self, ms: u64) -> &mut Self {
        self.now = self.start + ms * MILLISECOND;
        self
    }

    /// Waits for seconds, then reports the counters.
    pub fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        self.tick();
    }

    /// Waits for milliseconds, then reports the counters.
    pub fn wait_ms(&mut self, ms: u64) {
        self.now += ms * MILLISECOND;
        self.tick();
    }

    /// Reports the counters.
    pub fn tick(&mut self) {
        self.tick_with(&[]);
    }

    /// Sets the clock, in milliseconds since the start, and reports the counters.
    pub fn tick_at(&mut self, ms: u64) {
        self.at(ms).tick();
    }

    /// Reports the counters, including those per port.
    pub fn tick_with(&mut self, ports: &[PortCount]) {
        let counters = self.counters.clone();
        let ports = ports.to_vec();
        self.report(Input::Tick(Tick { time: self.now, counters, ports, awaits_scans: false }));
    }

    /// Drops a record of this kind because the ring is full.
    pub fn loses(&mut self, kind: Kind) {
        self.counters.seen[kind as usize] += 1;
        self.counters.lost[kind as usize] += 1;
    }

    /// Counts a record of this kind that has not been read yet.
    pub fn delays(&mut self, kind: Kind) {
        self.counters.seen[kind as usize] += 1;
    }

    /// Drops the next records because the ring is full.
    pub fn loses_next(&mut self, records: u64) {
        self.losing = records;
    }

    /// Skips the next run of a hook, counted or not.
    pub fn skips_next(&mut self, is_counted: bool) {
        self.skipping = Some(is_counted);
    }

    /// Skips the next run of the main hook; its second program writes the record.
    pub fn recovers_next(&mut self) {
        self.recovering = true;
    }

    // Transitions

    /// A socket changes its state; the record has this evidence.
    pub fn moves_with(
        &mut self,
        socket: Socket,
        states: (TcpState, TcpState),
        evidence: impl FnOnce(&mut Transition),
    ) {
        let mut transition = socket.transition(self.now, states);
        evidence(&mut transition);
        self.report(Input::Transition(transition));
    }

    /// A socket changes its state.
    pub fn moves(&mut self, socket: Socket, states: (TcpState, TcpState)) {
        self.moves_with(socket, states, |_| {});
    }

    /// The first record of a socket; a client's record has no local port yet.
    pub fn opens(
        &mut self,
        socket: Socket,
        states: (TcpState, TcpState),
        owner: Option<(u32, &[u8])>,
    ) {
        let accept_queue =
            if states.0 == Listen { self.accept_queue } else { AcceptQueue::default() };
        let mut shown = socket;
        match states {
            (Close, SynSent) => shown.local.set_port(0),
            (Listen, SynRecv) if !self.shows_children => shown = socket.unbound(),
            _ => {}
        }
        self.moves_with(shown, states, |first| {
            first.pid = owner.map(|(pid, _)| pid);
            if owner.is_some() {
                first.flags = first.flags.with(Flags::BY_OWNER);
            }
            let comm = owner.map_or(Comm::default(), |(_, name)| name.into());
            first.opening =
                Some(Opening { cgroup: CGROUP, accept_queue, comm, ..Opening::default() });
        });
    }

    /// A process with PID 700 and this name starts to listen.
    pub fn listens(&mut self, listener: Socket, owner: &str) {
        self.opens(listener, (Close, Listen), Some((700, owner.as_bytes())));
    }

    /// The handshake succeeds after this number of retransmissions.
    pub fn establishes(
        &mut self,
        socket: Socket,
        old: TcpState,
        rtt_us: u32,
        retransmits: u32,
        flags: Flags,
    ) {
        self.moves_with(socket, (old, Established), |transition| {
            transition.rtt_us = rtt_us;
            transition.total_retransmits = retransmits;
            transition.flags = transition.flags.with(flags);
        });
    }

    /// A connection that passes through these states, from its first record on.
    pub fn connection(&mut self, socket: Socket, states: &[TcpState]) {
        let mut old = if socket.role == Role::Client { Close } else { Listen };
        for (index, &state) in states.iter().enumerate() {
            match index {
                0 => self.opens(socket, (old, state), None),
                _ => self.moves(socket, (old, state)),
            }
            old = state;
        }
    }

    /// The last record of a socket, with this evidence.
    pub fn closes_with(
        &mut self,
        socket: Socket,
        old: TcpState,
        evidence: impl FnOnce(&mut Transition),
    ) {
        self.moves_with(socket, (old, Close), |last| {
            evidence(last);
            last.flags = last.flags.with(socket.family());
        });
    }

    /// The last record of a socket, with these flags and this error.
    pub fn closes(&mut self, socket: Socket, old: TcpState, flags: Flags, err: u8) {
        self.closes_with(socket, old, |last| (last.flags, last.err) = (flags, err));
    }

    /// The application closes the connection and the peer answers: a TIME_WAIT follows, unless data
    /// came with the ACK of our FIN.
    pub fn closes_actively(&mut self, socket: Socket) {
        self.connection(socket, &[SynSent, Established, FinWait1, FinWait2]);
        self.closes(socket, FinWait2, ORPHAN, 0);
    }

    /// Both sides close the connection simultaneously: a TIME_WAIT follows.
    pub fn closes_simultaneously(&mut self, socket: Socket) {
        let last = [FinWait1, TcpState::Closing, Close];
        self.connection(socket, &[&[SynSent, Established], &last[..]].concat());
    }

    /// A listener closes that has dropped this number of connections.
    pub fn stops_listening(&mut self, listener: Socket, drops: u32) {
        self.closes_with(listener, Listen, |last| {
            if let Some(closing) = &mut last.closing {
                closing.drops = drops;
            }
        });
    }

    // Other events of a socket

    /// A reset arrives.
    pub fn receives_reset(&mut self, socket: Socket) {
        self.resets(socket, ResetDirection::Received);
    }

    /// A reset is sent; `answer` says whether it answers a segment.
    pub fn sends_reset(&mut self, socket: Socket, reason: ResetReason, answer: bool) {
        self.resets(socket, ResetDirection::Sent { reason, answer });
    }

    fn resets(&mut self, socket: Socket, direction: ResetDirection) {
        self.report(Input::Reset(Reset { time: self.now, sock: socket.id, direction }));
    }

    /// accept() takes the connection.
    pub fn accepts(&mut self, socket: Socket) {
        self.report(Input::Accepted(Accepted { time: self.now, sock: socket.id }));
    }

    /// Just before the last record: the kernel replaces the socket by a TIME_WAIT, replaces it by
    /// one in FIN_WAIT2 that waits for the peer's FIN, or has no room for either.
    pub fn enters_time_wait(&mut self, socket: Socket, kind: TimeWaitKind) {
        let entry = TimeWaitEntry { time: self.now, sock: socket.id, kind };
        self.report(Input::TimeWaitEntry(entry));
    }

    /// The peer of an orphan in FIN_WAIT2 has closed, so the orphan enters TIME_WAIT.
    pub fn leaves_fin_wait2(&mut self, socket: Socket) {
        self.time_wait_changes(socket, false);
    }

    /// The TIME_WAIT, or the orphan in FIN_WAIT2, ends.
    pub fn time_wait_ends(&mut self, socket: Socket) {
        self.time_wait_changes(socket, true);
    }

    fn time_wait_changes(&mut self, socket: Socket, is_gone: bool) {
        let Socket { netns, local, remote, .. } = socket;
        let change = TimeWaitChange { time: self.now, netns, local, remote, is_gone };
        self.report(Input::TimeWaitChange(change));
    }

    // Scans

    /// A complete scan of a namespace that finds these sockets.
    pub fn scan(&mut self, netns: NetnsId, found: &[ScannedSocket]) {
        self.scan_begins(netns);
        for socket in found {
            self.report(Input::ScannedSocket(ScannedSocket { time: self.now, ..socket.clone() }));
        }
        self.scan_ends(netns);
    }

    /// A complete scan of a namespace with exactly this output.
    pub fn scan_of(&mut self, netns: NetnsId, found: impl IntoIterator<Item = Input>) {
        self.scan_begins(netns);
        for input in found {
            self.report(input);
        }
        self.scan_ends(netns);
    }

    /// Starts a scan of a namespace.
    pub fn scan_begins(&mut self, netns: NetnsId) {
        self.scan_begun = self.now;
        self.report(Input::ScanBegin(ScanBegin { netns, time: self.now }));
    }

    /// Ends a scan after all sockets have been visited.
    pub fn scan_ends(&mut self, netns: NetnsId) {
        self.scan_ends_with(netns, |_| {});
    }

    /// The scan fails.
    pub fn scan_fails(&mut self, netns: NetnsId) {
        self.scan_ends_with(netns, |end| end.error = Some("no such namespace".to_owned()));
    }

    /// Ends a scan with these results in addition to the sockets.
    pub fn scan_ends_with(&mut self, netns: NetnsId, change: impl FnOnce(&mut ScanEnd)) {
        let mut end = ScanEnd {
            netns,
            started: self.scan_begun,
            ended: self.now + self.scan_length,
            error: None,
            ephemeral_ports: self.ephemeral_ports,
            counters: None,
        };
        change(&mut end);
        self.report(Input::ScanEnd(end));
    }

    /// Within a scan: finds a socket in this state.
    pub fn scan_finds(&mut self, socket: Socket, state: TcpState) {
        let found = ScannedSocket { time: self.now, ..socket.scanned(state) };
        self.report(Input::ScannedSocket(found));
    }

    /// Within a scan: finds a TIME_WAIT.
    pub fn scan_finds_time_wait(&mut self, socket: Socket, remaining_ms: u32) {
        self.scan_finds_timewait_socket(socket, false, remaining_ms);
    }

    /// Within a scan: finds a TIME_WAIT, or an orphan in FIN_WAIT2.
    pub fn scan_finds_timewait_socket(
        &mut self,
        socket: Socket,
        fin_wait2: bool,
        remaining_ms: u32,
    ) {
        self.report(Input::ScannedTimeWait(ScannedTimeWait {
            fin_wait2,
            port_by_connect: None,
            local: socket.local,
            remote: socket.remote,
            remaining_ms,
        }));
    }
}

/// Whether a hook writes it as a record.
#[must_use]
pub fn is_record(input: &Input) -> bool {
    kind(input).is_some() || matches!(input, Input::UnreadableRecord)
}

/// The kind of a hook's record; `None` for everything else.
fn kind(input: &Input) -> Option<Kind> {
    Some(match input {
        Input::Transition(Transition { opening: Some(_), .. }) => Kind::Opening,
        Input::Transition(Transition { closing: Some(_), .. }) => Kind::Closing,
        Input::Transition(Transition { new: TcpState::Established, .. }) => Kind::Established,
        Input::Transition(_) => Kind::Step,
        Input::Reset(Reset { direction: ResetDirection::Received, .. }) => Kind::ResetReceived,
        Input::Reset(Reset { direction: ResetDirection::Sent { .. }, .. }) => Kind::ResetSent,
        Input::TimeWaitEntry(_) => Kind::TimeWaitEntry,
        Input::TimeWaitChange(TimeWaitChange { is_gone: false, .. }) => Kind::FinWait2ToTimeWait,
        Input::TimeWaitChange(TimeWaitChange { is_gone: true, .. }) => Kind::TimeWaitExit,
        Input::Accepted(_) => Kind::Accepted,
        Input::SocketHolders(_)
        | Input::ListenerHolders(_)
        | Input::Names(_)
        | Input::Namespaces(_)
        | Input::ScanBegin(_)
        | Input::ScannedSocket(_)
        | Input::ScannedTimeWait(_)
        | Input::ScanEnd(_)
        | Input::KernelCounters(_)
        | Input::Tick(_)
        | Input::UnreadableRecord
        | Input::UnreadableScan => return None,
    })
}
