//! Handmade traces that the golden files are made from.

use synfin::trace::{
    accept_queue::AcceptQueue,
    event::{Closing, Input},
    recording::Frame,
    scan::{ScannedSocket, ScannedTimeWait, Transfer},
};
use synfin_common::{
    event::{Flags, Kind},
    state::TcpState::{
        self, Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
    },
};

use crate::{MILLISECOND, ORPHAN, RecordedKernel, SHUT, Socket, closing};

/// A socket that has sent and received for a while.
fn with_traffic(socket: ScannedSocket) -> ScannedSocket {
    let transfer = Transfer {
        total_retransmits: 3,
        segments_sent: 812,
        bytes_acked: 91_344,
        bytes_received: 20_518,
    };
    ScannedSocket { rtt_us: 21_430, min_rtt_us: Some(18_207), transfer: Some(transfer), ..socket }
}

/// Three seconds of a web server's trace.
#[must_use]
pub fn web_server() -> Vec<Frame> {
    let mut kernel = RecordedKernel::begin();
    let nginx = Socket::between(1, "0.0.0.0:443", "0.0.0.0:0");
    let ssh = Socket::between(2, "192.0.2.10:22", "198.51.100.5:50022");
    let gone = Socket::between(3, "192.0.2.10:443", "198.51.100.6:50443");
    kernel.scan_host([
        Input::ScannedSocket(found_by_scan(nginx, Listen, AcceptQueue { depth: 2, limit: 511 })),
        Input::ScannedSocket(with_traffic(found_by_scan(ssh, Established, AcceptQueue::default()))),
        Input::ScannedTimeWait(ScannedTimeWait {
            fin_wait2: false,
            port_by_connect: Some(false),
            local: gone.local,
            remote: gone.remote,
            remaining_ms: 41_500,
        }),
    ]);
    kernel.tick_at(20);

    // A server starts and accepts a connection, and one over IPv6 whose SYN-ACK was lost once.
    let api = Socket::between(4, "[::]:8080", "[::]:0");
    kernel.at(100).opens(api, (Close, Listen), Some((700, b"api")));
    let clean = Socket::between(5, "192.0.2.10:8080", "198.51.100.7:40001");
    kernel.at(200).opens(clean, (Listen, SynRecv), None);
    kernel.at(200).establishes(clean, SynRecv, 1_234, 0, Flags(0));
    kernel.at(350).moves(clean, (Established, CloseWait));
    kernel.at(351).moves(clean, (CloseWait, LastAck));
    kernel.at(360).closes_with(clean, LastAck, |end| {
        end.flags = ORPHAN.with(Flags::FIN_RECEIVED);
        end.closing = Some(Closing { idle_ms: Some(9), ..closing(4_097, 301) });
    });
    let resent = Socket::between(6, "[2001:db8::10]:8080", "[2001:db8::7]:40002");
    kernel.at(400).opens(resent, (Listen, SynRecv), None);
    kernel.at(400).establishes(resent, SynRecv, 1_056_113, 1, Flags::SINCE_FIRST_SYNACK);
    kernel.tick_at(500);

    // Clients: one that succeeds, refused ones, and one whose attempt times out.
    let curl = Socket::between(7, "192.0.2.10:33001", "203.0.113.80:443");
    kernel.at(600).opens(curl, (Close, SynSent), Some((801, b"curl")));
    kernel.at(631).establishes(curl, SynSent, 30_338, 0, Flags(0));
    kernel.at(900).moves(curl, (Established, FinWait1));
    kernel.at(930).moves(curl, (FinWait1, FinWait2));
    kernel.at(931).closes_with(curl, FinWait2, |end| {
        end.flags = ORPHAN.with(Flags::FIN_RECEIVED);
        end.closing = Some(Closing { idle_ms: Some(1), ..closing(518, 15_001) });
    });
    for (number, local, ms) in [(8, "192.0.2.10:33002", 940), (9, "192.0.2.10:33003", 950)] {
        let refused = Socket::between(number, local, "203.0.113.54:5432");
        kernel.at(ms).opens(refused, (Close, SynSent), Some((802, b"worker")));
        kernel.at(ms + 2).receives_reset(refused);
        kernel.at(ms + 2).closes_with(refused, SynSent, |end| end.err = ECONNREFUSED);
    }
    let waiting = Socket::between(10, "192.0.2.10:33004", "203.0.113.99:25");
    kernel.at(960).opens(waiting, (Close, SynSent), Some((803, b"mailer")));
    kernel.tick_at(1_000);

    // A process name with control characters, and a connection that the process resets.
    let hostile = Socket::between(11, "192.0.2.10:33005", "203.0.113.80:8443");
    kernel.at(1_100).opens(hostile, (Close, SynSent), Some((666, b"\x1b[2J\nroot \x7f\xff")));
    kernel.tick_at(1_500);
    kernel.tick_at(2_000);
    kernel.at(2_151).establishes(hostile, SynSent, 30_000, 1, Flags(0));
    kernel.at(2_200).closes_with(hostile, Established, |end| {
        end.flags = Flags::HAS_SOCKET.with(SHUT).with(Flags::LINGER0);
        end.closing = Some(Closing { idle_ms: Some(49), ..closing(1, 0) });
    });
    kernel.at(2_300).closes_with(resent, Established, |end| {
        end.flags = Flags::HAS_SOCKET;
        end.err = ECONNRESET;
        end.closing = Some(Closing { idle_ms: Some(1_200), ..closing(100, 40) });
    });
    kernel.at(2_400).closes_with(waiting, SynSent, |end| end.err = ETIMEDOUT);
    kernel.tick_at(2_500);

    // A connection that stays open, one from before the trace, and the end of the server.
    let idle = Socket::between(12, "[2001:db8::10]:33006", "[2001:db8::80]:443");
    kernel.at(2_600).opens(idle, (Close, SynSent), Some((801, b"curl")));
    kernel.at(2_612).establishes(idle, SynSent, 11_900, 0, Flags(0));
    kernel.at(2_700).moves(ssh, (Established, CloseWait));
    kernel.at(2_900).closes_with(api, Listen, |_| {});
    kernel.tick_at(3_000);
    kernel.into_frames()
}

/// One second of a trace whose ring was too small.
#[must_use]
pub fn web_server_with_losses() -> Vec<Frame> {
    let mut kernel = RecordedKernel::begin();
    kernel.scan_host([]);
    let seen = Socket::between(1, "192.0.2.10:33001", "203.0.113.80:443");
    kernel.at(100).opens(seen, (Close, SynSent), Some((801, b"curl")));
    kernel.at(130).establishes(seen, SynSent, 30_338, 0, Flags(0));
    // Only the middle of this connection was not lost.
    let half_seen = Socket::between(2, "192.0.2.10:33002", "203.0.113.80:443");
    kernel.loses(Kind::Opening);
    kernel.at(200).moves(half_seen, (Established, CloseWait));
    kernel.loses(Kind::Step);
    kernel.loses(Kind::Closing);
    kernel.counters.missed = 1;
    kernel.tick_at(1_000);
    kernel.into_frames()
}

/// A listener, or a socket that never called connect(), as the first scan finds it.
#[must_use]
pub fn found_by_scan(socket: Socket, state: TcpState, accept_queue: AcceptQueue) -> ScannedSocket {
    ScannedSocket {
        time: RecordedKernel::BEGIN + MILLISECOND,
        port_by_connect: Some(false),
        accept_queue,
        ..socket.scanned(state)
    }
}

const ECONNRESET: u8 = 104;
const ETIMEDOUT: u8 = 110;
const ECONNREFUSED: u8 = 111;
