//! Open files (`struct file`).

use core::ffi::c_void;

use super::{AF_INET, AF_INET6, IPPROTO_MPTCP, IPPROTO_TCP};

// include/uapi/linux/stat.h.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// An open file.
#[derive(Clone, Copy)]
pub struct File(*const u8);

impl File {
    /// The verifier must know `file` as a `struct file`.
    #[inline(always)]
    pub fn new(file: *const c_void) -> Self {
        Self(file.cast())
    }

    /// The kernel address and the state of the file's TCP or MPTCP socket; `None` if the file is
    /// neither. An application of MPTCP holds the MPTCP socket, never a subflow; its state is LISTEN
    /// for a listener, too (`net/mptcp/protocol.c:mptcp_listen`).
    #[inline(always)]
    pub fn tcp_socket(self) -> Option<(u64, u8)> {
        let mode = field!(field!(self.0, file_inode: *const u8), inode_mode: u16);
        if mode & S_IFMT != S_IFSOCK {
            return None;
        }
        // `private_data` is an untyped pointer.
        let socket = field!(self.0, file_private: u64) as *const u8;
        let sock = probe_read!(socket, socket_sk: usize) as *const u8;
        let family = probe_read!(sock, skc_family: u16);
        let is_tcp = matches!(probe_read!(sock, sk_protocol: u16), IPPROTO_TCP | IPPROTO_MPTCP);
        let is_ip = family == AF_INET || family == AF_INET6;
        (is_ip && is_tcp).then(|| (sock as u64, probe_read!(sock, skc_state: u8)))
    }
}
