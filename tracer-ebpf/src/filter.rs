//! Decides whether the user's filter excludes a socket. A record that cannot decide passes: the
//! user side knows the socket's other records and decides later.

use aya_ebpf::{EbpfContext, programs::BtfTracePointContext};
use aya_log_ebpf::warn;
use synfin_common::{
    filter::{FILTER_VALUES, Filter, Network},
    state::TcpState,
};

use crate::{
    maps::FILTERED_SOCKETS,
    sock::{
        Addresses, Current, IPV4_MAPPED, TcpSock, TimeWaitSock, UntypedSock, global, is_ipv4_mapped,
    },
};

/// Values of [`FILTERED_SOCKETS`]: the filter excludes the socket; or the filter admits it by the port
/// of its listener, which later records do not contain.
const EXCLUDED: u8 = 1;
const ADMITTED_BY_LISTENER: u8 = 2;

const CLOSE: u8 = TcpState::Close.number();
const LISTEN: u8 = TcpState::Listen.number();
const SYN_SENT: u8 = TcpState::SynSent.number();
const SYN_RECV: u8 = TcpState::SynRecv.number();

/// Reads a value of the filter, a constant to the verifier.
macro_rules! setting {
    ($($path:tt)+) => {
        // SAFETY: reads an initialized static; volatile, because the loader replaces its value.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::FILTER.$($path)+) }
    };
}

/// Whether a list of the filter has values of which none matches. The number of values is a
/// constant to the verifier, which removes the iterations beyond it as dead code.
macro_rules! excludes {
    ($list:ident.$values:ident, |$value:ident| $matches:expr) => {{
        let count = setting!($list.count) as usize;
        let mut excludes = count > 0;
        for index in 0..FILTER_VALUES {
            if index < count {
                let $value = setting!($list.$values[index]);
                if $matches {
                    excludes = false;
                }
            }
        }
        excludes
    }};
}

/// Whether a list of port ranges excludes a port.
macro_rules! excludes_port {
    ($list:ident, $port:expr) => {{
        let port: u16 = $port;
        excludes!($list.ranges, |range| range.first <= port && port <= range.last)
    }};
}

/// Whether the filter admits this record of a socket, as far as the record can decide. Costs almost
/// nothing without a filter, as the verifier then removes the call.
#[inline(always)]
pub fn admits(ctx: &impl EbpfContext, sock: TcpSock, old: u8, new: u8) -> bool {
    // The context is only needed for logging, which accepts any context.
    setting!(active) == 0
        || admits_transition(&BtfTracePointContext::new(ctx.as_ptr()), sock, old, new)
}

/// Whether the filter admits records of this TIME_WAIT socket, as far as its addresses and ports
/// can decide.
#[inline(always)]
pub fn admits_time_wait(sock: TimeWaitSock) -> bool {
    setting!(active) == 0 || !excludes_time_wait(sock)
}

/// Whether the filter admits a record of this socket, as far as its namespace and its first record can
/// decide.
#[inline(always)]
pub fn admits_untyped(sock: UntypedSock) -> bool {
    if setting!(active) == 0 {
        return true;
    }
    let netns = sock.netns();
    !excludes!(namespaces.values, |value| value == netns)
        && !(setting!(remembers_excluded) != 0 && decision(sock.address()) == EXCLUDED)
}

/// The decision at the first transition of a socket, if it is remembered; otherwise 0.
#[inline(always)]
fn decision(sock: u64) -> u8 {
    // SAFETY: the value is a byte, which no one can find half written.
    unsafe { FILTERED_SOCKETS.get(sock) }.copied().unwrap_or(0)
}

#[inline(never)]
fn excludes_time_wait(sock: TimeWaitSock) -> bool {
    let common = sock.common();
    let (netns, local_port, remote_port) =
        (common.netns(), sock.local_port(), common.remote_port());
    excludes!(namespaces.values, |value| value == netns)
        || excludes_port!(service_ports, local_port) && excludes_port!(service_ports, remote_port)
        || excludes_port!(local_ports, local_port)
        || excludes_port!(remote_ports, remote_port)
        || excludes_addresses(common.addresses())
}

/// Forgets the decision about a socket that has closed.
#[inline(always)]
pub fn forget(sock: u64) {
    if setting!(remembers_excluded) != 0 && decision(sock) != 0 {
        let _ = FILTERED_SOCKETS.remove(sock);
    }
}

/// Not inlined, as it would take registers from the hot path.
#[inline(never)]
fn admits_transition(ctx: &BtfTracePointContext, sock: TcpSock, old: u8, new: u8) -> bool {
    let address = sock.address();
    let is_first = matches!((old, new), (CLOSE, SYN_SENT) | (LISTEN, SYN_RECV));
    let remembers = setting!(remembers_excluded) != 0;
    let decided = if remembers && !is_first { decision(address) } else { 0 };
    let excluded =
        decided == EXCLUDED || excludes_transition(sock, old, new, decided == ADMITTED_BY_LISTENER);
    if !remembers {
        return !excluded;
    }
    if is_first {
        let decision = match excluded {
            true => EXCLUDED,
            false if old == LISTEN && needs_listener(sock) => ADMITTED_BY_LISTENER,
            false => 0,
        };
        if decision == 0 {
            let _ = FILTERED_SOCKETS.remove(address);
        // An LRU map is never full.
        } else if let Err(error) = FILTERED_SOCKETS.insert(address, decision, 0) {
            warn!(ctx, "later records of a socket will be filtered wrongly: error {}", error);
        }
    } else if decided != 0 && new == CLOSE && global!(can_nest) != 0 {
        // Elsewhere a later program follows, which may need the decision.
        let _ = FILTERED_SOCKETS.remove(address);
    }
    !excluded
}

/// Whether the ports in later records of this child may not show its service port: a transparent
/// proxy's listener has another port. Up to 6.14, a child at its first transition has no port of its
/// own yet.
#[inline(always)]
fn needs_listener(sock: TcpSock) -> bool {
    setting!(service_ports.count) > 0
        && (sock.common().remote_port() == 0 || listener_port(sock) != sock.local_port())
}

/// The port of the listener that created this child.
#[inline(always)]
fn listener_port(sock: TcpSock) -> u16 {
    let port = sock.listener().map_or(0, UntypedSock::bound_port);
    if port == 0 { sock.local_port() } else { port }
}

/// Whether the facts of this record alone exclude the socket. `by_listener`: its service port is known
/// to match.
#[inline(always)]
fn excludes_transition(sock: TcpSock, old: u8, new: u8, by_listener: bool) -> bool {
    let common = sock.common();
    let connects = old == CLOSE && new == SYN_SENT;
    // A checkpoint restores servers' connections by connect() too.
    let is_client = connects && !sock.is_in_repair();
    let is_child = old == LISTEN && new == SYN_RECV;
    let listens = new == LISTEN || old == LISTEN && !is_child;
    let remote_port = common.remote_port();
    let opens = connects || new == LISTEN;
    let local_port = if opens { sock.local_port_opening() } else { sock.local_port() };

    let netns = common.netns();
    if excludes!(namespaces.values, |value| value == netns) {
        return true;
    }
    // The service's port is the local one of a server and the remote one of a client. The first
    // record of a socket tells which of them it is; of any other record, either port may match. A
    // port of zero is not known yet.
    let has_service_ports = setting!(service_ports.count) > 0;
    let own_port = if has_service_ports && is_child { listener_port(sock) } else { local_port };
    // The user side has to know a child of a transparent proxy whose own port matches, as scans do not
    // show its listener.
    let excludes_local = is_client
        || excludes_port!(service_ports, own_port) && excludes_port!(service_ports, local_port);
    let excludes_remote = is_child || listens || excludes_port!(service_ports, remote_port);
    if has_service_ports
        && !by_listener
        && excludes_local
        && excludes_remote
        && (!connects || remote_port != 0)
        && (new != LISTEN || local_port != 0)
    {
        return true;
    }
    // Up to 6.14, a child without a remote port has its listener's local port.
    let knows_local_port = local_port != 0 && (!is_child || remote_port != 0);
    if knows_local_port && excludes_port!(local_ports, local_port) {
        return true;
    }
    if remote_port != 0 && excludes_port!(remote_ports, remote_port) {
        return true;
    }
    // The kernel opens the further subflows of an MPTCP connection, in a thread of its own.
    if connects && !sock.is_mptcp() {
        let pid = Current::pid();
        if excludes!(pids.values, |value| value == pid) {
            return true;
        }
    }
    match setting!(role) {
        Filter::SERVER if is_client => return true,
        Filter::CLIENT if is_child => return true,
        _ => {}
    }
    excludes_addresses(common.addresses()) || excludes_cgroup(sock)
}

/// Whether the addresses, as far as they are known, exclude the socket.
#[inline(always)]
fn excludes_addresses(addresses: Addresses) -> bool {
    let Addresses { ipv6, local, remote } = addresses;
    let (local, remote) = (to_ipv6(ipv6, local), to_ipv6(ipv6, remote));
    let family = setting!(family);
    if family != 0 {
        // A child of a dual-stack listener is IPv6; only its addresses tell whether they are
        // mapped.
        let known = if is_unspecified(remote) { local } else { remote };
        let is_ipv6 = !is_ipv4_mapped(known);
        let undecided = ipv6 && is_unspecified(known);
        if !undecided && is_ipv6 != (family == 6) {
            return true;
        }
    }
    !is_unspecified(local) && excludes!(local.networks, |network| contains(network, local))
        || !is_unspecified(remote)
            && excludes!(remote.networks, |network| contains(network, remote))
}

/// Whether the address is in the network.
#[inline(always)]
fn contains(network: Network, address: [u64; 2]) -> bool {
    address[0] & network.mask[0] == network.address[0]
        && address[1] & network.mask[1] == network.address[1]
}

/// The address as IPv6, IPv4-mapped if it is IPv4.
#[inline(always)]
fn to_ipv6(ipv6: bool, address: [u64; 2]) -> [u64; 2] {
    if ipv6 { address } else { [0, u64::from(IPV4_MAPPED) | address[0] << 32] }
}

/// Whether the address is `::` or `::ffff:0.0.0.0`.
#[inline(always)]
fn is_unspecified(address: [u64; 2]) -> bool {
    address[0] == 0 && (address[1] == 0 || address[1] == u64::from(IPV4_MAPPED))
}

/// Whether the filter is for a cgroup that the socket is not in.
#[inline(always)]
fn excludes_cgroup(sock: TcpSock) -> bool {
    let cgroup = setting!(cgroup);
    cgroup != 0 && !sock.is_in_cgroup(cgroup, setting!(cgroup_level))
}
