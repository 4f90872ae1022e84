//! This host, as files and system calls show it; nothing of eBPF.

#[cfg(feature = "live")]
pub mod cgroups;
#[cfg(feature = "live")]
pub mod clock;
#[cfg(feature = "live")]
pub(crate) mod containers;
#[cfg(feature = "live")]
pub(crate) mod mounts;
#[cfg(feature = "live")]
pub mod namespaces;
#[cfg(feature = "live")]
pub(crate) mod netstat;
#[cfg(feature = "live")]
pub(crate) mod port_range;
#[cfg(feature = "live")]
pub mod privileges;
pub(crate) mod services;
