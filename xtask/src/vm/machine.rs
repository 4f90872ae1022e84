//! One virtual machine, from its boot to the output of its tests.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};
use xshell::{Shell, cmd};

use super::{emulator::Emulator, kernels::Kernel, report::Report};
use crate::workspace::say;

/// All tests take more than an hour.
const LIMIT: &str = "150m";

/// Enough for the sockets of a burst, and for the file system.
const MEMORY: &str = "2G";

pub(super) struct Machine {
    pub(super) kernel: Kernel,
    pub(super) emulator: Emulator,
    /// Number of CPUs.
    pub(super) cpus: u32,
    /// Its file system: archives that are unpacked over each other.
    pub(super) archives: [PathBuf; 3],
    /// The directory for its console and the output of its tests.
    pub(super) folder: PathBuf,
}

impl Machine {
    /// Boots the machine, waits until it powers off, and reads its output.
    pub(super) fn run(&self) -> anyhow::Result<Report> {
        let (name, folder) = (&self.kernel.name, &self.folder);
        say(format!("booting {name}; its tests print to {}/output", folder.display()));
        fs::create_dir_all(folder)?;
        let [console, output, initramfs] =
            ["console", "output", "initramfs"].map(|name| folder.join(name));
        fs::write(&output, "")?;
        let sh = Shell::new()?;
        let all = cmd!(sh, "cat").args(&self.archives).quiet().ignore_stderr();
        Command::from(all).stdout(File::create(&initramfs)?).status()?;
        let begun = Instant::now();
        let status = self.qemu(&console, &output, &initramfs).status();
        fs::remove_file(&initramfs)?;
        if !status.context("cannot start QEMU")?.success() {
            bail!("QEMU failed or took over {LIMIT}; see {}", console.display());
        }
        say(format!("{name} has ended after {} s", begun.elapsed().as_secs()));
        let read = |file: &Path| -> anyhow::Result<String> {
            Ok(String::from_utf8_lossy(&fs::read(file)?).replace('\r', ""))
        };
        Ok(Report::new(&read(&output)?, &read(&console)?))
    }

    fn qemu(&self, console: &Path, output: &Path, initramfs: &Path) -> Command {
        let arch = self.kernel.arch;
        // Ends with this process, even if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "timeout", LIMIT]).args(&self.emulator.0);
        command.args(arch.qemu_options());
        // Emulation works everywhere, also where hardware virtualization is not available. The
        // CPUs take turns, because patching code, as the kernel does when a program is attached, is
        // not safe between threads of QEMU.
        let cpus = self.cpus.to_string();
        command.args(["-accel", "tcg,thread=single", "-smp", &cpus, "-m", MEMORY]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(initramfs);
        command.args(["-append", &self.command_line()]);
        let file = |path: &Path| path.display().to_string().replace(',', ",,");
        command.args(["-serial", &format!("file:{}", file(console))]);
        command.args(["-device", "virtio-serial-pci"]);
        command.args(["-chardev", &format!("file,id=output,path={}", file(output))]);
        command.args(["-device", "virtserialport,chardev=output,nr=1"]);
        command.stdin(Stdio::null());
        command
    }

    fn command_line(&self) -> String {
        let console = format!("console={}", self.kernel.arch.console());
        let words = [
            &*console,
            // Warnings and worse.
            "loglevel=5",
            // A crash ends the machine at once.
            "oops=panic",
            "panic=-1",
            // An emulated CPU that waits for its turn is not stuck.
            "nowatchdog",
            "rcupdate.rcu_cpu_stall_suppress=1",
            "mitigations=off",
            // The limits on TIME_WAIT and half-open connections follow from this, and it from the
            // memory: a host with some gigabytes has this one.
            "thash_entries=131072",
            // Unknown parameters of the kernel go into the environment of init.
            "PATH=/usr/sbin:/usr/bin",
            "HOME=/root",
        ];
        words.join(" ")
    }
}
