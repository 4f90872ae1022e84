//! Open files (`struct file`).

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task};

use super::{AF_INET, AF_INET6, IPPROTO_MPTCP, IPPROTO_TCP, UntypedSock};
use crate::maps::FILE_TABLE;

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
        let sock = tcp_sock(socket).or_else(|| sock_of(socket, IPPROTO_MPTCP))?;
        Some((sock.address(), sock.state()))
    }
}

/// An open file behind an untyped pointer.
#[derive(Clone, Copy)]
pub struct UntypedFile(*const u8);

impl UntypedFile {
    /// The open file of the current process with this descriptor.
    #[inline(always)]
    pub fn of_current_process(descriptor: u64) -> Self {
        macro_rules! follow {
            ($base:expr, $field:ident) => {{
                // SAFETY: reads an initialized static; volatile, as the loader replaces its value.
                let offset = unsafe { read_volatile(&raw const FILE_TABLE.$field) };
                pointer($base.wrapping_add(offset as usize))
            }};
        }
        // SAFETY: the helper has no arguments.
        let task = unsafe { bpf_get_current_task() } as *const u8;
        let table = follow!(follow!(task, task_files), files_fdt);
        let files = follow!(table, fdtable_fd);
        Self(pointer(files.wrapping_add(descriptor as usize * size_of::<usize>())))
    }

    /// The file's TCP socket; `None` if the file is not a TCP socket.
    #[inline(always)]
    pub fn tcp_socket(self) -> Option<UntypedSock> {
        let inode = probe_read!(self.0, file_inode: usize) as *const u8;
        if probe_read!(inode, inode_mode: u16) & S_IFMT != S_IFSOCK {
            return None;
        }
        tcp_sock(probe_read!(self.0, file_private: usize) as *const u8)
    }
}

/// The pointer at this address; null if it cannot be read.
#[inline(always)]
fn pointer(address: *const u8) -> *const u8 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address.cast::<usize>()) }.unwrap_or_default() as *const u8
}

/// The TCP socket of a `struct socket`; `None` for other protocols.
#[inline(always)]
fn tcp_sock(socket: *const u8) -> Option<UntypedSock> {
    sock_of(socket, IPPROTO_TCP)
}

/// The IP socket of a `struct socket`, if it has this protocol.
#[inline(always)]
fn sock_of(socket: *const u8, protocol: u16) -> Option<UntypedSock> {
    let sock = probe_read!(socket, socket_sk: usize) as *const u8;
    let family = probe_read!(sock, skc_family: u16);
    let is_wanted = probe_read!(sock, sk_protocol: u16) == protocol;
    let is_ip = family == AF_INET || family == AF_INET6;
    (is_ip && is_wanted).then(|| UntypedSock::new(sock.cast()))
}
