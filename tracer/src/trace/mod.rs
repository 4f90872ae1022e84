//! The input of the tracker: recordings, the records in them, and their typed form. It is the same
//! live and replayed, and depends on nothing of the host that reads it.

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
