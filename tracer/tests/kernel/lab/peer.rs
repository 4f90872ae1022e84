//! A scripted TCP peer behind a TUN device. It sends nothing by itself and has no timers: each line
//! of the test sends a segment.
//!
//! The kernel handles a packet before [`Tun::send`] returns, unless a process is using the socket.
//! So the effect of a line has happened when the next line runs.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use etherparse::{
    Icmpv4Type, PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice,
    icmpv4::DestUnreachableHeader,
};

use super::{Namespace, Tun, slowed};

/// The timeout for segments of the host, retransmissions included.
fn patience() -> Duration {
    Duration::from_secs(20).max(slowed(Duration::from_secs(5)))
}

/// The peer's initial sequence number, chosen so that it wraps soon.
const FIRST: u32 = u32::MAX - 10;

const TTL: u8 = 64;

/// The peer.
pub(crate) struct Peer {
    tun: Tun,
    host: Ipv4Addr,
    address: Ipv4Addr,
    /// Segments of the host that no connection has expected yet.
    waiting: RefCell<VecDeque<Segment>>,
    next_port: Cell<u16>,
    began: Instant,
}

/// A segment that the host has sent.
struct Segment {
    /// The packet, from the IP header on.
    packet: Vec<u8>,
    tcp: TcpHeader,
    payload: Vec<u8>,
}

/// A connection from the peer's point of view.
pub(crate) struct Conn<'a> {
    peer: &'a Peer,
    port: u16,
    host_port: u16,
    /// The sequence number of our next segment.
    next: u32,
    /// The next sequence number of the host.
    seen: u32,
    /// The last acknowledgment that we sent.
    acknowledged: u32,
    /// Whether the next segment crosses with the host's last one.
    crosses: bool,
    window: u16,
    timestamps: bool,
    /// The host's last timestamp.
    echo: u32,
    /// The host's last packet, which ICMP errors quote.
    heard: Vec<u8>,
}

impl Peer {
    /// Creates the network 10.78.`number`.0/24 in a namespace, in which the host is 1.
    pub(crate) fn new(namespace: &Namespace, number: u8) -> Self {
        let tun = Tun::open(namespace, "peer");
        let [host, address] = [1, 2].map(|end| Ipv4Addr::new(10, 78, number, end));
        namespace.run(&format!("ip address add {host}/24 dev peer"));
        Self {
            tun,
            host,
            address,
            waiting: RefCell::default(),
            next_port: Cell::new(40_001),
            began: Instant::now(),
        }
    }

    /// Its address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Waits until the host begins to connect.
    #[track_caller]
    pub(crate) fn expect_syn(&self) -> Conn<'_> {
        let is_syn = |segment: &Segment| segment.tcp.syn && !segment.tcp.ack;
        let syn = self.expect("a SYN", patience(), is_syn);
        let mut conn = self.conn(syn.tcp.destination_port, syn.tcp.source_port);
        conn.receive(syn);
        conn
    }

    /// Waits until the host connects, and accepts.
    #[track_caller]
    pub(crate) fn accept(&self) -> Conn<'_> {
        let mut conn = self.expect_syn();
        conn.syn_ack();
        conn.expect_ack();
        conn
    }

    /// A connection from a new port to a port of the host, without a segment yet.
    pub(crate) fn client(&self, host_port: u16) -> Conn<'_> {
        let port = self.next_port.get();
        self.next_port.set(port + 1);
        self.conn(port, host_port)
    }

    /// Connects to a port of the host.
    #[track_caller]
    pub(crate) fn connect(&self, host_port: u16) -> Conn<'_> {
        let mut conn = self.client(host_port);
        conn.syn();
        conn.expect_syn_ack();
        conn.ack();
        conn
    }

    fn conn(&self, port: u16, host_port: u16) -> Conn<'_> {
        Conn {
            peer: self,
            port,
            host_port,
            next: FIRST,
            seen: 0,
            acknowledged: 0,
            crosses: false,
            window: u16::MAX,
            timestamps: false,
            echo: 0,
            heard: Vec::new(),
        }
    }

    /// Waits for a segment, and stores all others.
    #[track_caller]
    fn expect(
        &self,
        what: impl fmt::Display,
        patience: Duration,
        is_it: impl Fn(&Segment) -> bool,
    ) -> Segment {
        self.wait_for(patience, is_it).unwrap_or_else(|| {
            let waiting = self.waiting.borrow();
            let others: Vec<_> = waiting.iter().map(|other| &other.tcp).collect();
            panic!("the host does not send {what}, but {others:#?}")
        })
    }

    fn wait_for(&self, patience: Duration, is_it: impl Fn(&Segment) -> bool) -> Option<Segment> {
        let begun = Instant::now();
        let mut waiting = self.waiting.borrow_mut();
        if let Some(place) = waiting.iter().position(&is_it) {
            return waiting.remove(place);
        }
        loop {
            let packet = self.tun.receive(patience.saturating_sub(begun.elapsed()))?;
            match Segment::parse(packet) {
                Some(segment) if is_it(&segment) => return Some(segment),
                Some(segment) => waiting.push_back(segment),
                None => {}
            }
        }
    }

    fn now_ms(&self) -> u32 {
        // Only differences of timestamps are meaningful.
        self.began.elapsed().as_millis() as u32 + 1
    }
}

impl Segment {
    /// `None` if the packet is not TCP.
    fn parse(packet: Vec<u8>) -> Option<Self> {
        let (tcp, payload) = match SlicedPacket::from_ip(&packet).ok()?.transport {
            Some(TransportSlice::Tcp(tcp)) => (tcp.to_header(), tcp.payload().to_vec()),
            _ => return None,
        };
        Some(Self { packet, tcp, payload })
    }

    /// The sequence number after its last.
    fn end(&self) -> u32 {
        let flags = u32::from(self.tcp.syn) + u32::from(self.tcp.fin);
        self.tcp.sequence_number.wrapping_add(self.payload.len() as u32 + flags)
    }

    fn timestamp(&self) -> Option<u32> {
        self.tcp.options_iterator().flatten().find_map(|option| match option {
            TcpOptionElement::Timestamp(value, _) => Some(value),
            _ => None,
        })
    }
}

/// The segments that the peer sends.
impl Conn<'_> {
    /// Enables timestamps; has to be called before the first segment.
    pub(crate) fn with_timestamps(mut self) -> Self {
        self.timestamps = true;
        self
    }

    /// SYN.
    pub(crate) fn syn(&mut self) {
        self.syn_with(b"");
    }

    /// SYN with data, as TCP Fast Open sends it.
    pub(crate) fn syn_with(&mut self, data: &[u8]) {
        self.send(|tcp| (tcp.syn, tcp.ack) = (true, false), data);
    }

    /// Retransmits the SYN.
    pub(crate) fn retransmit_syn(&mut self) {
        self.next = FIRST;
        self.syn();
    }

    /// SYN for another connection with the same addresses, with a later sequence number.
    pub(crate) fn new_syn(&mut self) {
        self.next = self.next.wrapping_add(100_000);
        self.syn();
    }

    /// SYN-ACK.
    pub(crate) fn syn_ack(&mut self) {
        self.send(|tcp| tcp.syn = true, b"");
    }

    /// A SYN-ACK that acknowledges a number that the host has not sent.
    pub(crate) fn wrong_syn_ack(&mut self) {
        let next = self.next;
        let wrong = self.seen.wrapping_add(1000);
        self.send(|tcp| (tcp.syn, tcp.acknowledgment_number) = (true, wrong), b"");
        self.next = next;
    }

    /// ACK of everything that the host has sent.
    pub(crate) fn ack(&mut self) {
        self.send(|_| {}, b"");
    }

    /// FIN.
    pub(crate) fn fin(&mut self) {
        self.send(|tcp| tcp.fin = true, b"");
    }

    /// Data.
    pub(crate) fn data(&mut self, data: &[u8]) {
        self.send(|tcp| tcp.psh = true, data);
    }

    /// Data that begins at a sequence number that the host has already received.
    pub(crate) fn overlapping_data(&mut self, data: &[u8]) {
        self.next = self.next.wrapping_sub(1);
        self.data(data);
    }

    /// RST.
    pub(crate) fn rst(&mut self) {
        self.send(|tcp| tcp.rst = true, b"");
    }

    /// RST within the window but not at its beginning, as an attacker might send.
    pub(crate) fn rst_in_window(&mut self) {
        let number = self.next.wrapping_add(1000);
        self.send(|tcp| (tcp.rst, tcp.sequence_number) = (true, number), b"");
    }

    /// ACK with a zero window.
    pub(crate) fn close_window(&mut self) {
        self.window = 0;
        self.ack();
    }

    /// Lets the next segment cross with the host's last one, which it does not acknowledge.
    pub(crate) fn crossing(&mut self) -> &mut Self {
        self.crosses = true;
        self
    }

    /// An ICMP error about the host's last packet, as a router sends it.
    pub(crate) fn icmp(&self, what: DestUnreachableHeader) {
        let builder = PacketBuilder::ipv4(self.peer.address.octets(), self.peer.host.octets(), TTL);
        let about = &self.heard[..self.heard.len().min(28)];
        let mut packet = Vec::new();
        let error = builder.icmpv4(Icmpv4Type::DestinationUnreachable(what));
        error.write(&mut packet, about).expect("a small packet");
        self.peer.tun.send(&packet);
    }

    fn send(&mut self, how: impl FnOnce(&mut TcpHeader), payload: &[u8]) {
        if !std::mem::take(&mut self.crosses) {
            self.acknowledged = self.seen;
        }
        let mut tcp = TcpHeader::new(self.port, self.host_port, self.next, self.window);
        tcp.ack = true;
        tcp.acknowledgment_number = self.acknowledged;
        how(&mut tcp);
        let mut options = Vec::new();
        if tcp.syn {
            options.push(TcpOptionElement::MaximumSegmentSize(1460));
        }
        if self.timestamps {
            options.push(TcpOptionElement::Timestamp(self.peer.now_ms(), self.echo));
        }
        tcp.set_options(&options).expect("room for options");
        if !tcp.ack {
            tcp.acknowledgment_number = 0;
        }
        let numbers = payload.len() as u32 + u32::from(tcp.syn) + u32::from(tcp.fin);
        let (from, to) = (self.peer.address.octets(), self.peer.host.octets());
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(from, to, TTL).tcp_header(tcp);
        builder.write(&mut packet, payload).expect("a small packet");
        self.peer.tun.send(&packet);
        self.next = self.next.wrapping_add(numbers);
    }
}

/// The segments that the peer waits for.
impl Conn<'_> {
    /// SYN-ACK.
    #[track_caller]
    pub(crate) fn expect_syn_ack(&mut self) {
        self.expect("SYN-ACK", |segment, _| segment.tcp.syn && segment.tcp.ack);
    }

    /// ACK of everything that we have sent.
    #[track_caller]
    pub(crate) fn expect_ack(&mut self) {
        let next = self.next;
        self.expect("ACK", |segment, _| {
            segment.tcp.ack && segment.tcp.acknowledgment_number == next && !segment.tcp.rst
        });
    }

    /// Data in a single segment.
    #[track_caller]
    pub(crate) fn expect_data(&mut self, data: &[u8]) {
        self.expect("data", |segment, _| segment.payload == data);
    }

    /// FIN.
    #[track_caller]
    pub(crate) fn expect_fin(&mut self) {
        self.expect("FIN", |segment, _| segment.tcp.fin);
    }

    /// RST.
    #[track_caller]
    pub(crate) fn expect_rst(&mut self) {
        self.expect("RST", |segment, _| segment.tcp.rst);
    }

    /// A retransmission.
    #[track_caller]
    pub(crate) fn expect_retransmission(&mut self) {
        self.expect("a retransmission", |segment, seen| {
            let begin = segment.tcp.sequence_number;
            segment.end() != begin && segment.end() == seen
        });
    }

    /// No segment for this time.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, time: Duration) {
        let (port, host_port) = (self.port, self.host_port);
        let ours = |segment: &Segment| {
            (segment.tcp.destination_port, segment.tcp.source_port) == (port, host_port)
        };
        if let Some(segment) = self.peer.wait_for(time, ours) {
            panic!("the host is not silent, but sends {:#?}", segment.tcp);
        }
    }

    #[track_caller]
    fn expect(&mut self, what: &str, is_it: impl Fn(&Segment, u32) -> bool) {
        let (port, host_port, seen) = (self.port, self.host_port, self.seen);
        let segment = self.peer.expect(what, patience(), |segment| {
            (segment.tcp.destination_port, segment.tcp.source_port) == (port, host_port)
                && is_it(segment, seen)
        });
        self.receive(segment);
    }

    fn receive(&mut self, segment: Segment) {
        // The sequence number of a RST may differ from the expected one.
        if !segment.tcp.rst {
            self.seen = segment.end();
        }
        self.echo = segment.timestamp().unwrap_or(self.echo);
        self.heard = segment.packet;
    }
}

/// Waits as long as a network with this delay would take.
pub(crate) fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
