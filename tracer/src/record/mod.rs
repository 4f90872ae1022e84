//! Writing recordings: to one file, or to a flight recorder's directory.

pub(crate) mod destination;
pub(crate) mod errors;
pub mod flight;
pub(crate) mod owner_only;
