//! What goes into the tracker: parsed, the same whether it is live or replayed, independent of the host.

pub mod anonymize;
pub mod counters;
pub mod decode;
pub mod event;
pub mod filter;
pub mod ids;
pub mod names;
pub mod recording;
pub mod ring_size;
pub mod scan;
pub mod session;
pub mod time;
pub mod wire;
