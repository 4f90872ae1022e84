//! The event `sock:inet_sock_set_state`, as the kernel's own layout of it is expected to be.

/// Its head. Programs read it in place; what has other offsets on the running kernel is not read.
#[repr(C)]
pub struct Transition {
    common: u64,
    /// The socket's address.
    pub skaddr: u64,
    /// The state that it is in.
    pub oldstate: i32,
    /// The state that it comes into.
    pub newstate: i32,
    ports: [u16; 2],
    family: u16,
    /// `IPPROTO_TCP`, or another protocol that has such states.
    pub protocol: u16,
}
