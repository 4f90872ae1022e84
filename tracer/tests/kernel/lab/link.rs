//! A link between two namespaces with a given delay and given losses: two TUN devices, and relays
//! between them that delay every packet.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use etherparse::{SlicedPacket, TcpSlice, TransportSlice};

use super::{Namespace, Tun};

/// The packet that is lost once, for every connection to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The first SYN.
    Syn,
    /// The first SYN-ACK.
    SynAck,
    /// The client's first ACK, which would complete the handshake.
    Ack,
    /// The first segment with data, in each direction.
    Data,
}

/// Two namespaces and a link.
pub(crate) struct Link {
    /// The clients' namespace.
    pub(crate) near: Namespace,
    /// The servers' namespace.
    pub(crate) far: Namespace,
    over: Arc<AtomicBool>,
    relays: Vec<JoinHandle<()>>,
}

impl Link {
    /// The clients' address.
    pub(crate) const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 79, 0, 1));

    /// The servers' address.
    pub(crate) const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 79, 0, 2));

    /// The name of either end's device.
    pub(crate) const DEVICE: &str = "link";

    /// Creates a link with a round trip time, half of it each way, and losses by destination port.
    pub(crate) fn new(round_trip: Duration, losses: &[(u16, Loss)]) -> Self {
        let (near, far) = (Namespace::new(), Namespace::new());
        let [tun_near, tun_far] = [(&near, 1), (&far, 2)].map(|(namespace, host)| {
            let tun = Tun::open(namespace, Self::DEVICE);
            namespace.run(&format!("ip address add 10.79.0.{host}/24 dev {}", Self::DEVICE));
            Arc::new(tun)
        });
        let over = Arc::new(AtomicBool::new(false));
        let relays = [(&tun_near, &tun_far), (&tun_far, &tun_near)].map(|(from, to)| {
            let (send, sent) = mpsc::channel();
            let (from, to, over) = (from.clone(), to.clone(), over.clone());
            let losses = Losses { of: losses.iter().copied().collect(), had: HashSet::new() };
            [
                thread::spawn(move || take(&from, losses, round_trip / 2, &send, &over)),
                thread::spawn(move || forward(&to, &sent)),
            ]
        });
        Self { near, far, over, relays: relays.into_iter().flatten().collect() }
    }

    pub(crate) fn both(&self) -> [&Namespace; 2] {
        [&self.near, &self.far]
    }

    #[track_caller]
    pub(crate) fn wait_until_quiet(&self) {
        self.both().into_iter().for_each(Namespace::wait_until_quiet);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for relay in self.relays.drain(..) {
            // A relay that failed has printed the reason.
            let _ = relay.join();
        }
    }
}

/// A packet in flight, and the time at which it is due.
type OnItsWay = (Instant, Vec<u8>);

fn take(
    from: &Tun,
    mut losses: Losses,
    delay: Duration,
    send: &mpsc::Sender<OnItsWay>,
    over: &AtomicBool,
) {
    const POLL_INTERVAL: Duration = Duration::from_millis(50);
    while !over.load(Ordering::Relaxed) {
        let packet = from.receive(POLL_INTERVAL).filter(|packet| !losses.lose(packet));
        // The other relay ends after this one.
        let sent = packet.map(|packet| send.send((Instant::now() + delay, packet)));
        if sent.is_some_and(|sent| sent.is_err()) {
            return;
        }
    }
}

fn forward(to: &Tun, sent: &mpsc::Receiver<OnItsWay>) {
    // All have the same delay, so they are due in order of arrival.
    for (due, packet) in sent {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        to.send(&packet);
    }
}

/// The losses in one direction, and the connections that have already lost their packet.
struct Losses {
    of: HashMap<u16, Loss>,
    had: HashSet<[u16; 2]>,
}

impl Losses {
    /// Whether a packet is lost.
    fn lose(&mut self, packet: &[u8]) -> bool {
        let sliced = SlicedPacket::from_ip(packet).expect("an IP packet");
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return false };
        let ports = [tcp.source_port(), tcp.destination_port()];
        let loss = ports.iter().find_map(|port| self.of.get(port));
        loss.is_some_and(|loss| loss.is_of(&tcp)) && self.had.insert(ports)
    }
}

impl Loss {
    fn is_of(self, tcp: &TcpSlice<'_>) -> bool {
        let flags = (tcp.syn(), tcp.ack());
        match self {
            Self::Syn => flags == (true, false),
            Self::SynAck => flags == (true, true),
            Self::Ack => flags == (false, true),
            Self::Data => !tcp.payload().is_empty(),
        }
    }
}
