//! Facts about this host from files and system calls, without eBPF.

#[cfg(feature = "live")]
pub mod cgroups;
#[cfg(feature = "live")]
pub mod clock;
#[cfg(feature = "live")]
pub(crate) mod containers;
#[cfg(feature = "live")]
pub(crate) mod end_signals;
#[cfg(feature = "live")]
pub(crate) mod mounts;
#[cfg(feature = "live")]
pub mod namespaces;
#[cfg(feature = "live")]
pub(crate) mod netstat;
pub(crate) mod own_usage;
#[cfg(feature = "live")]
pub(crate) mod pid_namespace;
#[cfg(feature = "live")]
pub(crate) mod port_range;
#[cfg(feature = "live")]
pub(crate) mod priority;
#[cfg(feature = "live")]
pub mod privileges;
pub(crate) mod services;
