//! Whether a socket may be of interest. What a record cannot tell yet passes: the user side, which
//! knows the whole life, decides then.

use aya_ebpf::{EbpfContext, programs::BtfTracePointContext};
use aya_log_ebpf::warn;
use synfin_common::{
    filter::{FILTER_VALUES, Filter, Network},
    state::TcpState,
};

use crate::{
    maps::UNWANTED,
    sock::{Addresses, MAPPED, TcpSock, TimeWaitSock, current_process, is_mapped},
};

const CLOSE: u8 = TcpState::Close.number();
const LISTEN: u8 = TcpState::Listen.number();
const SYN_SENT: u8 = TcpState::SynSent.number();
const SYN_RECV: u8 = TcpState::SynRecv.number();

/// Reads one of the filter's values, which are constants to the verifier.
macro_rules! wanted {
    ($($path:tt)+) => {
        // SAFETY: reads an initialized static; volatile, because the loader replaces its value.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::FILTER.$($path)+) }
    };
}

/// Whether a list of the filter has values, and none of them fits. To the verifier the number of
/// values is a constant: it removes what is not used.
macro_rules! excludes {
    ($list:ident.$values:ident, |$value:ident| $fits:expr) => {{
        let count = wanted!($list.count) as usize;
        let mut excludes = count > 0;
        for index in 0..FILTER_VALUES {
            if index < count {
                let $value = wanted!($list.$values[index]);
                if $fits {
                    excludes = false;
                }
            }
        }
        excludes
    }};
}

/// Whether the list of port ranges excludes a port.
macro_rules! excludes_port {
    ($list:ident, $port:expr) => {{
        let port: u16 = $port;
        excludes!($list.ranges, |range| range.first <= port && port <= range.last)
    }};
}

/// Whether a record of this socket is wanted, as far as it can tell. Costs next to nothing where
/// there is no filter: the verifier then removes the call.
#[inline(always)]
pub fn passes(ctx: &impl EbpfContext, sock: TcpSock, old: u8, new: u8) -> bool {
    // To what logs, all contexts are the same.
    wanted!(active) == 0 || is_admitted(&BtfTracePointContext::new(ctx.as_ptr()), sock, old, new)
}

/// Whether a record of what remains of a socket is wanted, as far as its ends tell.
#[inline(always)]
pub fn passes_remains(remains: TimeWaitSock) -> bool {
    wanted!(active) == 0 || !are_unwanted(remains)
}

#[inline(never)]
fn are_unwanted(remains: TimeWaitSock) -> bool {
    let common = remains.common();
    let (netns, local_port, remote_port) =
        (common.netns(), remains.local_port(), common.remote_port());
    excludes!(namespaces.values, |value| value == netns)
        || excludes_port!(service_ports, local_port) && excludes_port!(service_ports, remote_port)
        || excludes_port!(local_ports, local_port)
        || excludes_port!(remote_ports, remote_port)
        || is_foreign(common.addresses())
}

/// Not inlined: it would take registers from what is hot.
#[inline(never)]
fn is_admitted(ctx: &BtfTracePointContext, sock: TcpSock, old: u8, new: u8) -> bool {
    let unwanted = is_unwanted(sock, old, new);
    if wanted!(remembers) == 0 {
        return !unwanted;
    }
    let address = sock.address();
    match (old, new) {
        (CLOSE, SYN_SENT) | (LISTEN, SYN_RECV) if unwanted => {
            // Full is impossible for an LRU map.
            if let Err(error) = UNWANTED.insert(address, 1, 0) {
                warn!(ctx, "a connection that no filter wants costs records: error {}", error);
            }
            false
        }
        (CLOSE, SYN_SENT) | (LISTEN, SYN_RECV) => {
            let _ = UNWANTED.remove(address);
            true
        }
        _ => {
            // SAFETY: only the presence of the value is looked at.
            let known = unsafe { UNWANTED.get(address) }.is_some();
            if known && new == CLOSE {
                let _ = UNWANTED.remove(address);
            }
            !(known || unwanted)
        }
    }
}

/// Whether a fact of this record speaks against the socket.
#[inline(always)]
fn is_unwanted(sock: TcpSock, old: u8, new: u8) -> bool {
    let common = sock.common();
    let connects = old == CLOSE && new == SYN_SENT;
    let is_child = old == LISTEN && new == SYN_RECV;
    let listens = new == LISTEN || old == LISTEN && !is_child;
    let remote_port = common.remote_port();
    let local_port = if connects { sock.local_port_connecting() } else { sock.local_port() };

    let netns = common.netns();
    if excludes!(namespaces.values, |value| value == netns) {
        return true;
    }
    // A port of zero is not known yet. Which of the ports is the service's, a birth knows.
    let serves = connects || excludes_port!(service_ports, local_port);
    let calls = is_child || listens || excludes_port!(service_ports, remote_port);
    if wanted!(service_ports.count) > 0 && serves && calls && (!connects || remote_port != 0) {
        return true;
    }
    if local_port != 0 && excludes_port!(local_ports, local_port) {
        return true;
    }
    if remote_port != 0 && excludes_port!(remote_ports, remote_port) {
        return true;
    }
    if connects {
        let process = current_process();
        if excludes!(pids.values, |value| value == process) {
            return true;
        }
    }
    match wanted!(role) {
        Filter::SERVER if connects => return true,
        Filter::CLIENT if is_child => return true,
        _ => {}
    }
    is_foreign(common.addresses()) || is_outside_cgroup(sock)
}

/// Whether the addresses, as far as they are known, speak against the socket.
#[inline(always)]
fn is_foreign(addresses: Addresses) -> bool {
    let Addresses { ipv6, local, remote } = addresses;
    let (local, remote) = (in_ipv6(ipv6, local), in_ipv6(ipv6, remote));
    let family = wanted!(family);
    if family != 0 {
        // A socket of a dual-stack listener shows its family when it has an address.
        let known = if is_unspecified(remote) { local } else { remote };
        let is_ipv6 = !is_mapped(known);
        let undecided = ipv6 && is_unspecified(known);
        if !undecided && is_ipv6 != (family == 6) {
            return true;
        }
    }
    !is_unspecified(local) && excludes!(local.networks, |network| holds(network, local))
        || !is_unspecified(remote) && excludes!(remote.networks, |network| holds(network, remote))
}

#[inline(always)]
fn holds(network: Network, address: [u64; 2]) -> bool {
    address[0] & network.mask[0] == network.address[0]
        && address[1] & network.mask[1] == network.address[1]
}

/// An IPv4 address becomes IPv4-mapped.
#[inline(always)]
fn in_ipv6(ipv6: bool, address: [u64; 2]) -> [u64; 2] {
    if ipv6 { address } else { [0, u64::from(MAPPED) | address[0] << 32] }
}

/// `::` or `0.0.0.0`.
#[inline(always)]
fn is_unspecified(address: [u64; 2]) -> bool {
    address[0] == 0 && (address[1] == 0 || address[1] == u64::from(MAPPED))
}

#[inline(always)]
fn is_outside_cgroup(sock: TcpSock) -> bool {
    let wanted = wanted!(cgroup);
    wanted != 0 && !sock.is_in_cgroup(wanted, wanted!(cgroup_level))
}
