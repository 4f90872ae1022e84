//! One virtual machine, from its boot to the report that its init writes.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};

use super::{children, guest, initramfs::Initramfs, kernels::Kernel};

/// All tests take a quarter of an hour or so; a loaded machine may take several times that.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Enough for what a burst leaves in the kernel, and for the file system.
const MEMORY_MIB: u32 = 1536;

/// Lines of the console that are shown when a machine ends without a report.
const LAST_LINES: usize = 40;

/// What is to be booted.
pub(super) struct Machine {
    pub(super) kernel: Kernel,
    /// Its file system, one archive over the other.
    pub(super) archives: [PathBuf; 3],
    /// Where it leaves its traces.
    pub(super) folder: PathBuf,
}

/// What a machine leaves behind, whatever becomes of it.
pub(super) struct Traces {
    console: PathBuf,
    output: PathBuf,
    report: PathBuf,
}

impl Traces {
    /// Empty, in a folder of its own.
    pub(super) fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let [console, output, report] =
            ["console", "output", "report.json"].map(|name| folder.join(name));
        for file in [&console, &output, &report] {
            fs::write(file, "")?;
        }
        Ok(Self { console, output, report })
    }

    /// What the kernel said.
    pub(super) fn console(&self) -> String {
        read(&self.console)
    }

    /// What the tests said, as far as they got.
    pub(super) fn output(&self) -> String {
        read(&self.output)
    }
}

fn read(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&text).replace('\r', "")
}

/// Boots a machine for a task, and returns what its init reports.
pub(super) fn run(
    machine: &Machine,
    task: &guest::Task,
    traces: &Traces,
) -> anyhow::Result<guest::Report> {
    let Machine { kernel, archives, folder } = machine;
    let [initramfs, task_archive] = ["initramfs", "task.cpio"].map(|name| folder.join(name));
    let mut only_task = Initramfs::default();
    only_task.file(guest::TASK, &serde_json::to_vec(task)?);
    only_task.write(&task_archive)?;
    concatenate(archives.iter().chain([&task_archive]), &initramfs)?;
    let (program, _) = kernel.arch.qemu();
    let mut qemu = Command::new(program);
    qemu.args(kernel.arch.qemu_options());
    // Emulation works everywhere, also where the processor's virtualisation is not to be had. Its
    // CPUs must take turns: patching code, as the kernel does when a program is attached, is not
    // safe between threads of QEMU. Two of them, so that per-CPU values have more than one.
    qemu.args(["-accel", "tcg,thread=single", "-smp", "2", "-m", &MEMORY_MIB.to_string()]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(&initramfs);
    qemu.args(["-append", &command_line(kernel)]);
    qemu.arg("-serial").arg(format!("file:{}", traces.console.display()));
    qemu.args(["-device", "virtio-serial-pci"]);
    // In the order of the guest's ports.
    for (number, file) in [(1, &traces.output), (2, &traces.report)] {
        let path = file.display().to_string().replace(',', ",,");
        qemu.args(["-chardev", &format!("file,id=port{number},path={path}")]);
        qemu.args(["-device", &format!("virtserialport,chardev=port{number},nr={number}")]);
    }
    let mut qemu = children::bind(qemu.stdin(Stdio::null()))
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let ended = children::ended_within(&mut qemu, LIMIT)?;
    let _ = fs::remove_file(&initramfs);

    let text = fs::read_to_string(&traces.report)?;
    if text.is_empty() {
        let how = if ended {
            "it ended before its time".into()
        } else {
            format!("it took over {} minutes", LIMIT.as_secs() / 60)
        };
        let console = traces.console();
        let lines: Vec<_> = console.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        bail!("the machine gave no report: {how}; its console ends with\n{}", last.join("\n"));
    }
    let told: guest::Told = serde_json::from_str(&text)
        .with_context(|| format!("the report {} is garbled", traces.report.display()))?;
    told.map_err(|error| anyhow!("the machine's init says: {error}"))
}

fn command_line(kernel: &Kernel) -> String {
    let words = [
        &format!("console={}", kernel.arch.console()),
        // Warnings and worse.
        "loglevel=5",
        // A crash ends the machine at once.
        "oops=panic",
        "panic=-1",
        // An emulated processor that has to wait for its turn is no fault of the kernel's.
        "nowatchdog",
        "rcupdate.rcu_cpu_stall_suppress=1",
        "mitigations=off",
        // The limits on TIME_WAIT and half-open connections follow from this, and it from the
        // memory: this is what a host with some gigabytes has.
        "thash_entries=131072",
        // Words that the kernel does not know, and what follows, are for init: its environment and
        // its arguments.
        "PATH=/usr/sbin:/usr/bin",
        "HOME=/root",
        "--",
        guest::AS_INIT,
    ];
    words.join(" ")
}

fn concatenate<'a>(parts: impl IntoIterator<Item = &'a PathBuf>, to: &Path) -> anyhow::Result<()> {
    let mut whole = File::create(to)?;
    for part in parts {
        let copied = File::open(part).and_then(|mut part| io::copy(&mut part, &mut whole));
        copied.with_context(|| format!("cannot copy {}", part.display()))?;
    }
    Ok(())
}
