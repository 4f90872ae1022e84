//! The layout that the kernel side expects of a tracepoint's event.

/// The head of the event `sock:inet_sock_set_state` (`include/trace/events/sock.h`, `struct
/// trace_event_raw_inet_sock_set_state`). A BPF program reads it in place; the user side only
/// attaches that program if the kernel's BTF has the same offsets.
#[repr(C)]
pub struct InetSockSetState {
    common: u64,
    /// The socket's kernel address.
    pub skaddr: u64,
    /// The state that the socket leaves.
    pub oldstate: i32,
    /// The state that the socket enters.
    pub newstate: i32,
    ports: [u16; 2],
    family: u16,
    /// `IPPROTO_TCP`, or another protocol with these states.
    pub protocol: u16,
}
