//! What runs in the machines: their init is xtask itself, linked statically, as nothing else is
//! in there but synfin. It runs synfin on a few connections and writes what came of it to the
//! second serial port.

use std::{
    env, fs,
    net::UdpSocket,
    os::fd::AsRawFd as _,
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use nix::{
    libc,
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};
use serde::{Deserialize, Serialize};

use super::traffic;

/// Where the machine has its programs.
pub(super) const INIT: &str = "/init";
pub(super) const SYNFIN: &str = "/synfin";

/// Folders that must be there to be mounted on; a parent before its child.
pub(super) const MOUNT_POINTS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The argument that makes xtask the machine's init.
pub(super) const AS_INIT: &str = "vm-init";

/// The argument that makes it the command that synfin is to watch.
const AS_TRAFFIC: &str = "vm-traffic";

/// What came of synfin.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// `None` if a signal ended it.
    pub(super) exit_code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// The same of `synfin doctor`.
    pub(super) doctor_exit_code: Option<i32>,
    pub(super) doctor: String,
}

/// What a machine writes to its second serial port: a report, or why there is none.
pub(super) type Told = Result<Report, String>;

/// Does what xtask does in a machine; `None` if it is not in one.
pub(crate) fn play_part() -> Option<ExitCode> {
    let (part, result) = match env::args().nth(1)?.as_str() {
        AS_INIT => ("init", init()),
        AS_TRAFFIC => ("traffic", traffic::make()),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{part}: {error:#}");
            ExitCode::FAILURE
        }
    })
}

/// The kernel panics if it ends, so whatever went wrong is better written where it is read.
fn init() -> anyhow::Result<()> {
    let report: Told = run_synfin().map_err(|error| format!("{error:#}"));
    fs::write("/dev/ttyS1", serde_json::to_string(&report)?).context("cannot write the report")?;
    reboot(RebootMode::RB_POWER_OFF).context("cannot power off")?;
    Ok(())
}

fn run_synfin() -> anyhow::Result<Report> {
    for (kind, folder) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tracefs", "/sys/kernel/tracing"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        mount(Some(kind), folder, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {folder}"))?;
    }
    bring_up_loopback().context("cannot bring up the loopback interface")?;
    let output = Command::new(SYNFIN)
        .args(["report", "-o", "json", "--", INIT, AS_TRAFFIC])
        .output()
        .context("cannot start synfin")?;
    let doctor = Command::new(SYNFIN).args(["doctor", "--for", "0.1"]).output();
    let doctor = doctor.context("cannot start synfin")?;
    Ok(Report {
        exit_code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into(),
        stderr: String::from_utf8_lossy(&output.stderr).into(),
        doctor_exit_code: doctor.status.code(),
        doctor: String::from_utf8_lossy(&doctor.stdout).into(),
    })
}

fn bring_up_loopback() -> anyhow::Result<()> {
    nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);
    // SAFETY: a structure of plain numbers, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // Any socket can carry the request.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `request` is what this ioctl reads.
    unsafe { set_interface_flags(socket.as_raw_fd(), &request) }?;
    Ok(())
}
