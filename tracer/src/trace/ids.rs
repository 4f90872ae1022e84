//! What the kernel calls its sockets, network namespaces and processes.

/// A socket's kernel address. Reused by later sockets, so it names one only while that one lives.
pub type SockId = u64;

/// Inode number of a network namespace.
pub type NetnsId = u32;

/// The name of a process as the kernel has it, at most 15 bytes: any but 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// Up to the first 0.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Comm {
    /// What is longer is cut off.
    fn from(name: &T) -> Self {
        let mut comm = Self::default();
        comm.0.iter_mut().zip(name.as_ref()).for_each(|(to, &from)| *to = from);
        comm
    }
}

/// What the first process's network namespace is called.
pub const HOST_NETNS: &str = "host";
