//! This host, as files and system calls show it; nothing of eBPF.

pub mod cgroups;
pub mod clock;
pub(crate) mod containers;
pub(crate) mod mounts;
pub mod namespaces;
pub(crate) mod netstat;
pub(crate) mod port_range;
pub mod privileges;
pub(crate) mod services;
