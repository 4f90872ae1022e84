//! One virtual machine, from its boot to the report that its init writes.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};

use super::{children, guest, tools::QEMU};
use crate::workspace::say;

/// A run takes a few seconds; a loaded machine may take many times that.
const LIMIT: Duration = Duration::from_secs(180);

/// Lines of the console that are shown when a machine ends without a report.
const LAST_LINES: usize = 60;

/// A machine that came to its end.
pub(super) struct Run {
    pub(super) report: guest::Report,
    pub(super) seconds: u64,
}

/// Boots `kernel`, and leaves what its machine wrote in `folder`.
pub(super) fn boot(kernel: &Path, initramfs: &Path, folder: &Path) -> anyhow::Result<Run> {
    fs::create_dir_all(folder)?;
    let (console, report) = (folder.join("console"), folder.join("report.json"));
    for file in [&console, &report] {
        fs::write(file, "")?;
    }
    let start = Instant::now();
    let mut qemu = Command::new(QEMU);
    // Emulation works everywhere, also where the processor's virtualisation is not to be had. Its
    // CPUs must take turns: patching code, as the kernel does when a program is attached, is not
    // safe between threads of QEMU. Two of them, so that per-CPU values have more than one.
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2"]);
    qemu.args(["-m", "512", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    // After "--" come the arguments of init. A crash ends the machine at once.
    let words = "console=ttyS0 loglevel=5 oops=panic panic=-1 mitigations=off --";
    qemu.args(["-append", &format!("{words} {}", guest::AS_INIT)]);
    // In the order of the machine's serial ports.
    for file in [&console, &report] {
        qemu.arg("-serial").arg(format!("file:{}", file.display()));
    }
    let mut qemu = children::bind(qemu.stdin(Stdio::null()))
        .spawn()
        .with_context(|| format!("cannot start {QEMU}"))?;
    let ended = children::ended_within(&mut qemu, LIMIT)?;

    let text = fs::read_to_string(&report)?;
    if text.is_empty() {
        show_end_of(&console);
        let seconds = LIMIT.as_secs();
        let how = if ended { "it crashed".into() } else { format!("it took over {seconds} s") };
        bail!("the machine gave no report: {how}; its console is in {}", console.display());
    }
    let told: guest::Told = serde_json::from_str(&text)
        .with_context(|| format!("the machine's report is garbled: {}", report.display()))?;
    let report = told.map_err(|error| anyhow!("the machine's init {error}"))?;
    Ok(Run { report, seconds: start.elapsed().as_secs() })
}

fn show_end_of(console: &Path) {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    say(format!("the end of {}:\n{}", console.display(), last.join("\n")));
}
