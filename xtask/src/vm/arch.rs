//! The architectures of virtual machines.

use std::{env, fmt, str::FromStr};

use anyhow::Context as _;

/// An architecture, by Debian's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    pub(super) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    pub(super) fn of_this_machine() -> anyhow::Result<Self> {
        let is_it = |arch: &Self| arch.foreign_target().is_none();
        Self::ALL.into_iter().find(is_it).context("Debian has no emulator for this machine")
    }

    /// Rust's target, unless it is the architecture of this machine.
    pub(super) fn foreign_target(self) -> Option<&'static str> {
        let (name, target) = match self {
            Self::Amd64 => ("x86_64", "x86_64-unknown-linux-musl"),
            Self::Arm64 => ("aarch64", "aarch64-unknown-linux-musl"),
        };
        (env::consts::ARCH != name).then_some(target)
    }

    /// The emulator, and its Debian package.
    pub(super) fn qemu(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    pub(super) fn qemu_options(self) -> [&'static str; 4] {
        match self {
            Self::Amd64 => ["-machine", "q35", "-cpu", "max"],
            Self::Arm64 => ["-machine", "virt", "-cpu", "cortex-a72"],
        }
    }

    /// The kernel's name of the first serial port.
    pub(super) fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|arch| arch.name() == text);
        found.ok_or_else(|| format!("the architectures are amd64 and arm64, not {text}"))
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
