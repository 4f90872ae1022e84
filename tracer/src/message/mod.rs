//! What is said on stderr, and how the program ends: text that strangers chose is escaped here.

pub mod escape;
pub mod exit;
pub mod failure;
pub(crate) mod stderr;
pub(crate) mod wrap;
