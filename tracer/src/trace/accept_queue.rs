//! The accept queue of a listener.

/// The accept queue of a listener: established connections that wait for accept().
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Number of connections in the queue (`sk_ack_backlog`).
    pub depth: u32,
    /// Maximum of `depth` before the kernel drops connections (`sk_max_ack_backlog`).
    pub limit: u32,
}
