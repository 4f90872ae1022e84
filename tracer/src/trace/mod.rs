//! The input of the tracker: recordings, their records, and the typed form of these. Live tracing and
//! replay use the same input, which does not depend on the host that reads it.

pub mod accept_queue;
pub mod anonymize;
pub mod counters;
pub mod decode;
pub mod event;
pub mod filter;
pub mod ids;
pub mod names;
pub(crate) mod recent;
pub mod recording;
pub mod ring_size;
pub mod scan;
pub mod session;
pub mod time;
mod version2;
pub mod wire;
