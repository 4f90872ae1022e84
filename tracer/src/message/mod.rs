//! Messages on stderr, failures, exit statuses, suggestions for misspelt words, and escaping of
//! untrusted text.

pub mod escape;
pub mod exit;
pub mod failure;
pub(crate) mod patience;
pub(crate) mod stderr;
pub(crate) mod suggest;
pub(crate) mod wrap;
