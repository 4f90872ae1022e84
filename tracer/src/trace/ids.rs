//! Identifiers of sockets, network namespaces and processes in the kernel.

/// Kernel address of a socket. It is unique only while the socket exists: later sockets reuse it.
pub type SockId = u64;

/// A network namespace. Kernels since 5.14 number all namespaces since boot (`net->net_cookie`), and this
/// is the lower half of that number. On older kernels it is the inode number, which a later namespace
/// can reuse. See [`NetnsInode`] for the number that users know.
pub type NetnsId = u32;

/// Inode number of a network namespace, as `lsns` and `ls -L /proc/PID/ns/net` show it.
pub type NetnsInode = u32;

/// Kernel address of an MPTCP connection, which its subflows share. Never 0.
pub type MptcpId = std::num::NonZeroU64;

/// Kernel address of a listener. Never 0.
pub type ListenerId = std::num::NonZeroU64;

/// Name of a process in the kernel (`comm`): at most 15 bytes of any value but NUL, padded with NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The bytes before the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Comm {
    /// Truncates names of more than 16 bytes.
    fn from(name: &T) -> Self {
        let mut comm = Self::default();
        comm.0.iter_mut().zip(name.as_ref()).for_each(|(to, &from)| *to = from);
        comm
    }
}

/// The name of the initial network namespace, that of process 1.
pub const HOST_NETNS: &str = "host";
