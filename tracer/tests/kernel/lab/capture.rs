//! Captures by `tcpdump`.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use etherparse::{LaxSlicedPacket, TransportSlice};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pcap_parser::PcapCapture;

use super::Namespace;

/// A running capture.
pub(crate) struct Capture {
    tcpdump: Child,
    packets: Option<JoinHandle<Vec<u8>>>,
    printed: Option<JoinHandle<String>>,
}

/// A TCP segment, and the time at which the kernel passed it to or from the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Since 1970.
    pub(crate) time: Duration,
    /// Its source and destination port.
    pub(crate) ports: [u16; 2],
    pub(crate) syn: bool,
    pub(crate) ack: bool,
}

impl Capture {
    /// Starts a capture on a device of a namespace whose packets begin with the IP header.
    #[track_caller]
    pub(crate) fn begin(namespace: &Namespace, device: &str) -> Self {
        let mut command = Command::new("tcpdump");
        // Not in immediate mode: waking tcpdump would delay the packet by more than the measured
        // time.
        command.args(["-i", device, "-w", "-", "-s", "128"]);
        // Stay root: not every machine has a user for tcpdump.
        command.args(["-Z", "root"]);
        command.args(["-j", "host", "--time-stamp-precision", "nano", "-n", "tcp"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tcpdump = namespace.within(|| command.spawn()).expect("tcpdump");
        let mut stdout = tcpdump.stdout.take().expect("a pipe");
        let packets = thread::spawn(move || {
            let mut packets = Vec::new();
            stdout.read_to_end(&mut packets).expect("its output");
            packets
        });
        let mut stderr = BufReader::new(tcpdump.stderr.take().expect("a pipe"));
        let mut printed = String::new();
        while !printed.contains("listening on") {
            let read = stderr.read_line(&mut printed).expect("text");
            assert!(read > 0, "tcpdump does not start: {printed}");
        }
        let printed = thread::spawn(move || {
            stderr.read_to_string(&mut printed).expect("text");
            printed
        });
        Self { tcpdump, packets: Some(packets), printed: Some(printed) }
    }

    /// Ends several captures, and checks that no packet is missing.
    #[track_caller]
    pub(crate) fn end<const COUNT: usize>(captures: [Self; COUNT]) -> [Vec<Segment>; COUNT] {
        // The kernel passes packets on once a second, and discards the rest at the end.
        thread::sleep(Duration::from_millis(1500));
        captures.map(Self::end_now)
    }

    fn end_now(mut self) -> Vec<Segment> {
        let pid = i32::try_from(self.tcpdump.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("SIGINT");
        self.tcpdump.wait().expect("its exit status");
        let packets = self.packets.take().expect("its output").join().expect("its output");
        let printed = self.printed.take().expect("its words").join().expect("its words");
        let count = |what: &str| {
            let line = printed.lines().find(|line| line.ends_with(what));
            line.and_then(|line| line.split(' ').next()?.parse::<usize>().ok())
        };
        let segments = parse(&packets);
        assert_eq!(count("packets received by filter"), Some(segments.len()), "{printed}");
        assert_eq!(count("packets dropped by kernel"), Some(0), "{printed}");
        segments
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Still running only if the test failed.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

fn parse(packets: &[u8]) -> Vec<Segment> {
    let capture = PcapCapture::from_file(packets).expect("a capture file");
    assert!(capture.header.is_nanosecond_precision());
    let segment = |packet: &pcap_parser::LegacyPcapBlock<'_>| {
        // Data is truncated.
        let sliced = LaxSlicedPacket::from_ip(packet.data).expect("an IP packet");
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("{sliced:?}") };
        Segment {
            time: Duration::new(packet.ts_sec.into(), packet.ts_usec),
            ports: [tcp.source_port(), tcp.destination_port()],
            syn: tcp.syn(),
            ack: tcp.ack(),
        }
    };
    capture.blocks.iter().map(segment).collect()
}
