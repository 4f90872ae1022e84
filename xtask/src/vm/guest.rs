//! What runs in the machines. Their init is xtask itself: it makes of a kernel and a file system
//! what a host is, runs synfin and its kernel tests there, and writes what came of it to ports
//! that end in files of this machine.

use std::{
    collections::BTreeMap,
    env, fmt,
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        resource::{Resource, setrlimit},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the machine has its init, and what that is to do.
pub(super) const INIT: &str = "/init";
pub(super) const TASK: &str = "/task.json";

/// Folders that must be there to be mounted on or written to.
pub(super) const FOLDERS: [&str; 6] = ["/dev", "/proc", "/sys", "/run", "/tmp", "/root"];

/// The argument that makes xtask the machine's init.
pub(super) const AS_INIT: &str = "vm-init";

/// The ports of the machine's virtual serial device, in their order: what the tests say as they
/// say it, and the report.
const OUTPUT: &str = "/dev/vport0p1";
const REPORT: &str = "/dev/vport0p2";

/// What the kernel calls by itself for whatever else is asked of it: but nobody asks for these.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_console", "tun"];

/// How long a device may take to appear.
const DEVICES_TAKE: Duration = Duration::from_secs(30);

/// As many files as tests may want to have open.
const OPEN_FILES: u64 = 65_536;

/// What a machine is to do. Programs have the paths that they were built at.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) synfin: PathBuf,
    pub(super) tests: PathBuf,
    /// Where the tests run.
    pub(super) folder: PathBuf,
    pub(super) args: Vec<String>,
    /// What they have in their environment.
    pub(super) variables: BTreeMap<String, String>,
}

impl Task {
    /// The same with these tests only.
    pub(super) fn of_tests(&self, names: &[String]) -> Self {
        Self { args: [&["--exact".to_owned()], names].concat(), ..self.clone() }
    }
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// The kernel's version as its packager puts it, which `uname -v` says.
    pub(super) version: String,
    /// How the tests ended.
    pub(super) tests: Ended,
    pub(super) doctor: Ended,
    /// What doctor said.
    pub(super) doctor_said: String,
    /// What synfin's report says of the host; null if it says nothing.
    pub(super) host: Value,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ended {
    WithCode(i32),
    BySignal(i32),
}

impl Ended {
    pub(super) const WELL: Self = Self::WithCode(0);
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithCode(code) => write!(f, "exit code {code}"),
            Self::BySignal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::WithCode(code),
            None => Self::BySignal(status.signal().unwrap_or_default()),
        }
    }
}

/// What a machine writes to its second port: a report, or why there is none.
pub(super) type Told = Result<Report, String>;

/// Does what xtask does in a machine; `None` if it is not in one.
pub(crate) fn play_part() -> Option<ExitCode> {
    if env::args().nth(1)? != AS_INIT {
        return None;
    }
    if let Err(error) = init() {
        eprintln!("init: {error:#}");
        // The console is slow, and what it has not said when the machine ends is never said.
        thread::sleep(Duration::from_secs(1));
    }
    // The kernel panics if init ends.
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("init: cannot power off: {error}");
    Some(ExitCode::FAILURE)
}

fn init() -> anyhow::Result<()> {
    set_up()?;
    let mut report = port(REPORT)?;
    let told: Told = do_task().map_err(|error| format!("{error:#}"));
    report.write_all(&serde_json::to_vec(&told)?).context("cannot write the report")
}

/// What a host has done by the time that anybody uses it.
fn set_up() -> anyhow::Result<()> {
    for (kind, folder) in [
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("securityfs", "/sys/kernel/security"),
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
        ("bpf", "/sys/fs/bpf"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        // In /dev; elsewhere they are there.
        fs::create_dir_all(folder).with_context(|| format!("no folder {folder}"))?;
        mount(Some(kind), folder, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {folder}"))?;
    }
    for (link, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        symlink(Path::new("/proc/self").join(target), Path::new("/dev").join(link))?;
    }
    // Our programs may have been built in /tmp, so nothing is mounted over it.
    fs::set_permissions("/tmp", Permissions::from_mode(0o1777))?;
    fs::write("/proc/sys/kernel/hostname", "machine")?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).context("cannot raise a limit")?;
    run(Command::new("modprobe").arg("-a").args(MODULES))?;
    run(Command::new("ip").args(["link", "set", "lo", "up"]))
}

fn do_task() -> anyhow::Result<Report> {
    let task: Task = serde_json::from_slice(&fs::read(TASK)?).context("the task is garbled")?;
    fs::create_dir_all(&task.folder)?;
    let output = port(OUTPUT)?;
    let mut doctor = Command::new(&task.synfin);
    let doctor = doctor.arg("doctor").output().context("cannot start synfin")?;
    let mut tests = Command::new(&task.tests);
    tests.args(&task.args).current_dir(&task.folder).envs(&task.variables);
    tests.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let tests = run_with_orphans(&mut tests)?;
    Ok(Report {
        version: fs::read_to_string("/proc/sys/kernel/version")?.trim().into(),
        tests,
        doctor: doctor.status.into(),
        doctor_said: String::from_utf8_lossy(&[doctor.stdout, doctor.stderr].concat()).into(),
        host: host(&task.synfin)?,
    })
}

/// What synfin says of the host.
fn host(synfin: &Path) -> anyhow::Result<Value> {
    let output = Command::new(synfin).args(["report", "--for", "0.1s", "-o", "json"]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(report["host"].clone())
}

/// Runs a program, and meanwhile buries the processes that nobody else does, as is init's part.
fn run_with_orphans(command: &mut Command) -> anyhow::Result<Ended> {
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let child = Pid::from_raw(i32::try_from(child.id())?);
    loop {
        match waitpid(None, None).context("cannot wait for a child")? {
            WaitStatus::Exited(pid, code) if pid == child => return Ok(Ended::WithCode(code)),
            WaitStatus::Signaled(pid, signal, _) if pid == child => {
                return Ok(Ended::BySignal(signal as i32));
            }
            _ => {}
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Opens a port, which appears some time after its driver was loaded.
fn port(path: &str) -> anyhow::Result<File> {
    let begun = Instant::now();
    loop {
        match File::options().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.with_context(|| format!("cannot open {path}")),
        }
        if begun.elapsed() > DEVICES_TAKE {
            bail!("the port {path} does not appear");
        }
        thread::sleep(Duration::from_millis(10));
    }
}
