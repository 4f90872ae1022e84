//! Limits of the tracker's memory.

/// Upper bounds of the tracker's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of connections; beyond it the least recently active are evicted.
    pub connections: usize,
    /// Maximum number of rows (namespace × role × service port × owner × destination); beyond it
    /// rows are merged.
    pub rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1 << 20, rows: 4096 }
    }
}
