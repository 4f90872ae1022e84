//! The kernel's type information (BTF): its source, its parser, and the offsets taken from it.

pub(crate) mod bpf_syscall;
pub(crate) mod offsets;
pub mod parse;
pub(crate) mod source;
