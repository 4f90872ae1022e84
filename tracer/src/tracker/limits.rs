//! Bounds of the tracker.

/// How much the tracker may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Living connections.
    pub connections: usize,
    /// Rows: namespace × role × service port × owner × destination.
    pub rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1 << 20, rows: 4096 }
    }
}
