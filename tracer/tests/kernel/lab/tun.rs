//! A TUN device: the test is the network behind it.

use std::{
    fs::File,
    io::{Read, Write},
    mem,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::Namespace;

nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);

/// Larger than any packet: the default MTU is 1500.
const LARGEST_PACKET: usize = 1 << 16;

/// A device in a namespace. It is up, without addresses and routes. It is removed on drop.
pub(crate) struct Tun {
    file: File,
}

impl Tun {
    /// Creates a device with this name of at most 15 bytes.
    #[track_caller]
    pub(crate) fn open(namespace: &Namespace, name: &str) -> Self {
        let file = namespace.within(|| {
            let mut options = File::options();
            let file = options.read(true).write(true).open("/dev/net/tun");
            let file = file.expect("/dev/net/tun, of the module tun");
            // SAFETY: all fields are integers, or unions of integers.
            let mut request: libc::ifreq = unsafe { mem::zeroed() };
            assert!(name.len() < request.ifr_name.len(), "{name} is too long for a device");
            for (to, &from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
            // SAFETY: the request is of the expected type and outlives the call.
            unsafe { tun_set_iff(file.as_raw_fd(), &raw const request) }.expect("a TUN device");
            file
        });
        // Without an automatic IPv6 address, the kernel sends no packets by itself.
        namespace.run(&format!("ip link set dev {name} addrgenmode none"));
        namespace.run(&format!("ip link set dev {name} up"));
        Self { file }
    }

    /// Sends a packet to the namespace, from its IP header on.
    #[track_caller]
    pub(crate) fn send(&self, packet: &[u8]) {
        let sent = (&self.file).write(packet).expect("a packet is written");
        assert_eq!(sent, packet.len(), "a packet is written as a whole");
    }

    /// The next packet that the namespace sends, from its IP header on. `None` if there is none within
    /// this time.
    pub(crate) fn receive(&self, timeout: Duration) -> Option<Vec<u8>> {
        let mut waiting = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).expect("less than 24 days");
        if poll(&mut waiting, timeout).expect("poll") == 0 {
            return None;
        }
        let mut packet = vec![0; LARGEST_PACKET];
        let length = (&self.file).read(&mut packet).expect("a packet");
        packet.truncate(length);
        Some(packet)
    }
}

#[test]
fn packets_are_sent_and_received() {
    use std::net::UdpSocket;

    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

    use super::{deadline, enter};

    let _lab = enter();
    let namespace = Namespace::new();
    let tun = Tun::open(&namespace, "behind");
    namespace.run("ip address add 10.78.0.1/24 dev behind");
    let socket = namespace.within(|| UdpSocket::bind(("10.78.0.1", 7000)).expect("a socket"));
    socket.set_read_timeout(Some(deadline())).expect("SO_RCVTIMEO");

    socket.send_to(b"question", ("10.78.0.2", 53)).expect("the packet is sent");
    let packet = tun.receive(deadline()).expect("a packet");
    let sliced = SlicedPacket::from_ip(&packet).expect("an IP packet");
    let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("{sliced:?}") };
    assert_eq!((udp.source_port(), udp.payload()), (7000, &b"question"[..]));
    assert_eq!(tun.receive(Duration::ZERO), None);

    let mut answer = Vec::new();
    let builder = PacketBuilder::ipv4([10, 78, 0, 2], [10, 78, 0, 1], 64).udp(53, 7000);
    builder.write(&mut answer, b"answer").expect("a packet");
    tun.send(&answer);
    let mut received = [0; 100];
    let length = socket.recv(&mut received).expect("an answer");
    assert_eq!(received[..length], b"answer"[..]);
}
