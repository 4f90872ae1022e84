//! The kernel's type information (BTF): where it comes from, how it is read, what is taken from it.

pub(crate) mod bpf_syscall;
pub(crate) mod offsets;
pub mod parse;
pub(crate) mod source;
