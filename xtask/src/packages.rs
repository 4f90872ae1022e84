//! Installs Debian packages that a command needs, with a message.

use anyhow::{Context as _, bail};
use xshell::{Shell, cmd};

use crate::{
    root,
    workspace::{find_program, say},
};

/// Installs `packages`; an error explains how to do it manually.
pub(crate) fn install(sh: &Shell, packages: &[&str], purpose: &str) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    let by_hand = format!("Run as root: apt-get update && apt-get install {names}");
    if !root::is_root() || find_program("apt-get").is_none() {
        bail!("{purpose} need {names}, which only root with apt can install. {by_hand}");
    }
    say(format!("installing the Debian packages that {purpose} need: {names}"));
    let install = || -> xshell::Result<()> {
        cmd!(sh, "apt-get update -qq").quiet().run()?;
        cmd!(sh, "apt-get install -qq --yes --no-install-recommends {packages...}")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .quiet()
            .ignore_stdout()
            .run()
    };
    install().with_context(|| format!("could not install {names}. {by_hand}"))
}
